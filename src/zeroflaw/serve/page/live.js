// The line to the service: live rows by server-sent events, and a look at its state now and then.

import { api, signals, Problem } from "./api.js";
import { $, make } from "./dom.js";
import { notice, withdraw } from "./notices.js";

const WAITS = [1, 2, 4, 8, 10]; // seconds between attempts, the last for ever
const LOOK = 30_000; // milliseconds between looks at the state
const WORDS = { connecting: "Connecting", live: "Live", offline: "No answer", locked: "Locked" };

/** Tells "live" (`detail.again` after a break), "offline", "status", and the service's events by name. */
class Line extends EventTarget {
  state = "connecting";
  #source = null;
  #failures = 0;
  #timer = 0; // of the next attempt; 0 while none is planned
  #clock = 0;
  #attempts = 0;
  #answers = false;

  start() {
    signals.addEventListener("locked", () => this.#lock());
    signals.addEventListener("unreachable", () => {
      this.#answers = false;
      this.#lost();
    });
    setInterval(() => {
      if (this.state === "live" && !document.hidden) this.look();
    }, LOOK);
    addEventListener("online", () => this.retry());
    return this.retry();
  }

  /** Try at once, whatever was waited for. */
  retry() {
    this.#rest();
    return this.#connect();
  }

  /** Ask for the state; true if there was an answer. */
  async look() {
    try {
      const status = await api.status();
      this.dispatchEvent(new CustomEvent("status", { detail: status }));
      return true;
    } catch (error) {
      // A 401 or silence has been told already; another refusal is no reason to give up the events.
      return error instanceof Problem && error.status !== 401;
    }
  }

  async #connect() {
    const mine = ++this.#attempts;
    this.#answers = await this.look();
    if (!this.#answers || mine !== this.#attempts) return;
    const source = this.#source = api.events();
    source.addEventListener("open", () => {
      const again = this.state !== "connecting";
      this.#failures = 0;
      withdraw("offline");
      this.#show("live");
      this.dispatchEvent(new CustomEvent("live", { detail: { again } }));
    });
    source.addEventListener("error", () => {
      // The browser's own attempts would go on without end and without saying why.
      if (this.#source === source) this.#lost();
    });
    for (const name of ["verdict", "feedback", "detector", "warning"]) {
      source.addEventListener(name, event => {
        this.dispatchEvent(new CustomEvent(name, { detail: JSON.parse(event.data) }));
      });
    }
  }

  /** Close the events and forget what was planned. */
  #rest() {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#timer);
    clearInterval(this.#clock);
    this.#timer = 0;
  }

  #lost() {
    if (this.#timer) return;
    this.#rest();
    const wait = WAITS[Math.min(this.#failures++, WAITS.length - 1)];
    const until = Date.now() + 1000 * wait;
    this.#show("offline");
    if (this.#failures > 1) { // a service that restarts is back before anybody could read this
      this.#announce(until);
      this.#clock = setInterval(() => this.#announce(until), 1000);
    }
    this.#timer = setTimeout(() => this.retry(), 1000 * wait);
    this.dispatchEvent(new CustomEvent("offline"));
  }

  #announce(until) {
    const left = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    if (!$("[data-key=offline]")) {
      notice("offline", {
        level: "alarm",
        title: this.#answers ? "Live rows are interrupted." : "The service does not answer.",
        text: "What is shown stays; photos that wait are kept, and sent when it is back.",
        action: { word: "Try now", does: () => this.retry() },
      });
      $("[data-key=offline] p").append(" ", make("span", { class: "wait", ariaHidden: "true" }));
    }
    $("[data-key=offline] .wait").textContent = left ? `Next attempt in ${left} s.` : "Trying …";
  }

  #lock() {
    this.#rest();
    withdraw("offline");
    this.#show("locked");
  }

  #show(state) {
    this.state = state;
    const node = $("#link");
    node.dataset.state = state;
    $("b", node).textContent = WORDS[state];
  }
}

export const line = new Line();
