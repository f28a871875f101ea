/*
 * The monitor page: starts the parts, keeps the last status, and writes what stands at the top. What
 * the gateway tells comes by page-link.js; each of the other files owns one part of the page.
 */
import { drawCharts } from "./page-charts.js";
import { byId, button, el, setAttribute, setLight, setText } from "./page-dom.js";
import { Feed } from "./page-feed.js";
import { Letters } from "./page-letters.js";
import { Link } from "./page-link.js";
import { drawPicture } from "./page-picture.js";
import { Sites, sortedSites } from "./page-sites.js";
import { Tools } from "./page-tools.js";
import { duration, getLanguage, list, number, overallSentence, plain, reasonSentence, setLanguage,
  siteCount, t } from "./page-words.js";

const WALL_PIXELS = 1920;
const THEMES = ["auto", "light", "dark"];
const REASONS_SHOWN = 5;
const ANNOUNCE_MS = 3000;
const ICONS = { ok: ["#1d7a46", "M9 17l5 5 9-10"], warning: ["#b26a00", "M16 8v10M16 22v2"],
  error: ["#b3261e", "M10 10l12 12M22 10l-12 12"] };

const root = document.documentElement;
const address = new URLSearchParams(location.search);
const system = matchMedia("(prefers-color-scheme: dark)");
const view = { status: null, history: null, state: "connecting", offset: 0, heardAt: 0, site: null,
  said: null, version: null };

function serverNow() {
  return Date.now() + view.offset;
}

/* ---- settings ---------------------------------------------------------------------------------- */

/* Storage may be forbidden; the page works without. */
function remembered(name) {
  try {
    return localStorage.getItem(`nemogate.${name}`);
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`nemogate.${name}`, value);
  } catch {
    // Then it holds until the page is closed.
  }
}

const settings = {
  language: address.get("lang") || remembered("language") || navigator.language.slice(0, 2),
  theme: remembered("theme") || "auto",
  wall: remembered("wall"),
};

function isWall() {
  if (address.has("wall")) {
    return address.get("wall") !== "0";
  }
  return settings.wall === null ? window.innerWidth >= WALL_PIXELS : settings.wall === "yes";
}

function applySettings() {
  const dark = settings.theme === "auto" ? system.matches : settings.theme === "dark";
  root.dataset.theme = dark ? "dark" : "light";
  root.classList.toggle("wall", isWall());
  setText(themeButton, t("theme", { theme: t(`theme.${settings.theme}`) }));
  setText(wallButton, t("wall"));
  setAttribute(wallButton, "aria-pressed", String(isWall()));
}

function applyLanguage() {
  setLanguage(settings.language);
  root.lang = getLanguage();
  document.querySelectorAll("[data-t]").forEach((node) => setText(node, t(node.dataset.t)));
  document.querySelectorAll("[data-t-label]").forEach((node) => {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
  });
  byId("feed-filter").placeholder = t("feed.filter");
  setText(languageButton, t("language"));
  languageButton.lang = getLanguage() === "de" ? "en" : "de";
}

function change(name, value) {
  settings[name] = value;
  remember(name, value);
  applyLanguage();
  applySettings();
  view.said = null;
  redraw();
}

const languageButton = button("", () => change("language", getLanguage() === "de" ? "en" : "de"));
const themeButton = button("", () => {
  const next = (THEMES.indexOf(settings.theme) + 1) % THEMES.length;
  change("theme", THEMES[next]);
});
const wallButton = button("", () => {
  const wall = !isWall();
  address.delete("wall");
  change("wall", wall ? "yes" : "no");
});

/* ---- the top of the page ------------------------------------------------------------------------ */

function lostSentence() {
  const denied = view.state === "denied";
  const advice = view.status ? t("hero.lost.age", { age: duration(Date.now() - view.heardAt) })
    : t("hero.lost.never");
  return { level: "warning", text: t(denied ? "hero.denied" : "hero.lost"), key: view.state,
    advice: denied ? "" : advice, detail: "", reasons: [] };
}

function sentenceNow() {
  if (view.state === "lost" || view.state === "denied") {
    return lostSentence();
  }
  if (!view.status) {
    return { level: "unknown", text: t("hero.loading"), advice: "", detail: "", reasons: [],
      key: "loading" };
  }
  const sentence = overallSentence(view.status, serverNow());
  return view.state === "polling" && !sentence.advice
    ? { ...sentence, advice: t("hero.polling") } : sentence;
}

/* Told to a screen reader when the case changes, not each time a number does. */
let announcing = 0;
function announce(sentence) {
  if (sentence.key !== view.said) {
    view.said = sentence.key;
    clearTimeout(announcing);
    announcing = setTimeout(() => {
      setText(byId("announcer"), `${t(`level.${sentence.level}`)}: ${sentenceNow().text}`);
    }, ANNOUNCE_MS);
  }
}

function showReasons(reasons) {
  const shown = reasons.slice(0, REASONS_SHOWN).map((reason) => ({
    level: reason.level === "error" ? "error" : "warning",
    text: reasonSentence(reason, view.status, serverNow()) }));
  if (reasons.length > REASONS_SHOWN) {
    shown.push({ level: "unknown", text: t("hero.rest", { n: reasons.length - REASONS_SHOWN }) });
  }
  const holder = byId("hero-reasons");
  const drawn = JSON.stringify(shown);
  if (holder.drawn !== drawn) {
    holder.drawn = drawn;
    holder.replaceChildren(...shown.map((one) => {
      const mark = el("span", { class: "light-holder" });
      setLight(mark, one.level);
      return el("li", {}, mark, el("span", {}, one.text));
    }));
  }
  byId("hero-more").hidden = shown.length === 0;
}

