/*
 * The connection to the gateway: requests with the token, and the feed of server-sent events, which
 * comes by fetch because EventSource cannot send a token. It reconnects for ever, with backoff.
 */
import { number } from "./page-words.js";

const SILENCE_MS = 15000; // the feed speaks every 2 s; after this it counts as lost
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const POLL_MS = 4000;
const STEADY_MS = 5000; // a feed that lasted so long ends the backoff
const LONGEST_EVENT = 8 << 20;
const TOKEN = "nemogate.token";

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/* Cuts a stream of text into events; told(name, data) hears each. */
class EventReader {
  constructor(told) {
    this.told = told;
    this.rest = "";
    this.name = "";
    this.data = [];
  }

  take(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    if (this.rest.length > LONGEST_EVENT) {
      throw new Error("an event without end");
    }
    lines.forEach((line) => this.line(line.replace(/\r$/, "")));
  }

  line(line) {
    if (line.startsWith("event:")) {
      this.name = line.slice(6).trim();
    } else if (line.startsWith("data:")) {
      this.data.push(line.slice(5).replace(/^ /, ""));
    } else if (line === "" && this.data.length > 0) {
      this.told(this.name, this.data.join("\n"));
      this.name = "";
      this.data = [];
    }
  }
}

export class Link {
  /* on: {status, history, message}(object), state("live" | "polling" | "lost" | "denied"), and
   * token(wrong), a promise of the token. */
  constructor(on) {
    this.on = on;
    this.wait = FIRST_WAIT_MS;
    this.wake = () => {};
    this.asking = null;
    window.addEventListener("online", () => this.wake());
  }

  headers(more = {}) {
    const token = sessionStorage.getItem(TOKEN);
    return token ? { ...more, Authorization: `Bearer ${token}` } : more;
  }

  async request(path, options = {}, headers = {}) {
    const response = await fetch(path, { cache: "no-store", redirect: "error", ...options,
      headers: this.headers(headers) });
    if (!response.ok) {
      const body = await response.json().catch(() => ({}));
      throw new ApiError(response.status, String(body?.error?.text || `HTTP ${response.status}`));
    }
    return response;
  }

  async get(path) {
    return (await this.request(path, { signal: AbortSignal.timeout(SILENCE_MS) })).json();
  }

  async post(path, body) {
    const headers = { "Content-Type": "application/json", "X-Nemogate": "1" };
    return (await this.request(path, { method: "POST", body: JSON.stringify(body) }, headers)).json();
  }

  /* Never returns. */
  async run() {
    for (;;) {
      try {
        await this.listen();
        this.on.state("lost");
      } catch (error) {
        await this.failed(error);
      }
      await this.pause();
    }
  }

  async failed(error) {
    if (error.status === 401) {
      await this.askToken();
    } else if (error.status === 503) {
      await this.poll();
    } else {
      this.on.state("lost");
    }
  }

  async askToken() {
    this.on.state("denied");
    sessionStorage.setItem(TOKEN, await this.on.token(sessionStorage.getItem(TOKEN) !== null));
    this.wait = 0;
  }

  /* The gateway has as many listeners as it takes: then the status alone, and again and again. */
  async poll() {
    try {
      const status = await this.get("/api/v1/status");
      this.on.state("polling");
      this.on.status(status);
      this.on.history(status.history);
      this.wait = POLL_MS;
    } catch {
      this.on.state("lost");
    }
  }

  pause() {
    const jitter = 0.75 + Math.random() / 2;
    const wait = this.wait * jitter;
    this.wait = Math.min(LONGEST_WAIT_MS, Math.max(FIRST_WAIT_MS, this.wait * 2));
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async listen() {
    const abort = new AbortController();
    let silence = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
      const response = await this.request("/api/v1/feed", { signal: abort.signal });
      const reader = new EventReader((name, data) => this.heard(name, data));
      const bytes = response.body.getReader();
      const begun = Date.now();
      const decoder = new TextDecoder();
      for (;;) {
        const { done, value } = await bytes.read();
        if (done) {
          return;
        }
        if (Date.now() - begun > STEADY_MS) {
          this.wait = FIRST_WAIT_MS;
        }
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort(), SILENCE_MS);
        reader.take(decoder.decode(value, { stream: true }));
      }
    } finally {
      clearTimeout(silence);
    }
  }

  /* One event that cannot be used must not end the feed. */
  heard(name, data) {
    if (!["status", "history", "message"].includes(name)) {
      return;
    }
    try {
      const value = JSON.parse(data);
      if (name === "status") {
        if (!(number(value.now) > 0)) {
          throw new Error("no status");
        }
        this.on.state("live");
      }
      this.on[name](value);
    } catch (error) {
      console.warn(`nemogate: ${name} not understood`, error);
    }
  }
}
