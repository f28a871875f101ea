/* Tools and areas of one site, from the retained values that the gateway published: read when the
 * site is chosen and now and then, kept up by the feed in between. */
import { byId, el, keyed, setLight, setText } from "./page-dom.js";
import { people, subjectOf, toolName, toolState } from "./page-events.js";
import { duration, list, moment, number, parseObject, plain, t } from "./page-words.js";

const SHOWN = 300;
const TOPICS = 5000;
const AGAIN_MS = 20000;
const SOON_MS = 1500;
const SHOW_MS = 200;
const ORDER = ["down", "in_use", "cooldown", "idle"];
const LIGHTS = { down: "error", in_use: "busy", cooldown: "cooling", idle: "free" };

function parse(topic, payload) {
  const { kind, id } = subjectOf(topic);
  const body = parseObject(payload);
  return { topic, kind, id, body, payload: plain(payload, 300) };
}

export class Tools {
  constructor(link, serverNow) {
    this.link = link;
    this.serverNow = serverNow;
    this.site = null;
    this.topics = new Map();
    this.cut = false;
    this.timer = 0;
    this.showing = 0;
  }

  /* ---- data ------------------------------------------------------------------------------------ */

  choose(site) {
    if (site !== this.site) {
      this.site = site;
      this.topics = new Map();
      this.show();
      this.readIn(0);
    }
  }

  readIn(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.read(), ms);
  }

  async read() {
    const { site } = this;
    try {
      if (site !== null) {
        const answer = await this.link.get(`/api/v1/sites/${encodeURIComponent(site)}/state`);
        if (site === this.site) {
          this.take(answer);
        }
      }
    } catch {
      // The sentence at the top says that the gateway is away; what was read stays visible.
    }
    if (site === this.site) {
      this.readIn(AGAIN_MS);
    }
  }

  take(answer) {
    this.topics = new Map(list(answer.topics).slice(0, TOPICS)
      .map((one) => [String(one.topic), parse(String(one.topic), String(one.payload))]));
    this.cut = answer.cut === true;
    this.show();
  }

  heard(message) {
    if (!message?.retain || message.site !== this.site || typeof message.topic !== "string") {
      return;
    }
    if (message.cut || message.binary || number(message.dropped) > 0) {
      this.readIn(SOON_MS);
    } else if (message.payload === "") {
      this.topics.delete(message.topic);
    } else if (this.topics.size < TOPICS) {
      this.topics.set(message.topic, parse(message.topic, String(message.payload)));
    }
    this.showSoon();
  }

  /* Of many changes a second, only a few times. */
  showSoon() {
    if (!this.showing) {
      this.showing = setTimeout(() => {
        this.showing = 0;
        this.show();
      }, SHOW_MS);
    }
  }

  /* ---- what is shown --------------------------------------------------------------------------- */

  tools() {
    const found = [];
    for (const one of this.topics.values()) {
      if (one.kind === "tools/state" && one.body && toolState(one.body)) {
        const beside = one.topic.slice(0, -"state".length);
        found.push({ ...one, name: toolName(one.body, one.id), state: toolState(one.body),
          tasks: number(this.topics.get(`${beside}tasks`)?.body?.count),
          next: this.topics.get(`${beside}next`)?.body?.next });
      }
    }
    return found.sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state)
      || a.name.localeCompare(b.name) || (a.topic < b.topic ? -1 : 1));
  }

  areas() {
    return [...this.topics.values()].filter((one) => one.kind === "areas/state"
      && one.body && plain(one.body.area_name)).sort((a, b) => a.topic.localeCompare(b.topic));
  }

  /* What has no form of its own here: as it is. */
  others(tools, areas) {
    const told = new Set([...tools, ...areas].map((one) => one.topic));
    const known = ["tools/tasks", "tools/next"];
    return [...this.topics.values()].filter((one) => !told.has(one.topic)
      && !(known.includes(one.kind) && one.body));
  }

  show() {
    const tools = this.tools();
    const areas = this.areas();
    const others = this.others(tools, areas);
    const site = plain(this.site, 40);
    setText(byId("tools-title"), site ? t("tools.site", { site }) : t("tools"));
    setText(byId("tools-empty"), tools.length + areas.length + others.length > 0 ? ""
      : t(site ? "tools.none" : "tools.nosite"));
    const hidden = Math.max(0, tools.length - SHOWN);
    setText(byId("tools-note"), hidden ? t("tools.hidden", { n: hidden })
      : (this.cut ? t("tools.cut") : ""));
    this.showSums(tools);
    keyed(byId("tools-list"), tools.slice(0, SHOWN), (one) => one.topic, makeTool,
      (node, one) => updateTool(node, one, this.serverNow()));
    byId("areas").hidden = areas.length === 0;
    keyed(byId("areas-list"), areas.slice(0, SHOWN), (one) => one.topic, makeArea, updateArea);
    byId("others").hidden = others.length === 0;
    setText(byId("others-title"), t("other", { n: others.length }));
    keyed(byId("others-list"), others.slice(0, SHOWN), (one) => one.topic,
      () => el("li", {}, el("bdi", { class: "topic" }), el("bdi", { class: "value" })),
      (node, one) => {
        setText(node.firstChild, plain(one.topic));
        setText(node.lastChild, one.payload);
      });
  }

  showSums(tools) {
    const states = ORDER.filter((state) => tools.some((one) => one.state === state));
    keyed(byId("tools-sums"), states, (state) => state,
      () => el("li", {}, el("span", { class: "light-holder" }), el("span")),
      (node, state) => {
        setToolLight(node.firstChild, state);
        const n = tools.filter((one) => one.state === state).length;
        setText(node.lastChild, `${n} ${t(`tool.${state}`)}`);
      });
  }
}

