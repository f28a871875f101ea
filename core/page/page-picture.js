/* The way of the events as a picture: NEMO, Redis, nemogate, brokers; each with a light, a number and
 * a word. Side by side where there is room, else one below the other. */
import { light, svg } from "./page-dom.js";
import { amount, list, number, plain, rate, siteCount, t, waiting } from "./page-words.js";

const DRAWN_BROKERS = 3;
const NOT_KNOWN = "–";
const TALL = 116; // heights of a box
const LOW = 66;
const OF_GATEWAY = ["shard-dead", "stalled", "slot-without-owner", "slots-not-running",
  "starting", "draining", "reload-failed"];
const OF_REDIS = ["redis-down", "stream-unreadable", "lag-growing", "trim-blocked"];
const OF_NEMO = ["legacy-bridge-eats"];

/* ---- the parts --------------------------------------------------------------------------------- */

function troubleAmong(status, codes) {
  return list(status.reasons).find((reason) => codes.includes(reason.code));
}

function part(name, level, value, unit, state) {
  return { name, level, value, unit, state };
}

function nemoPart(status) {
  const sites = siteCount(status);
  const trouble = troubleAmong(status, OF_NEMO);
  const level = trouble ? trouble.level : (sites > 0 ? "ok" : "unknown");
  const state = trouble ? "attention" : (sites > 0 ? "writes" : "silent");
  return part(t("part.nemo"), level, amount(sites), t("unit.sites", { n: sites }), t(`state.${state}`));
}

function redisPart(status) {
  if (status.redis?.up === false) {
    return part("Redis", "error", NOT_KNOWN, t("unit.waiting"), t("state.down"));
  }
  const trouble = troubleAmong(status, OF_REDIS);
  return part("Redis", trouble ? trouble.level : "ok", amount(waiting(status)), t("unit.waiting"),
    t(trouble ? "state.attention" : "state.connected"));
}

function totalRate(status) {
  return list(status.sites).reduce((sum, site) => sum + number(site.rate), 0);
}

function gatewayPart(status) {
  const trouble = troubleAmong(status, OF_GATEWAY);
  const used = list(status.brokers).filter((broker) => broker.used !== false);
  const idle = used.length > 0 && used.every((broker) => !broker.up);
  const state = trouble ? "attention" : (status.redis?.up === false || idle ? "waits" : "works");
  return part("nemogate", trouble ? trouble.level : "ok", rate(totalRate(status) * 60), t("unit.rate"),
    t(`state.${state}`));
}

const BROKER_STATES = { "broker-refused": "refused", "broker-stalled": "stalled",
  "broker-down": "down", "certificate-expires": "expires", "entries-refused": "refuses" };

function brokerPart(broker, status) {
  const trouble = list(status.reasons).find((reason) => reason.broker === broker.name
    && Object.hasOwn(BROKER_STATES, reason.code));
  const name = plain(broker.name, 40);
  const unused = !trouble && broker.used === false;
  const word = trouble ? BROKER_STATES[trouble.code]
    : (unused ? "unused" : (broker.up ? "connected" : "down"));
  const level = trouble ? trouble.level : (unused ? "unknown" : (broker.up ? "ok" : "error"));
  return part(name, level, amount(number(broker.inflight)), t("unit.inflight"), t(`state.${word}`));
}

/* More brokers than can be drawn: those in trouble, and the rest as one. */
function brokerParts(status) {
  const parts = list(status.brokers).map((broker) => ({ ...brokerPart(broker, status), broker }));
  if (parts.length <= DRAWN_BROKERS) {
    return parts;
  }
  const order = ["error", "warning", "ok", "unknown"];
  parts.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
  const rest = parts.slice(DRAWN_BROKERS - 1);
  const down = rest.filter((one) => one.level === "error").length;
  const inflight = rest.reduce((sum, one) => sum + number(one.broker.inflight), 0);
  return [...parts.slice(0, DRAWN_BROKERS - 1),
    part(t("part.brokers", { n: rest.length }), rest[0].level, amount(inflight), t("unit.inflight"),
      down ? t("state.some", { n: down, of: rest.length }) : t("state.connected"))];
}

/* ---- drawing ----------------------------------------------------------------------------------- */

function words(content, x, y, style, anchor = "start") {
  return svg("text", { x, y, class: style, "text-anchor": anchor }, content);
}

function shorten(text, room) {
  return text.length > room ? `${text.slice(0, room - 1)}…` : text;
}