function icon(level) {
  const [colour, mark] = ICONS[level] || ["#5b6663", "M10 16h12"];
  const picture = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><circle cx='16' cy='16'`
    + ` r='15' fill='${colour}'/><path d='${mark}' fill='none' stroke='#fff' stroke-width='3'/></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(picture)}`;
}

function showHero() {
  const sentence = sentenceNow();
  setAttribute(byId("hero"), "data-level", sentence.level);
  setLight(byId("hero-light"), sentence.level);
  setText(byId("hero-level"), t(`level.${sentence.level}`));
  setText(byId("hero-text"), sentence.text);
  setText(byId("hero-advice"), sentence.advice);
  byId("hero-detail").hidden = sentence.detail === "";
  setText(byId("hero-detail-text"), sentence.detail);
  showReasons(sentence.reasons);
  setAttribute(byId("icon"), "href", icon(sentence.level));
  const title = `${t(`level.${sentence.level}`)} – ${t("title")}`;
  if (document.title !== title) {
    document.title = title;
  }
  announce(sentence);
}

/* ---- the parts ---------------------------------------------------------------------------------- */

const link = new Link({
  status: heardStatus,
  history: (history) => {
    view.history = history;
    drawSized();
  },
  message: (message) => {
    feed.add(message);
    tools.heard(message);
  },
  state: (state) => {
    view.state = state;
    const gone = state === "lost" || state === "denied";
    byId("content").classList.toggle("stale", gone && view.status !== null);
    showHero();
  },
  token: askToken,
});
const feed = new Feed(serverNow);
const tools = new Tools(link, serverNow);
const letters = new Letters(link, serverNow);
const sites = new Sites((site) => {
  view.site = site;
  remember("site", site);
  chooseSite();
  sites.show(view.status, serverNow(), view.site);
});

/* The one that was looked at last, else one in trouble, else the busiest. */
function siteToShow(all) {
  const last = all.find((site) => site.site === remembered("site"));
  const busiest = all.reduce((a, b) => (number(b?.total) > number(a?.total) ? b : a), all[0]);
  return (last || (all[0]?.level === "ok" ? busiest : all[0]))?.site || null;
}

function chooseSite() {
  if (view.site === null) {
    view.site = address.get("site") || siteToShow(sortedSites(view.status));
  }
  tools.choose(view.site);
}

function heardStatus(status) {
  const version = plain(status.version);
  if (view.version && version && version !== view.version && !document.querySelector("[open]")) {
    location.reload(); // another version of the gateway has another page
  }
  view.version = version;
  view.status = status;
  view.heardAt = Date.now();
  view.offset = number(status.now) - view.heardAt;
  chooseSite();
  letters.heard(status);
  showStatus();
}

function showStatus() {
  const { status } = view;
  byId("content").hidden = false;
  setText(byId("instance"), t("instance",
    { name: plain(status.instance, 60), version: plain(status.version, 20) }));
  byId("instance").hidden = false;
  root.classList.toggle("one-site", siteCount(status) <= 1);
  feed.setManySites(siteCount(status) > 1);
  sites.show(status, serverNow(), view.site);
  showHero();
  drawSized();
}

/* Pictures are drawn in the width they have, so that their letters keep their size. */
function drawSized() {
  if (view.status && !byId("content").hidden) {
    const scale = parseFloat(getComputedStyle(root).fontSize) / 16;
    drawPicture(byId("picture"), view.status, scale);
    drawCharts(view.history, serverNow(), scale);
    const used = byId("tools").getBoundingClientRect().top + window.scrollY + 12 * scale;
    root.style.setProperty("--rest", `${Math.floor(window.innerHeight - used)}px`);
  }
}

function redraw() {
  feed.showAll(true);
  tools.show();
  letters.show();
  if (view.status) {
    byId("picture").drawn = "";
    showStatus();
  }
  showHero();
}

/* ---- the token ---------------------------------------------------------------------------------- */

function askToken(wrong) {
  const dialog = byId("token");
  const input = byId("token-input");
  setText(byId("token-wrong"), wrong ? t("token.wrong") : "");
  if (!dialog.open) {
    dialog.showModal();
  }
  input.focus();
  return new Promise((resolve) => {
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      const token = input.value.trim();
      if (/^[\x21-\x7e]+$/.test(token)) { // what a header can carry
        input.value = "";
        dialog.close();
        resolve(token);
      }
    };
  });
}

/* ---- start -------------------------------------------------------------------------------------- */

function tick() {
  if (!document.hidden) {
    showHero();
    tools.show();
  }
}

byId("controls").append(wallButton, themeButton, languageButton);
byId("token").addEventListener("cancel", (event) => event.preventDefault());
system.addEventListener("change", applySettings);
window.addEventListener("resize", () => {
  applySettings();
  drawSized();
});
applyLanguage();
applySettings();
redraw();
setInterval(tick, 1000);
link.run();
