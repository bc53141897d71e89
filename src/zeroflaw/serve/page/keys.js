// The keys. Letters are letters where something is typed.

import { $ } from "./dom.js";
import { correct, undo } from "./corrections.js";
import * as detail from "./detail.js";
import * as grid from "./grid.js";

const target = () => detail.isOpen() ? detail.shownRow() : grid.focusedRow();
const move = by => detail.isOpen() ? detail.step(by) : grid.step(by);

function mark(label) {
  const row = target();
  if (row) correct(row, label);
}

function outline() {
  if (detail.isOpen()) detail.toggleOverlay();
  else $("#cards").classList.toggle("bare");
}

const DOES = {
  j: () => move(1),
  k: () => move(-1),
  ArrowRight: () => move(1),
  ArrowLeft: () => move(-1),
  ArrowDown: () => detail.isOpen() ? detail.step(1) : grid.step(1, true),
  ArrowUp: () => detail.isOpen() ? detail.step(-1) : grid.step(-1, true),
  g: () => mark("good"),
  b: () => mark("flawed"),
  u: undo,
  o: outline,
  z: () => { if (detail.isOpen()) detail.zoom(); },
  "/": () => { if (!detail.isOpen()) $("#text").focus(); },
  "?": () => { if (!detail.isOpen()) $("#help").showModal(); },
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const at = event.target, typing = at.matches("input:not([type=radio], [type=checkbox], [type=range])");
  if (event.key === "Escape" && typing && !at.closest("dialog")) at.blur();
  const choosing = at.matches("input, select, summary");
  if (typing || at.matches("select") || at.closest("#help, #proposal, #token")) return;
  if (event.key.startsWith("Arrow")) {
    // Arrows scroll the page until somebody is among the photos.
    if (choosing || !(detail.isOpen() || grid.focusedRow())) return;
    if (detail.isOpen() && $("#detail .frame").classList.contains("zoomed")) return;
  }
  const does = DOES[event.key];
  if (!does) return;
  event.preventDefault();
  does();
});
