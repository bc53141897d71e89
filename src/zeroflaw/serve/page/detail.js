// One photo: large, with its heat map and regions, its figures, and what a person says about it.

import { $, make } from "./dom.js";
import { correct, undo } from "./corrections.js";
import { focusRow, visible } from "./grid.js";
import { outlines } from "./picture.js";
import { store } from "./store.js";
import {
  day, clock, expit, isNumber, nameOf, percent, scoreOf, short, shortScore, WORDS,
} from "./words.js";

const dialog = $("#detail"), photo = $(".photo", dialog), heat = $(".heat", dialog);
const stack = $(".stack", dialog), frame = $(".frame", dialog), gone = $(".gone", dialog);
const overlay = $("#overlay"), opacity = $("#opacity"), note = $("#note");
let row = null;
let shown = false; // the browser may end the dialog before the address is the page's again
let fallback = null; // what to show if the photo itself is nothing that a browser can show

export const isOpen = () => dialog.open;
export const shownRow = () => row;

/** Show a row; while it is open, the address of the page names it. */
export function open(wanted) {
  const address = `${location.pathname}${location.search}#${wanted.id}`;
  if (dialog.open) history.replaceState(history.state, "", address);
  else history.pushState({ photo: true }, "", address);
  row = wanted;
  shown = true;
  show();
  if (dialog.open) return;
  dialog.showModal();
  dialog.focus(); // not its first button: Enter and space are nobody's yet
}

/** Close; the back button of a phone does the same. */
export function close() {
  if (history.state?.photo) history.back();
  else {
    history.replaceState(null, "", location.pathname + location.search);
    put();
  }
}

// A dialog gives the focus back to the card that it was opened from, and tells of its end later: the card
// that was shown last has it at once, so that the next key goes on from there.
function put() {
  shown = false;
  dialog.close();
  heat.removeAttribute("src");
  if (store.byId.has(row.id)) focusRow(row);
}

/** Show the next photo, or the one before. */
export function step(by) {
  const rows = visible(), at = rows.indexOf(row);
  const next = at < 0 ? rows[0] : rows[at + by];
  if (next) open(next);
}

export function toggleOverlay() {
  overlay.checked = !overlay.checked;
  lay();
}

/** Show the photo in its own pixels, around its middle or its first region, or all of it again. */
export function zoom() {
  const large = frame.classList.toggle("zoomed");
  if (!large) return;
  const box = row.regions?.[0]?.box ?? [0, 0, row.width, row.height];
  frame.scrollTo(
    stack.clientWidth * (box[0] + box[2] / 2) / row.width - frame.clientWidth / 2,
    stack.clientHeight * (box[1] + box[3] / 2) / row.height - frame.clientHeight / 2,
  );
}

function lay() {
  stack.classList.toggle("bare", !overlay.checked);
  opacity.disabled = !overlay.checked || heat.hidden;
  heat.style.opacity = opacity.value / 100;
}

function show() {
  const address = row.picture ?? store.previews.get(row.id) ?? row.thumbnail;
  fallback = row.thumbnail && address !== row.thumbnail ? row.thumbnail : null;
  frame.classList.remove("zoomed");
  gone.hidden = Boolean(address);
  stack.hidden = !address;
  photo.alt = `Photo ${nameOf(row)}`;
  if (address) photo.src = address;
  else photo.removeAttribute("src");
  heat.hidden = !(address && row.map);
  if (heat.hidden) heat.removeAttribute("src");
  else heat.src = row.map;
  $(".regions", stack)?.remove();
  const drawn = outlines(row);
  if (drawn) stack.append(drawn);
  if (row.width && row.height) shape(row.width, row.height);
  lay();
  tell();
}

function shape(width, height) {
  stack.style.setProperty("--ratio", width / height);
  stack.style.setProperty("--width", `${width}px`);
}