/* ---- cards ------------------------------------------------------------------------------------- */

function setToolLight(holder, state) {
  setLight(holder, LIGHTS[state]);
}

function makeTool() {
  return el("li", { class: "tool" },
    el("span", { class: "light-holder" }),
    el("div", {}, el("bdi", { class: "name" }), el("p", { class: "state" }),
      el("p", { class: "more" })));
}

function since(body, state, now) {
  const until = Date.parse(body.until);
  if (["cooldown", "down"].includes(state) && until > now) {
    return t("tool.until", { time: moment(until, now) });
  }
  const start = Date.parse(body.since);
  return Number.isNaN(start) ? "" : t("tool.for", { age: duration(now - start) });
}

function more(one, now) {
  const start = Date.parse(one.next?.start);
  const user = one.next && (plain(one.next.user, 60) || t("someone"));
  return [one.tasks > 0 ? t("tool.tasks", { n: one.tasks }) : "",
    Number.isNaN(start) ? "" : t("tool.next", { user, time: moment(start, now) })]
    .filter(Boolean).join(" · ");
}

function updateTool(node, one, now) {
  const [holder, text] = node.children;
  const user = one.state === "in_use" || one.state === "cooldown" ? plain(one.body.user, 60) : "";
  setToolLight(holder, one.state);
  node.dataset.state = one.state;
  setText(text.children[0], one.name);
  setText(text.children[1],
    [t(`tool.${one.state}`), user, since(one.body, one.state, now)].filter(Boolean).join(" · "));
  setText(text.children[2], more(one, now));
}

function makeArea() {
  return el("li", {}, el("bdi", { class: "name" }), el("span", { class: "people" }),
    el("meter", { min: "0", "aria-hidden": "true" }));
}

function updateArea(node, { body }) {
  const closed = body.available === false ? ` · ${t("area.closed")}` : "";
  setText(node.children[0], plain(body.area_name, 80));
  setText(node.children[1], people(body) + closed);
  const meter = node.children[2];
  meter.hidden = !(number(body.capacity) > 0);
  meter.max = Math.max(1, number(body.capacity));
  meter.value = number(body.occupancy);
}
