/* The live list of events: the last 500, newest first, with filter, pause and details. */
import { byId, button, el, setAttribute, setText } from "./page-dom.js";
import { levelOfEvent, sentenceOf } from "./page-events.js";
import { clock, exactly, number, plain, t } from "./page-words.js";

const KEPT = 500;
const EVERY_MS = 200;

function pretty(payload) {
  try {
    return JSON.stringify(JSON.parse(payload), null, 2);
  } catch {
    return payload;
  }
}

/* The content of an event or a dead letter as a block, of at most a few KiB. */
export function payloadBlock(payload, cut = false) {
  if (typeof payload !== "string") {
    return el("pre", {}, t("detail.binary"));
  }
  const text = plain(pretty(payload), 8192);
  return el("pre", { tabindex: "0", "aria-label": t("detail.payload") },
    cut ? `${text} ${t("detail.cut")}` : text);
}

/* pairs: [key of the word, value]; what is empty is left out. */
export function factList(pairs) {
  const facts = el("dl");
  for (const [key, value] of pairs) {
    if (value !== "" && value !== null && value !== undefined) {
      facts.append(el("dt", {}, t(key)), el("dd", {}, value));
    }
  }
  return facts;
}

function details(message) {
  const delivery = message.retain ? "detail.retained" : "detail.passing";
  return factList([
    ["detail.topic", plain(message.topic, 500)], ["detail.site", plain(message.site, 40)],
    ["detail.time", message.at > 0 ? exactly(message.at) : ""],
    ["detail.stream_id", plain(message.stream_id)], ["detail.key", plain(message.key)],
    ["detail.type", plain(message.type)],
    ["detail.delivery", t(delivery, { qos: number(message.qos) })],
    ["detail.payload", payloadBlock(message.binary ? null : message.payload, message.cut)],
  ]);
}

export class Feed {
  constructor(serverNow) {
    this.serverNow = serverNow;
    this.rows = []; // newest first: {message, text, search, node}
    this.fresh = []; // not yet in rows, oldest first
    this.paused = false;
    this.filter = "";
    this.dropped = 0;
    this.timer = 0;
    this.manySites = false;
    this.list = byId("feed-list");
    this.wire();
  }

  wire() {
    byId("feed-filter").addEventListener("input", (event) => {
      this.filter = event.target.value.trim().toLowerCase();
      this.showAll();
    });
    this.pauseButton = button("", () => this.setPaused(!this.paused), { "aria-pressed": "false" });
    byId("feed-pause").append(this.pauseButton);
    this.list.addEventListener("keydown", (event) => this.move(event));
    this.list.addEventListener("focusin", (event) => this.setStop(event.target.closest("summary")));
  }

  add(message) {
    if (!message || typeof message !== "object") {
      return;
    }
    this.dropped += number(message.dropped);
    this.fresh.push(message);
    if (this.fresh.length > KEPT) {
      this.fresh.shift();
    }
    if (!this.timer) {
      this.timer = setTimeout(() => this.flush(), EVERY_MS);
    }
  }

  flush() {
    this.timer = 0;
    if (!this.paused) {
      const rows = this.fresh.map((message) => this.row(message)).reverse();
      this.fresh = [];
      this.rows = [...rows, ...this.rows];
      this.rows.splice(KEPT).forEach((row) => row.node.remove());
      this.list.prepend(...rows.map((row) => row.node));
      rows.forEach((row) => this.match(row));
    }
    this.showCounts();
  }

  /* ---- rows ------------------------------------------------------------------------------------ */

  row(message) {
    const summary = el("summary", { tabindex: "-1" });
    const holder = el("details", {}, summary);
    const row = { message, node: el("li", { class: "event" }, holder) };
    holder.addEventListener("toggle", () => {
      holder.querySelector("dl")?.remove();
      if (holder.open) {
        holder.append(details(message));
      }
    });
    this.write(row);
    return row;
  }

  write(row) {
    const { message } = row;
    const topic = plain(message.topic) || "?";
    const site = plain(message.site, 40);
    const payload = message.binary ? null : message.payload;
    const sentence = message.payload === "" ? t("event.cleared", { topic })
      : sentenceOf(String(message.topic), payload, this.serverNow());
    row.search = `${sentence || ""} ${topic} ${site}`.toLowerCase();
    const at = number(message.at) || this.serverNow();
    row.node.querySelector("summary").replaceChildren(
      el("time", {}, clock(at, true)),
      el("span", { class: `dot ${sentence ? levelOfEvent(topic, payload) : "plain"}`,
        "aria-hidden": "true" }),
      el("bdi", { class: sentence ? "said" : "said topic" }, sentence || topic),
      this.manySites && site ? el("bdi", { class: "chip" }, site) : "");
  }

  match(row) {
    row.node.hidden = !row.search.includes(this.filter);
  }

  /* After a change of language or filter. */
  showAll(rewrite = false) {
    this.rows.forEach((row) => {
      if (rewrite) {
        this.write(row);
      }
      this.match(row);
    });
    this.showCounts();
  }

  setManySites(many) {
    if (many !== this.manySites) {
      this.manySites = many;
      this.showAll(true);
    }
  }

  showCounts() {
    const shown = this.visible();
    const key = this.paused ? (this.fresh.length ? "feed.resume.n" : "feed.resume") : "feed.pause";
    setText(this.pauseButton, t(key, { n: this.fresh.length }));
    setAttribute(this.pauseButton, "aria-pressed", String(this.paused));
    setText(byId("feed-empty"), shown.length > 0 ? ""
      : t(this.rows.length ? "feed.nomatch" : "feed.none", { n: this.rows.length }));
    setText(byId("feed-dropped"), this.dropped ? t("feed.dropped", { n: this.dropped }) : "");
    if (!shown.some((row) => this.summary(row).tabIndex === 0)) {
      this.setStop(shown.length ? this.summary(shown[0]) : null);
    }
  }

  setPaused(paused) {
    this.paused = paused;
    this.flush();
  }

  /* ---- keyboard: the list is one stop of Tab, arrows move within ------------------------------- */

  visible() {
    return this.rows.filter((row) => !row.node.hidden);
  }

  summary(row) {
    return row.node.firstChild.firstChild;
  }

  setStop(summary) {
    if (this.stop !== summary) {
      this.stop?.setAttribute("tabindex", "-1");
      summary?.setAttribute("tabindex", "0");
      this.stop = summary;
    }
  }

  move(event) {
    const shown = this.visible();
    const at = shown.findIndex((row) => this.summary(row) === event.target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (at >= 0 && to !== undefined && shown[to]) {
      event.preventDefault();
      this.summary(shown[to]).focus();
    }
  }
}
