// The threshold: where it came from, where photos lie, and what another one would call them.

import { $ } from "./dom.js";
import { BINS, binned, readout, span } from "./judging.js";
import { store } from "./store.js";
import { isNumber, plural, short } from "./words.js";

const root = $("#threshold"), slider = $("#slider");
const WIDE = 600, BASE = 100, UP = 92, DOWN = 42;
let low = -2, high = 2;

const rows = () => store.rows.filter(row => row.detector === store.detector && isNumber(row.logit));

function bars(counts, room, up) {
  const most = Math.max(...counts, 1), wide = WIDE / BINS;
  return counts.map((count, bin) => {
    const tall = count && Math.max(3, room * count / most);
    return count ? `M${bin * wide + 0.6} ${BASE}h${wide - 1.2}v${up ? -tall : tall}h${1.2 - wide}z` : "";
  }).join("");
}

function scale() {
  const good = store.current?.good_logits ?? [];
  const values = rows().map(row => row.logit);
  [low, high] = span([...values, ...good], store.current?.threshold);
  const tried = store.tried.get(store.detector);
  if (isNumber(tried)) [low, high] = [Math.min(low, tried), Math.max(high, tried)];
  Object.assign(slider, { min: low, max: high, step: (high - low) / 500 });
  $(".low", root).textContent = short(low);
  $(".high", root).textContent = short(high);
  const judged = bars(binned(values, low, high), UP, true);
  $(".below", root).setAttribute("d", judged);
  $(".above", root).setAttribute("d", judged);
  $(".goods", root).setAttribute("d", bars(binned(good, low, high), DOWN, false));
  $(".of-good", root).hidden = !good.length;
  place();
}

/** Put mark, colours and words where the threshold is. */
function place() {
  const threshold = store.threshold, known = isNumber(threshold);
  const x = known ? Math.max(0, Math.min(WIDE, WIDE * (threshold - low) / (high - low))) : WIDE;
  const mark = $(".mark", root);
  mark.setAttribute("x1", x);
  mark.setAttribute("x2", x);
  mark.style.display = known ? "" : "none";
  $("#called rect").setAttribute("x", x);
  if (document.activeElement !== slider || !store.trying) slider.value = known ? threshold : high;
  slider.setAttribute("aria-valuetext", known ? short(threshold) : "no threshold");
  $(".readout", root).textContent = readout(threshold, store.trying, store.current?.good_logits ?? []);
  $("#reset").hidden = !store.trying;
  const own = isNumber(store.current?.threshold);
  $("#reset").textContent = own ? "Back to the detector’s threshold" : "Back to no threshold";
  root.classList.toggle("trying", store.trying);
  compare();
}

/** Say how many of the photos were called by another threshold than the detector has now. */
function compare() {
  const now = store.current?.threshold, others = store.trying || !isNumber(now) ? 0
    : rows().filter(row => Math.abs((row.threshold ?? Infinity) - now) > 1e-9).length;
  $(".earlier", root).hidden = !others;
  const were = others === 1 ? "was" : "were";
  $(".earlier span", root).textContent = `${plural(others, "shown photo")} ${were} judged before this threshold.`;
}

function describe() {
  const { current } = store;
  root.hidden = !current;
  $(".promise", root).textContent = !current ? "" : current.promise ?? (isNumber(current.threshold)
    ? "Where this threshold came from is not known."
    : "This detector has no threshold: its scores rank photos, and give no verdict. "
      + "Good photos give it one.");
  scale();
}

let asked = 0;
function soon() {
  asked ||= requestAnimationFrame(() => {
    asked = 0;
    scale();
  });
}

$(".earlier button", root).addEventListener("click", () => store.attempt(store.current.threshold));
slider.addEventListener("input", () => store.attempt(Number(slider.value)));
$("#reset").addEventListener("click", () => {
  store.attempt(null);
  slider.focus();
});
store.addEventListener("detectors", describe);
store.addEventListener("rows", scale);
store.addEventListener("row", soon);
store.addEventListener("judge", place);
// On a phone the photos come first.
if (matchMedia("(max-width: 640px)").matches) root.open = false;