/** Write what is said about the photo; the picture stays as it is. */
function tell() {
  const verdict = store.verdict(row), plate = $(".plate", dialog), rows = visible(), at = rows.indexOf(row);
  plate.dataset.verdict = verdict;
  $("use", plate).setAttribute("href", `#icon-${verdict}`);
  $(".word", plate).textContent = WORDS[verdict];
  $(".name", dialog).textContent = nameOf(row);
  $(".place", dialog).textContent = at < 0 ? "" : `${at + 1} of ${rows.length}`;
  $(".prev", dialog).disabled = at <= 0;
  $(".next", dialog).disabled = at < 0 || at === rows.length - 1;
  $(".mark-good", dialog).setAttribute("aria-pressed", row.label === "good");
  $(".mark-flawed", dialog).setAttribute("aria-pressed", row.label === "flawed");
  const since = row.corrected_at ? `, ${when(row.corrected_at)}` : "";
  $("#ask-title").textContent = row.label ? `Said to be ${row.label}${since}.` : "What do you say about the part?";
  if (document.activeElement !== note) note.value = row.note ?? "";
  $(".figures", dialog).replaceChildren(...figures().map(([word, text]) => make(
    "div", {}, make("dt", { textContent: word }), make("dd", { textContent: text, dir: "auto" }),
  )));
  $(".promise", dialog).textContent = origin();
}

/** Where the threshold came from that the photo is called by. */
function origin() {
  if (row.error) return "";
  if (store.tried.has(row.detector)) {
    return "Called by the threshold that is tried in this page; nothing stored has changed.";
  }
  if (isNumber(row.threshold)) return store.promise(row) ?? "";
  return "This detector had no threshold: the score ranks the photo, and gives no verdict.";
}

const when = time => `${day(new Date(time))} ${clock(new Date(time))}`;

/** Two numbers side by side: "0.993 (log-odds 4.96)". */
const both = (score, logit) => shortScore(score) + (isNumber(logit) ? ` (log-odds ${short(logit)})` : "");

function figures() {
  const threshold = store.thresholdOf(row), score = scoreOf(row), regions = row.regions ?? [];
  const largest = Math.max(0, ...regions.map(region => region.share ?? 0));
  return [
    ["Reason", row.error],
    ["Score", isNumber(score) && !row.error ? both(score, row.logit) : null],
    ["Threshold", isNumber(threshold) ? both(expit(threshold), threshold) : null],
    ["p-value", isNumber(row.p_value)
      ? `${row.p_value.toPrecision(2)}: share of good photos at least as anomalous` : null],
    ["Regions", regions.length ? `${regions.length}, the largest ${percent(largest / 100)} of the photo`
      : row.regions ? "none" : null],
    ["Size", row.width && row.height ? `${row.width} × ${row.height}` : null],
    ["Judged", row.time ? when(row.time) : null],
    ["Took", isNumber(row.milliseconds) ? `${row.milliseconds.toFixed(0)} ms` : null],
    ["Detector", row.detector],
    ["From", { http: "program", page: "this page", watch: "watched folder" }[row.source] ?? row.source],
  ].filter(([, text]) => text);
}

photo.addEventListener("load", () => {
  if (!(row.width && row.height)) shape(photo.naturalWidth, photo.naturalHeight);
});
photo.addEventListener("error", () => {
  if (!photo.getAttribute("src")) return;
  if (fallback) {
    photo.src = fallback;
    fallback = null;
    return;
  }
  stack.hidden = true;
  gone.hidden = false;
});
heat.addEventListener("error", () => {
  heat.hidden = true;
  lay();
});
overlay.addEventListener("change", lay);
opacity.addEventListener("input", lay);
overlay.checked = true;
frame.addEventListener("dblclick", zoom);

$(".prev", dialog).addEventListener("click", () => step(-1));
$(".next", dialog).addEventListener("click", () => step(1));
$(".close", dialog).addEventListener("click", close);
$(".mark-good", dialog).addEventListener("click", () => correct(row, "good"));
$(".mark-flawed", dialog).addEventListener("click", () => correct(row, "flawed"));
$(".undo", dialog).addEventListener("click", undo);
note.addEventListener("change", () => correct(row, row.label ?? null, note.value.trim()));
dialog.addEventListener("cancel", event => {
  event.preventDefault();
  close();
});
dialog.addEventListener("click", event => {
  if (event.target === dialog) close();
});
addEventListener("popstate", () => {
  if (shown && !history.state?.photo) put();
});
for (const name of ["row", "judge", "rows"]) {
  store.addEventListener(name, () => {
    if (dialog.open) tell();
  });
}
