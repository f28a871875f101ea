/* What an event says, in a sentence a person understands; null: only its topic can be shown. */
import { list, moment, number, parseObject, plain, t } from "./page-words.js";

const NAMED = /(?:^|\/)(tools|areas|resources|interlocks|sensors)\/([^/]+)\/(state|event|tasks|next|value)$/;
const FACILITY = /(?:^|\/)facility\/(alerts|safety|closures)$/;
const TOOL_STATES = ["in_use", "idle", "cooldown", "down"];

/* {kind: "tools/state" and the like, id} by the topic, whose prefix may be anything. */
export function subjectOf(topic) {
  const named = NAMED.exec(topic);
  if (named) {
    return { kind: `${named[1]}/${named[3]}`, id: named[2] };
  }
  const facility = FACILITY.exec(topic);
  return facility ? { kind: "facility", id: facility[1] } : { kind: "", id: "" };
}

export function toolName(body, id) {
  return plain(body.tool_name, 80) || t("tool.unnamed", { id: plain(id, 40) });
}

export function toolState(body) {
  return TOOL_STATES.includes(body.state) ? body.state : null;
}

export function people(body) {
  const n = number(body.occupancy);
  return number(body.capacity) > 0 ? t("area.capacity", { n, of: body.capacity })
    : t("area.people", { n });
}

function toolEvent(body, id) {
  const tool = toolName(body, id);
  const user = plain(body.user, 80);
  if (["enabled", "disabled"].includes(body.event)) {
    return t(`event.${body.event}${user ? "" : ".nobody"}`, { user, tool });
  }
  return ["down", "up", "cooldown_end"].includes(body.event)
    ? t(`event.${body.event}`, { tool }) : null;
}

function toolStateSentence(body, id) {
  const state = toolState(body);
  const user = plain(body.user, 80);
  return state && t(`event.${state}${state === "in_use" && !user ? ".nobody" : ""}`,
    { user, tool: toolName(body, id) });
}

function nextSentence(body, id, now) {
  const tool = toolName(body, id);
  const start = Date.parse(body.next?.start);
  return Number.isNaN(start) ? t("event.next.none", { tool }) : t("event.next",
    { tool, user: plain(body.next.user, 80) || t("someone"), time: moment(start, now) });
}

function sensorValue(body) {
  const value = plain(body.label, 40) || plain(body.value, 40);
  return `${plain(body.prefix, 10)}${value}${body.suffix ? ` ${plain(body.suffix, 10)}` : ""}`;
}

const SENTENCES = {
  "tools/event": toolEvent,
  "tools/state": toolStateSentence,
  "tools/tasks": (body, id) => t("event.tasks", { tool: toolName(body, id), n: number(body.count) }),
  "tools/next": nextSentence,
  "areas/state": (body) => plain(body.area_name)
    && t("event.area", { area: plain(body.area_name, 80), people: people(body) }),
  "resources/state": (body) => plain(body.resource_name)
    && t(body.available === false ? "event.unavailable" : "event.available",
      { name: plain(body.resource_name, 80) }),
  "interlocks/state": (body) => plain(body.interlock_name)
    && t("event.interlock", { name: plain(body.interlock_name, 80), state: plain(body.state, 40) }),
  "sensors/value": (body) => plain(body.sensor_name)
    && t("event.sensor", { name: plain(body.sensor_name, 80), value: sensorValue(body) }),
  "facility": (body, id) => (Array.isArray(body.items)
    ? t(`event.facility.${id}`, { n: list(body.items).length + number(body.more) }) : null),
};

export function sentenceOf(topic, payload, now) {
  const { kind, id } = subjectOf(topic);
  const body = typeof payload === "string" ? parseObject(payload) : null;
  return kind && body ? SENTENCES[kind]?.(body, id, now) || null : null;
}

/* The light that fits an event: what a person should look at twice. */
export function levelOfEvent(topic, payload) {
  const body = typeof payload === "string" ? parseObject(payload) : null;
  const word = body && (body.event || body.state);
  if (word === "down" || body?.available === false) {
    return "error";
  }
  return ["enabled", "in_use"].includes(word) ? "busy" : "";
}
