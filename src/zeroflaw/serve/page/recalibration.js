// Corrections that ask for another threshold: the figures of both, side by side; a person decides.

import { api, Problem } from "./api.js";
import { $, icon, make, settled } from "./dom.js";
import { onCorrection } from "./corrections.js";
import { thumbnail } from "./picture.js";
import { toast } from "./notices.js";
import { store } from "./store.js";
import { expit, isNumber, nameOf, percent, plural, short, shortScore, WORDS } from "./words.js";

const panel = $("#corrections"), dialog = $("#proposal");
const FIGURES = [
  ["Threshold", ({ threshold }) => isNumber(threshold)
    ? `${shortScore(expit(threshold))} (log-odds ${short(threshold)})` : "none"],
  ["Good parts called flawed", one => share(one.false_alarms)],
  ["Flawed parts found", one => share(one.recall)],
];
let found = null;

const share = value => isNumber(value) ? percent(value) : "–";

/** Ask the service what the corrections so far would give. */
async function look() {
  const name = store.detector;
  if (!name) return;
  try {
    found = await api.recalibration(name);
  } catch (error) {
    if (!(error instanceof Problem) || error.status === 401) return; // told elsewhere, asked again later
    found = { labelled: { good: 0, flawed: 0 }, possible: false, why_not: error.message };
  }
  if (name === store.detector) show();
}

function show() {
  const { good, flawed } = found.labelled;
  panel.hidden = !(good + flawed);
  $(".labelled", panel).textContent =
    `${plural(good + flawed, "photo")} corrected: ${good} said to be good, ${flawed} flawed.`;
  const same = found.possible && found.now && Math.abs(found.proposed.threshold - found.now.threshold) < 1e-9;
  const why = same ? "The threshold is the one that they ask for." : found.why_not ?? "";
  $(".why", panel).textContent = why;
  $(".why", panel).hidden = !why;
  $("#propose").hidden = !found.possible || same;
}

async function propose() {
  await look();
  if (!found?.possible) return;
  const { now, proposed, labelled, changes: { count, ids } } = found;
  $(".basis", dialog).textContent =
    `From ${plural(labelled.good, "photo")} said to be good and ${labelled.flawed} said to be flawed.`;
  $("tbody", dialog).replaceChildren(...FIGURES.map(([word, text]) => make(
    "tr", {}, make("th", { scope: "row", textContent: word }),
    make("td", { textContent: text(now ?? {}) }), make("td", { textContent: text(proposed) }),
  )));
  $(".promise", dialog).textContent = proposed.promise ?? "";
  const shown = store.rows.filter(row => row.detector === store.detector && isNumber(row.logit));
  const called = row => row.logit >= proposed.threshold;
  const other = shown.filter(row => called(row) !== (store.verdict(row) === "flawed")).length;
  $(".effect", dialog).textContent = `Of the ${plural(shown.length, "photo")} shown in the page ${other} ` +
    `would be called otherwise; of those corrected ${count || "none"}${count ? ":" : "."}`;
  const rows = await Promise.all(ids.map(id => store.byId.get(id) ?? api.row(id)));
  $(".changed", dialog).replaceChildren(...rows.map(row => {
    const verdict = called(row) ? "flawed" : "good", becomes = `becomes ${WORDS[verdict].toLowerCase()}`;
    return make(
      "li", {}, thumbnail(row), make("span", { class: `call v-${verdict}` }, icon(verdict), becomes),
      make("span", { class: "name", textContent: nameOf(row), title: nameOf(row), dir: "auto" }),
    );
  }));
  dialog.showModal();
}

async function accept() {
  const button = $("#accept");
  button.disabled = true;
  try {
    await api.recalibrate(store.detector);
    dialog.close();
    toast("The new threshold holds for photos from now on.");
    dialog.dispatchEvent(new Event("accepted"));
    await look();
  } catch (error) {
    toast(`The threshold was not changed: ${error.message}`);
  } finally {
    button.disabled = false;
  }
}

/** Call `does` after a proposal was accepted here. */
export const onAccepted = does => dialog.addEventListener("accepted", does);

export const lookSoon = settled(look, 800);
$("#propose").addEventListener("click", () => propose().catch(error => toast(error.message)));
$("#accept").addEventListener("click", accept);
onCorrection(lookSoon);
store.addEventListener("detectors", lookSoon);
