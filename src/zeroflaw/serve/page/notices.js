// What the page has to say: notices that stay, a toast that goes, and what is read aloud.

import { $, icon, make, settled } from "./dom.js";

const shown = new Map();

/**
 * Show a notice until it is withdrawn; one of the same key takes its place.
 *
 * level is "alarm" (read aloud at once), "warning" or "note"; action, if any, has `word` and `does`; a notice
 * with `closes` can be put away.
 */
export function notice(key, { level = "note", title, text, action = null, closes = false }) {
  const said = make("p", {}, make("strong", { textContent: title }), " ", text);
  const node = make("div", { class: "notice" }, said);
  if (level !== "note") node.prepend(icon("flawed"));
  node.dataset.level = level;
  node.dataset.key = key;
  node.setAttribute("role", level === "alarm" ? "alert" : "status");
  if (action) node.append(make("button", { type: "button", textContent: action.word, onclick: action.does }));
  if (closes) {
    node.append(make("button", {
      type: "button", class: "small", textContent: "Put away", onclick: () => withdraw(key),
    }));
  }
  const old = shown.get(key);
  if (old) old.replaceWith(node);
  else $("#notices").append(node);
  shown.set(key, node);
}

export const isShown = key => shown.has(key);

export function withdraw(key) {
  shown.get(key)?.remove();
  shown.delete(key);
}

const hide = settled(() => { $("#toast").hidden = true; }, 7000);

/** Say something for a few seconds, with something to do about it if wanted. */
export function toast(text, action = null) {
  const node = $("#toast"), button = $("button", node);
  // A modal dialog covers the rest of the page: the toast goes where it is seen and read.
  (openDialogs().at(-1) ?? document.body).append(node);
  $("span", node).textContent = text;
  button.hidden = !action;
  if (action) {
    button.textContent = action.word;
    button.onclick = () => {
      node.hidden = true;
      action.does();
    };
  }
  node.hidden = false;
  hide();
}

const openDialogs = () => [...document.querySelectorAll("dialog[open]")];

const speak = settled(text => { $("#live").textContent = text; }, 250);

/** Have a sentence read aloud by those who cannot see; the last of several in a row. */
export const say = text => speak(text);