function box(one, place) {
  const { x, y, width, height, tall } = place;
  const letters = Math.floor((width - (tall ? 60 : 150)) / 9.5);
  const figure = tall
    ? [svg("text", { x: x + 16, y: y + 96 }, svg("tspan", { class: "part-number" }, one.value),
      svg("tspan", { class: "part-unit", dx: 8 }, one.unit))]
    : [words(one.value, x + width - 16, y + 33, "part-number", "end"),
      words(one.unit, x + width - 16, y + 52, "part-unit", "end")];
  return svg("g", {}, svg("title", {}, one.name),
    svg("rect", { x, y, width, height, rx: 12, class: `part ${one.level}` }),
    light(one.level, { x: x + 16, y: y + 15, width: 22, height: 22 }),
    words(shorten(one.name, letters), x + 48, y + 32, "part-name"),
    words(one.state, x + 48, y + 52, `part-state ${one.level}`), ...figure);
}

/* An arrow along path to its tip, which points right or down; broken where it leads nowhere. */
function arrow(path, [x, y], broken, down = false) {
  const head = down ? `M${x - 5} ${y - 8}L${x} ${y}L${x + 5} ${y - 8}`
    : `M${x - 8} ${y - 5}L${x} ${y}L${x - 8} ${y + 5}`;
  return svg("g", { class: broken ? "arrow broken" : "arrow" }, svg("path", { d: path }),
    svg("path", { d: head, class: "tip" }));
}

function isCut(redis) {
  return redis.value === NOT_KNOWN;
}

function drawWide(parts, brokers, width) {
  const gap = Math.max(28, width * 0.055);
  const boxWidth = (width - 3 * gap) / 4;
  const step = boxWidth + gap;
  const tall = brokers.length <= 1;
  const each = tall ? TALL : LOW;
  const height = Math.max(TALL, brokers.length * (each + 12) - 12);
  const middle = height / 2;
  const shapes = parts.map((one, i) => box(one,
    { x: i * step, y: middle - TALL / 2, width: boxWidth, height: TALL, tall: true }));
  for (const i of [1, 2]) {
    shapes.push(arrow(`M${i * step - gap + 4} ${middle}H${i * step - 4}`, [i * step - 4, middle],
      isCut(parts[1])));
  }
  const x = 3 * step;
  brokers.forEach((one, i) => {
    const y = (height - brokers.length * (each + 12) + 12) / 2 + i * (each + 12);
    const target = y + each / 2;
    shapes.push(box(one, { x, y, width: boxWidth, height: each, tall }),
      arrow(`M${x - gap + 4} ${middle}H${x - gap / 2}V${target}H${x - 4}`, [x - 4, target],
        one.level === "error"));
  });
  return [shapes, height];
}

/* Brokers hang side by side on one line from the gateway, as twigs. */
function drawNarrow(parts, brokers, width) {
  const twigs = brokers.length > 1;
  const shapes = [];
  [...parts, ...brokers].forEach((one, i) => {
    const y = i * (LOW + 26);
    const x = twigs && i > 2 ? 36 : 0;
    shapes.push(box(one, { x, y, width: width - x, height: LOW, tall: false }));
    const broken = one.level === "error" && i > 2 || isCut(parts[1]) && i < 3;
    if (x > 0) {
      const from = 3 * (LOW + 26) - 22;
      shapes.push(arrow(`M16 ${from}V${y + LOW / 2}H32`, [32, y + LOW / 2], broken));
    } else if (i > 0) {
      shapes.push(arrow(`M27 ${y - 22}V${y - 4}`, [27, y - 4], broken, true));
    }
  });
  return [shapes, (parts.length + brokers.length) * (LOW + 26) - 26];
}

/* Draws into holder, when something has changed. scale: pixels per unit. */
export function drawPicture(holder, status, scale) {
  const parts = [nemoPart(status), redisPart(status), gatewayPart(status)];
  const brokers = brokerParts(status);
  const width = Math.max(280, Math.floor(holder.clientWidth / scale));
  const all = [...parts, ...brokers];
  const text = all.map((one) => t("path.part",
    { name: one.name, state: one.state, number: one.value, unit: one.unit })).join(" ");
  const drawn = `${width} ${text} ${all.map((one) => one.level).join(" ")}`;
  if (holder.drawn === drawn) {
    return;
  }
  holder.drawn = drawn;
  const [shapes, height] = (width < 700 ? drawNarrow : drawWide)(parts, brokers, width);
  holder.replaceChildren(svg("svg", { viewBox: `-1 -1 ${width + 2} ${height + 2}`, role: "img",
    "aria-label": text, class: "picture" }, ...shapes));
}
