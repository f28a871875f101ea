/* The last hour as two small charts, each with its figures in a sentence. */
import { byId, setText, svg } from "./page-dom.js";
import { clock, milliseconds, rate, t } from "./page-words.js";

const HEIGHT = 128;
const TOP = 14;
const BOTTOM = 22;
const LEFT = 54;
const RIGHT = 6;

/* A round number at or above the largest value. */
function ceiling(largest) {
  if (largest <= 0) {
    return 1;
  }
  const power = 10 ** Math.floor(Math.log10(largest));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= largest);
}

function numbers(values, factor = 1) {
  return Array.isArray(values) ? values.slice(-60).map((value) =>
    (Number.isFinite(value) && value >= 0 ? value * factor : null)) : [];
}

function frame(width, top, format) {
  const lines = [0, 0.5, 1].map((share) => {
    const y = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
    return [svg("path", { class: "grid", d: `M${LEFT} ${y}H${width - RIGHT}` }),
      svg("text", { class: "tick", x: LEFT - 8, y: y + 4, "text-anchor": "end" },
        share === 0 ? "0" : format(share * top))];
  });
  return [...lines.flat(),
    svg("text", { class: "tick", x: LEFT, y: HEIGHT - 4 }, t("chart.begin")),
    svg("text", { class: "tick", x: width - RIGHT, y: HEIGHT - 4, "text-anchor": "end" },
      t("chart.end"))];
}

function scaleOf(width, count, top) {
  const step = (width - LEFT - RIGHT) / Math.max(1, count);
  return { step, x: (i) => LEFT + i * step,
    y: (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM) };
}

function bars(values, scale) {
  return values.map((value, i) => (value ? svg("rect", { class: "bar", x: scale.x(i) + scale.step * 0.15,
    y: Math.min(scale.y(value), scale.y(0) - 1), width: scale.step * 0.7,
    height: Math.max(1, scale.y(0) - scale.y(value)), rx: 1 }) : null));
}

/* A line with gaps where there was nothing to measure; a lone value is a dot. */
function line(values, scale, style) {
  let path = "";
  values.forEach((value, i) => {
    if (value !== null) {
      const x = scale.x(i + 0.5);
      const joined = i > 0 && values[i - 1] !== null;
      path += joined ? `L${x} ${scale.y(value)}` : `M${x} ${scale.y(value)}h.01`;
    }
  });
  return svg("path", { class: `line ${style}`, d: path || "M0 0" });
}

function show(holder, text, shapes, width) {
  holder.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img",
    "aria-label": text }, ...shapes.filter(Boolean)));
}

function last(values) {
  return values.findLast((value) => value !== null);
}

function drawRate(width, values, now, stepMs) {
  const known = values.filter((value) => value !== null);
  const largest = Math.max(0, ...known);
  const at = now - (values.length - 1 - values.lastIndexOf(largest)) * stepMs;
  const text = largest === 0 ? t(known.length ? "chart.quiet" : "chart.none") : t("chart.rate.text", {
    now: rate(last(values)), max: rate(largest), time: clock(at),
    mean: rate(known.reduce((sum, value) => sum + value, 0) / known.length) });
  const top = ceiling(largest);
  setText(byId("rate-text"), text);
  show(byId("rate-chart"), `${t("chart.rate")}. ${text}`,
    [...frame(width, top, rate), ...bars(values, scaleOf(width, values.length, top))], width);
}

function drawLatency(width, p50, p99) {
  const [half, most] = [last(p50), last(p99)];
  const text = half === undefined ? t("chart.none") : t("chart.latency.text",
    { p50: milliseconds(half), p99: most === undefined ? "–" : milliseconds(most) });
  const top = ceiling(Math.max(0, ...p50, ...p99));
  const scale = scaleOf(width, Math.max(p50.length, p99.length), top);
  setText(byId("latency-text"), text);
  show(byId("latency-chart"), `${t("chart.latency")}. ${text}`, [...frame(width, top, milliseconds),
    line(p99, scale, "p99"), line(p50, scale, "p50")], width);
}

export function drawCharts(history, now, scale) {
  const width = Math.max(220, Math.floor(byId("rate-chart").clientWidth / scale));
  const stepMs = (Number(history?.step_s) || 60) * 1000;
  drawRate(width, numbers(history?.rate, 60), now, stepMs);
  drawLatency(width, numbers(history?.delivery_p50_ms), numbers(history?.delivery_p99_ms));
}
