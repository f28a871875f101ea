/* The list of sites, those in trouble first, a page at a time; choosing one shows its tools. */
import { byId, button, el, keyed, setAttribute, setLight, setText } from "./page-dom.js";
import { ago, amount, duration, list, number, plain, rate, siteCount, t } from "./page-words.js";

const PAGE = 12;
const LATE_S = 30;

/* {level, word} of a site; its own reasons first. */
export function siteState(site, reasons) {
  const reason = reasons.find((one) => one.site === site.site && one.code !== "dead-letters");
  if (reason) {
    return { level: reason.level === "error" ? "error" : "warning", word: t("site.trouble") };
  }
  if (number(site.oldest_pending_s) > LATE_S) {
    const age = duration(site.oldest_pending_s * 1000);
    return { level: "warning", word: t("site.behind", { age }) };
  }
  return number(site.dead_letters) > 0 ? { level: "warning", word: t("site.letters") }
    : { level: "ok", word: t("site.ok") };
}

const ORDER = ["error", "warning", "ok"];

export function sortedSites(status) {
  const reasons = list(status.reasons);
  return list(status.sites).filter((site) => typeof site.site === "string")
    .map((site) => ({ ...site, ...siteState(site, reasons) }))
    .sort((a, b) => ORDER.indexOf(a.level) - ORDER.indexOf(b.level)
      || (a.site < b.site ? -1 : Number(a.site > b.site)));
}

const COLUMNS = ["state", "last", "rate", "waiting", "dead"];

export class Sites {
  constructor(choose) {
    this.choose = choose;
    this.chosen = null;
    this.from = 0;
    this.search = "";
    this.status = null;
    byId("sites-search").addEventListener("input", (event) => {
      this.search = event.target.value.trim().toLowerCase();
      this.turn(-this.from);
    });
    this.previous = button("", () => this.turn(-PAGE));
    this.next = button("", () => this.turn(PAGE));
    byId("sites-pages").append(this.previous, this.next);
  }

  turn(by) {
    this.from = Math.max(0, this.from + by);
    if (this.status) {
      this.show(this.status, this.now, this.chosen);
    }
  }

  show(status, now, chosen) {
    Object.assign(this, { status, now, chosen });
    const all = sortedSites(status).filter((site) => site.site.includes(this.search));
    if (this.from >= all.length) {
      this.from = Math.max(0, Math.floor((all.length - 1) / PAGE) * PAGE);
    }
    keyed(byId("sites-rows"), all.slice(this.from, this.from + PAGE), (site) => site.site,
      (site) => this.make(site), (row, site) => this.update(row, site));
    this.showHead(status, all.length);
  }

  showHead(status, found) {
    const total = siteCount(status);
    const shown = list(status.sites).length;
    byId("sites-tools").hidden = total <= PAGE && !this.search;
    byId("sites-table").hidden = found === 0;
    setText(byId("sites-empty"), found ? "" : t(total ? "sites.nomatch" : "sites.none"));
    setText(byId("sites-note"), total > shown ? t("sites.more", { n: shown, total }) : "");
    setText(byId("sites-count"), found ? t("sites.count",
      { from: this.from + 1, to: Math.min(found, this.from + PAGE), n: found }) : "");
    setText(this.previous, t("sites.previous"));
    setText(this.next, t("sites.next"));
    this.previous.disabled = this.from === 0;
    this.next.disabled = this.from + PAGE >= found;
  }

  make(site) {
    const name = button(plain(site.site, 40), () => this.choose(site.site), { class: "link" });
    return el("tr", {}, el("th", { scope: "row" }, name),
      ...COLUMNS.map((column) => el("td", { class: column }, ...(column === "state"
        ? [el("span", { class: "light-holder" }), el("span", { class: "word" })] : []))));
  }

  update(row, site) {
    const name = row.firstChild.firstChild;
    setAttribute(name, "aria-pressed", String(site.site === this.chosen));
    setAttribute(name, "title", t("sites.show", { site: plain(site.site, 40) }));
    const [state, last, perMinute, waits, dead] = [...row.children].slice(1);
    setLight(state.firstChild, site.level);
    setText(state.lastChild, site.word);
    const cells = [
      [last, site.last_event > 0 ? ago(this.now - site.last_event) : t("never")],
      [perMinute, rate(number(site.rate) * 60)],
      [waits, amount(number(site.lag) + number(site.pending))],
      [dead, amount(number(site.dead_letters))],
    ];
    for (const [cell, text] of cells) {
      setText(cell, text);
      setAttribute(cell, "data-label", t(`site.${cell.className}`));
    }
  }
}
