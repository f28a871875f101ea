/* Dead letters: what could not be delivered and why; where the gateway allows it, sending again and
 * discarding, both after a question. */
import { byId, button, el, keyed, setText } from "./page-dom.js";
import { sentenceOf } from "./page-events.js";
import { factList, payloadBlock } from "./page-feed.js";
import { hasText, list, moment, number, plain, t } from "./page-words.js";

const LIMIT = 100;

function keyOf(letter) {
  return `${letter.site} ${letter.id}`;
}

function reasonText(reason) {
  const key = `dead.${reason}`;
  return hasText(key) ? t(key) : t("dead.unknown", { reason: plain(reason, 60) });
}

function letterFacts(letter) {
  return factList([
    ["detail.why", plain(letter.detail, 500)], ["detail.topic", plain(letter.topic, 500)],
    ["detail.key", plain(letter.key)], ["detail.stream", plain(letter.stream)],
    ["detail.stream_id", plain(letter.entry_id)], ["detail.id", plain(letter.id)],
    ["detail.deliveries", plain(letter.deliveries)],
    ["detail.payload", payloadBlock(letter.payload)],
  ]);
}

export class Letters {
  constructor(link, serverNow) {
    Object.assign(this, { link, serverNow, letters: [], chosen: new Set(), seen: null, write: false });
    byId("letters-all").addEventListener("change", (event) => {
      this.chosen = new Set(event.target.checked ? this.letters.map(keyOf) : []);
      this.show();
    });
    this.replayButton = button("", () => this.ask("replay"), { class: "primary" });
    this.dropButton = button("", () => this.ask("drop"));
    byId("letters-actions").append(this.replayButton, this.dropButton);
  }

  /* Reads the list when the counts in the status say that it has changed. */
  heard(status) {
    const counts = list(status.sites).filter((site) => site.dead_letters > 0)
      .map((site) => `${site.site} ${site.dead_letters}`);
    const seen = `${number(status.totals?.dead_letters)} ${counts.join(" ")}`;
    this.write = status.write === true;
    if (seen !== this.seen) {
      this.seen = seen;
      this.read();
    }
    this.showButtons();
  }

  async read() {
    try {
      const answer = await this.link.get(`/api/v1/dead-letters?limit=${LIMIT}`);
      this.letters = list(answer.letters).slice(0, LIMIT);
      setText(byId("letters-note"), answer.more === true ? t("letters.more") : "");
    } catch (error) {
      this.seen = null;
      setText(byId("letters-note"), t("letters.unreadable", { why: plain(error.message) }));
    }
    const known = new Set(this.letters.map(keyOf));
    this.chosen = new Set([...this.chosen].filter((key) => known.has(key)));
    this.show();
  }

  show() {
    setText(byId("letters-empty"), this.letters.length ? "" : t("letters.none"));
    byId("letters-lead").hidden = this.letters.length === 0;
    keyed(byId("letters-list"), this.letters, keyOf, (letter) => this.make(letter),
      (node, letter) => this.update(node, letter));
    this.showButtons();
  }

  showButtons() {
    const any = this.letters.length > 0;
    const n = this.chosen.size;
    byId("letters-bar").hidden = !any || !this.write;
    byId("letters-readonly").hidden = !any || this.write;
    byId("letters-list").classList.toggle("fixed", !this.write);
    byId("letters-all").checked = any && n === this.letters.length;
    setText(this.replayButton, t("letters.replay", { n }));
    setText(this.dropButton, t("letters.drop", { n }));
    this.replayButton.disabled = this.dropButton.disabled = n === 0;
  }

  make(letter) {
    const check = el("input", { type: "checkbox" });
    check.addEventListener("change", () => {
      this.chosen[check.checked ? "add" : "delete"](keyOf(letter));
      this.showButtons();
    });
    const holder = el("details", {}, el("summary", {}, el("span", { class: "why" }),
      el("bdi", { class: "what" }), el("span", { class: "when" })));
    holder.addEventListener("toggle", () => {
      holder.querySelector("dl")?.remove();
      if (holder.open) {
        holder.append(letterFacts(letter));
      }
    });
    return el("li", {}, check, holder);
  }

  update(node, letter) {
    const [check, holder] = node.children;
    const [why, what, when] = holder.firstChild.children;
    const topic = plain(letter.topic);
    const said = sentenceOf(topic, letter.payload, this.serverNow()) || topic || plain(letter.id);
    check.checked = this.chosen.has(keyOf(letter));
    check.setAttribute("aria-label", `${t("letters.select")}: ${said}`);
    setText(why, reasonText(letter.reason));
    setText(what, said);
    setText(when, [plain(letter.site, 40),
      letter.at > 0 ? moment(letter.at, this.serverNow()) : ""].filter(Boolean).join(" · "));
  }

  /* ---- acting ---------------------------------------------------------------------------------- */

  ask(action) {
    const dialog = byId("confirm");
    const n = this.chosen.size;
    const force = byId("confirm-force");
    setText(byId("confirm-title"), t(`confirm.${action}`, { n }));
    setText(byId("confirm-text"), t(`confirm.${action}.text`));
    force.checked = false;
    force.parentElement.hidden = action !== "replay";
    const close = () => dialog.close();
    const go = button(t(`confirm.yes.${action}`), () => {
      close();
      this.act(action, force.checked);
    }, { class: action === "drop" ? "danger" : "primary" });
    byId("confirm-buttons").replaceChildren(button(t("cancel"), close), go);
    dialog.showModal();
  }

  async act(action, force) {
    const bySite = new Map();
    for (const letter of this.letters.filter((one) => this.chosen.has(keyOf(one)))) {
      bySite.set(letter.site, [...(bySite.get(letter.site) || []), letter.id]);
    }
    let done = 0;
    const trouble = [];
    for (const [site, ids] of bySite) {
      try {
        const answer = await this.link.post(`/api/v1/dead-letters/${action}`, { site, ids, force });
        done += number(answer.done);
        trouble.push(...list(answer.failed).map((one) => t("letters.failed",
          { id: plain(one.id, 60), why: plain(one.why) })));
      } catch (error) {
        trouble.push(t("letters.error", { why: plain(error.message) }));
      }
    }
    this.chosen.clear();
    byId("letters-result").replaceChildren(el("p", {}, t("letters.done", { n: done })),
      ...trouble.map((text) => el("p", { class: "bad" }, text)));
    await this.read();
  }
}
