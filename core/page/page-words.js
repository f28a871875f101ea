/*
 * From the gateway's codes and numbers to words: texts, times, amounts, and the one sentence that says
 * how things are. Nothing here touches the page.
 */
import { TEXTS } from "./page-texts.js";

const LANGUAGES = ["en", "de"];
const DAY = 86400e3;
let language = "en";
let formats = makeFormats();

function makeFormats() {
  return {
    whole: new Intl.NumberFormat(language, { maximumFractionDigits: 0 }),
    fine: new Intl.NumberFormat(language, { maximumFractionDigits: 1 }),
    clock: new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
    seconds: new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit",
      second: "2-digit", hourCycle: "h23" }),
    exact: new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "long" }),
    day: new Intl.DateTimeFormat(language, { day: "numeric", month: "short", hour: "2-digit",
      minute: "2-digit", hourCycle: "h23" }),
  };
}

export function setLanguage(wanted) {
  language = LANGUAGES.includes(wanted) ? wanted : "en";
  formats = makeFormats();
}

export function getLanguage() {
  return language;
}

/* ---- texts ------------------------------------------------------------------------------------ */

export function hasText(key) {
  return Object.hasOwn(TEXTS, key);
}

function choose(value, forms) {
  const form = forms.length > 2 && value === 0 ? 0 : forms.length - (value === 1 ? 2 : 1);
  return forms[form].replace("#", amount(value));
}

/* One pass, so that braces in a value are never looked at. */
export function t(key, values = {}) {
  const text = TEXTS[key][LANGUAGES.indexOf(language)];
  return text.replace(/\{(\w+)(?::([^}]*))?\}/g, (_, name, forms) => {
    const value = values[name];
    if (forms !== undefined) {
      return choose(number(value), forms.split("|"));
    }
    return typeof value === "number" ? amount(value) : String(value ?? "");
  });
}

/* ---- values of others -------------------------------------------------------------------------- */

export function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

/* Text of others as it may be shown: without controls and marks that turn the direction of writing. */
export function plain(value, limit = 200) {
  if (typeof value !== "string" && typeof value !== "number") {
    return "";
  }
  const text = String(value)
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
  return text.length > limit ? `${text.slice(0, limit - 1)}…` : text;
}

export function list(value) {
  return Array.isArray(value) ? value.filter((item) => item && typeof item === "object") : [];
}

export function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return value && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/* ---- times and amounts ------------------------------------------------------------------------- */

export function amount(value) {
  return formats.whole.format(value);
}

export function rate(value) {
  return value > 0 && value < 0.1 ? `< ${formats.fine.format(0.1)}`
    : (value < 100 ? formats.fine : formats.whole).format(value);
}

export function milliseconds(value) {
  if (value >= 10000) {
    return `${amount(value / 1000)} s`;
  }
  return value >= 1000 ? `${formats.fine.format(value / 1000)} s`
    : `${(value < 10 ? formats.fine : formats.whole).format(value)} ms`;
}

/* German days are in the dative, as after "seit" and "vor". */
export function duration(ms) {
  if (!Number.isFinite(ms)) {
    return t("some-time");
  }
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) {
    return t("seconds", { n: seconds });
  }
  if (seconds < 3600) {
    return t("minutes", { n: Math.floor(seconds / 60) });
  }
  return ms < 2 * DAY ? t("hours", { n: Math.floor(seconds / 3600) })
    : t("days", { n: Math.floor(ms / DAY) });
}

export function ago(ms) {
  return ms < 1000 ? t("now") : t("ago", { age: duration(ms) });
}

/* A moment that no calendar has is a dash. */
function formatted(format, at) {
  return Math.abs(at) <= 8.64e15 ? format.format(new Date(at)) : "–";
}

export function clock(at, withSeconds = false) {
  return formatted(withSeconds ? formats.seconds : formats.clock, at);
}

/* The time of day, with the date where it is not near now. */
export function moment(at, now) {
  return Math.abs(at - now) < 18 * 3600e3 ? clock(at) : formatted(formats.day, at);
}

/* All of a time, for details. */
export function exactly(at) {
  return formatted(formats.exact, at);
}

/* ---- the sentence ------------------------------------------------------------------------------ */

export const LEVELS = ["ok", "warning", "error"];

export function levelOf(value) {
  return LEVELS.includes(value) ? value : "error";
}

export function waiting(status) {
  return list(status.sites).reduce((sum, site) => sum + number(site.lag) + number(site.pending), 0);
}

export function lastEvent(status) {
  return list(status.sites).reduce((last, site) => Math.max(last, number(site.last_event)), 0);
}

export function siteCount(status) {
  return Math.max(number(status.sites_total), list(status.sites).length);
}

function countOf(reason, status) {
  if (typeof reason.count === "number") {
    return reason.count;
  }
  return reason.code === "dead-letters"
    ? list(status.sites).reduce((sum, site) => sum + number(site.dead_letters), 0) : waiting(status);
}

/* To come: of days the nearest number, as one says "in 5 days" from the morning of the first on. */
function durationLeft(ms) {
  return duration(ms < 2 * DAY ? ms : ms + DAY / 2);
}

function isOver(reason, now) {
  return reason.code === "certificate-expires" && number(reason.expires) <= now;
}

function whose(reason) {
  const key = `whose.${reason.certificate}`;
  return t(hasText(key) ? key : "whose.broker", { broker: plain(reason.broker, 40) });
}

export function reasonSentence(reason, status, now) {
  const code = String(reason.code);
  if (!hasText(`reason.${code}`)) {
    return t("reason.unknown", { text: plain(reason.text) || plain(code) });
  }
  const left = number(reason.expires) - now;
  const site = plain(reason.site, 40);
  return t(`reason.${code}${isOver(reason, now) ? ".over" : ""}`, {
    broker: plain(reason.broker, 40), slot: plain(reason.slot), n: countOf(reason, status),
    age: duration(reason.since ? now - reason.since : NaN), left: durationLeft(left),
    ago: ago(-left), whose: whose(reason), of: site ? t("of.site", { site }) : "",
  });
}

export function reasonAdvice(reason, now) {
  const key = `todo.${reason.code}${isOver(reason, now) ? ".over" : ""}`;
  return hasText(key) ? t(key) : "";
}

function fineSentence(status, now) {
  const sites = siteCount(status);
  if (sites === 0) {
    return t("hero.none");
  }
  const last = lastEvent(status);
  return last > 0 ? t("hero.ok", { n: sites, ago: ago(now - last) }) : t("hero.quiet", { n: sites });
}

/* {level, text, advice, detail, reasons: the others}: what stands at the top of the page. */
export function overallSentence(status, now) {
  const [first, ...others] = list(status.reasons);
  if (!first) {
    const level = levelOf(status.overall);
    const text = level === "ok" ? fineSentence(status, now) : t("hero.bad");
    return { level, text, advice: "", detail: "", reasons: [], key: level };
  }
  return {
    level: status.overall === "ok" ? levelOf(first.level) : levelOf(status.overall),
    text: reasonSentence(first, status, now), advice: reasonAdvice(first, now),
    detail: plain(first.text, 500), reasons: others,
    key: [first.code, first.broker, first.site, first.slot].join(" "),
  };
}
