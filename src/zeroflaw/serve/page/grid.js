// The photos: cards in order, called by the threshold that is tried, and the one that the keys are on.

import { $, icon, make } from "./dom.js";
import { spoken, thumbnail } from "./picture.js";
import { store } from "./store.js";
import { moment, nameOf, scoreOf, shortScore, isNumber, WORDS } from "./words.js";

const list = $("#cards");
const cards = new Map(); // id -> Card

class Card {
  constructor(row) {
    this.row = row;
    this.use = icon("none");
    this.word = make("b", { class: "word" });
    this.score = make("span", { class: "score" });
    this.name = make("span", { class: "name", dir: "auto" });
    this.time = make("span", { class: "time" });
    this.label = make("span", { class: "label" });
    this.thumb = thumbnail(row);
    this.button = make(
      "button", { type: "button", class: "open" }, this.thumb,
      make("span", { class: "call" }, this.use, this.word, this.score), this.name, this.time, this.label,
    );
    this.node = make("li", { class: "card" }, this.button);
    this.node.dataset.id = row.id;
    this.verdict = null;
    this.refresh();
  }

  /** Write everything anew after the row has changed. */
  refresh() {
    const { row } = this, score = scoreOf(row);
    this.score.textContent = isNumber(score) && !row.error ? shortScore(score) : "";
    this.name.textContent = nameOf(row);
    this.name.title = nameOf(row);
    this.time.textContent = row.error ? row.error : moment(row.time);
    this.label.replaceChildren();
    this.label.hidden = !row.label;
    if (row.label) this.label.append(icon("person"), `said to be ${row.label}`);
    this.judge(true);
  }

  /** Call the photo by the threshold of now. */
  judge(anew = false) {
    const verdict = store.verdict(this.row);
    if (verdict === this.verdict && !anew) return;
    if (verdict !== this.verdict) {
      this.verdict = verdict;
      this.node.dataset.verdict = verdict;
      this.use.firstChild.setAttribute("href", `#icon-${verdict}`);
      this.word.textContent = WORDS[verdict];
    }
    const label = this.row.label ? `, said to be ${this.row.label}` : "";
    const score = this.score.textContent ? `, score ${this.score.textContent}` : "";
    this.button.setAttribute("aria-label", spoken(this.row, WORDS[verdict] + score + label));
  }

  show(wanted) {
    if (this.node.hidden === wanted) this.node.hidden = !wanted;
  }
}

const cardOf = row => {
  let card = cards.get(row.id);
  if (card?.row !== row) cards.set(row.id, card = new Card(row));
  return card;
};

/** Rows whose cards are to be seen, in order. */
export const visible = () => store.rows.filter(row => store.hasVerdict(row));

function sift() {
  let flawed = 0, seen = 0;
  for (const row of store.rows) {
    const wanted = store.hasVerdict(row), card = cards.get(row.id);
    card.show(wanted);
    seen += wanted;
    flawed += wanted && card.verdict === "flawed";
  }
  tally(seen, flawed);
}

function tally(seen, flawed) {
  const more = store.next !== null;
  const of = more && store.total > seen ? ` of ${store.total.toLocaleString("en")}` : "";
  const text = `${seen.toLocaleString("en")}${of} photo${seen === 1 && !of ? "" : "s"}${of ? " shown" : ""}` +
    (flawed ? `, ${flawed.toLocaleString("en")} flawed` : "");
  $("#total").textContent = seen ? text : "";
  $("#more").hidden = !more;
  list.hidden = !seen;
  list.dispatchEvent(new CustomEvent("sifted", { detail: seen }));
}

function rebuild({ detail }) {
  const focused = document.activeElement?.closest?.(".card")?.dataset.id;
  if (!detail?.more) {
    const kept = new Set(store.rows.map(row => row.id));
    for (const id of cards.keys()) if (!kept.has(id)) cards.delete(id);
    list.replaceChildren(...store.rows.map(row => cardOf(row).node));
  } else {
    list.append(...store.rows.slice(list.children.length).map(row => cardOf(row).node));
  }
  list.removeAttribute("aria-busy");
  sift();
  if (focused && !detail?.more) cards.get(Number(focused))?.button.focus({ preventScroll: true });
}

function change({ detail: { row, added } }) {
  const card = cardOf(row);
  if (added) {
    const at = store.rows.indexOf(row);
    list.insertBefore(card.node, list.children[at] ?? null);
  } else {
    card.refresh();
    if (card.thumb.classList.contains("empty") !== !(row.thumbnail ?? store.previews.get(row.id))) {
      const thumb = thumbnail(row);
      card.thumb.replaceWith(thumb);
      card.thumb = thumb;
    }
  }
  later();
}

// Rows may come by the dozen: counting them is done once for all that came in a frame.
let asked = 0;
function later() {
  asked ||= requestAnimationFrame(() => {
    asked = 0;
    sift();
  });
}

store.addEventListener("rows", rebuild);
store.addEventListener("row", change);
store.addEventListener("judge", () => {
  for (const card of cards.values()) card.judge();
  sift();
});

/** Grey cards while the first rows are on their way. */
export function expect() {
  if (list.getAttribute("aria-busy")) return;
  list.setAttribute("aria-busy", "true");
  if (!list.children.length) {
    list.hidden = false;
    const ghost = () => make("li", { class: "card ghost", ariaHidden: "true" }, make("span", { class: "thumb" }));
    list.append(...Array.from({ length: 8 }, ghost));
  }
}

/** Give up waiting: what was there stays. */
export function expectNothing() {
  list.removeAttribute("aria-busy");
  for (const ghost of list.querySelectorAll(".ghost")) ghost.remove();
}

/** The row that has the focus, or null. */
export function focusedRow() {
  const id = document.activeElement?.closest?.(".card")?.dataset.id;
  return id === undefined ? null : store.byId.get(Number(id)) ?? null;
}

export function focusRow(row) {
  const card = cards.get(row.id);
  if (!card) return;
  card.button.focus({ preventScroll: true });
  card.node.scrollIntoView({ block: "nearest" });
}

/** Move the focus by some cards, or by some lines of cards. */
export function step(by, lines = false) {
  const rows = visible();
  if (!rows.length) return;
  const at = rows.indexOf(focusedRow());
  const columns = lines ? getComputedStyle(list).gridTemplateColumns.split(" ").length : 1;
  const next = at < 0 ? 0 : at + by * columns;
  if (rows[next]) focusRow(rows[next]);
}

