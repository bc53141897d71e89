// The page of a zeroflaw service: who listens to whom.

import { api, signals, Problem, Unreachable } from "./api.js";
import { $, all, make, settled } from "./dom.js";
import * as detail from "./detail.js";
import * as filters from "./filters.js";
import * as grid from "./grid.js";
import "./keys.js";
import { arrived } from "./latest.js";
import { line } from "./live.js";
import { isShown, notice, say, toast, withdraw } from "./notices.js";
import { lookSoon, onAccepted } from "./recalibration.js";
import "./session.js";
import { store } from "./store.js";
import "./threshold.js";
import { listen } from "./adding.js";

const PAGE = 100; // rows
const FEW = 24; // rows to see after "load more", where a verdict is sorted out here
let asked = 0; // number of the last request for a list; what comes of an earlier one is late
let wanted = filters.restore(); // detector that the address names

async function loadDetectors() {
  store.detectors = await api.detectors();
  if (!store.current) {
    const named = store.detectors.find(one => one.name === wanted);
    store.detector = (named ?? store.detectors[0])?.name ?? null;
  }
  const select = $("#detector");
  select.replaceChildren(...store.detectors.map(({ name, summary }) => make(
    "option", { value: name, textContent: name, title: summary ?? "" },
  )));
  select.value = store.detector ?? "";
  document.body.classList.toggle("several", store.detectors.length > 1);
  store.tell("detectors");
}

async function loadRows(more = false) {
  const mine = ++asked;
  if (!more) grid.expect();
  $("#more").disabled = true;
  try {
    const least = FEW + (more ? grid.visible().length : 0);
    let cursor = more ? store.next : null;
    do {
      const page = await api.history({ ...store.asked, limit: PAGE, cursor });
      if (mine !== asked) return;
      store.take(page, more);
      more = true;
      cursor = store.next;
    } while (cursor !== null && store.sorts && grid.visible().length < least);
    withdraw("list");
    store.listed = store.asked.verdict;
  } finally {
    if (mine === asked) {
      grid.expectNothing();
      $("#more").disabled = false;
    }
  }
}

/** The newest photo of all, whatever the list shows. */
async function loadLatest() {
  const { rows: [row = null] } = await api.history({ detector: store.detector, limit: 1, order: "newest" });
  const { latest } = store;
  if (!row || latest?.detector !== store.detector || row.id > latest.id) store.show(row);
}

async function linked() {
  const id = Number(location.hash.slice(1));
  if (!location.hash || !Number.isInteger(id) || detail.isOpen()) return;
  try {
    detail.open(store.byId.get(id) ?? await api.row(id));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    toast(error.message);
  }
}

/** Run something that asks the service; what goes wrong is told where the photos would be. */
async function attempt(does) {
  try {
    await does();
  } catch (error) {
    if (!(error instanceof Problem)) {
      if (error instanceof Unreachable) return; // told, and asked again when it is back
      throw error;
    }
    if (error.status === 401) return;
    if (!store.rows.length) blank(0, error.message);
    else {
      notice("list", {
        level: "alarm", title: "The photos could not be listed.", text: error.message,
        action: { word: "Try again", does: load },
      });
    }
  }
}

const load = () => attempt(async () => {
  await loadDetectors();
  filters.read();
  await Promise.all([loadRows(), loadLatest()]);
  await linked();
});

const reload = () => {
  filters.read();
  return attempt(() => loadRows());
};

/** Say why there are no photos to be seen: none came, the filter wants others, or something went wrong. */
function blank(seen, trouble = "") {
  const node = $("#none"), button = $("button", node);
  node.hidden = seen > 0 || (!trouble && $("#cards").hasAttribute("aria-busy"));
  $("#photos").classList.toggle("bare", !seen && !trouble && !filters.filtered());
  if (node.hidden) return;
  node.dataset.level = trouble ? "alarm" : "note";
  if (trouble) {
    $(".lead", node).textContent = "The photos could not be listed";
    $(".faint", node).textContent = trouble;
    Object.assign(button, { hidden: false, textContent: "Try again", onclick: load });
    return;
  }
  const some = filters.filtered();
  $(".lead", node).textContent = some ? "No photo is as the filter wants it" : "No photos yet";
  $(".faint", node).textContent = some ? "" : "What is judged, here or by a program, appears here at once.";
  Object.assign(button, { hidden: !some, textContent: "Show all photos", onclick: filters.clear });
}

const warned = new Map(); // key -> text, also of warnings that were put away

/** One warning is another when it begins otherwise: the same one comes again with other figures. */
const kindOf = ({ detector, text }) => `warning ${detector} ${text.replace(/\d+/g, "").slice(0, 40)}`;

function warn(warning) {
  const key = kindOf(warning), { detector, text } = warning;
  if (warned.get(key) === text || (warned.has(key) && !isShown(key))) return;
  warned.set(key, text);
  notice(key, { level: "warning", title: `${detector}:`, text, closes: true });
}

/** Show the warnings that hold, and no others. */
function warnAnew(warnings) {
  const holding = new Set(warnings.map(kindOf));
  for (const key of warned.keys()) {
    if (holding.has(key)) continue;
    withdraw(key);
    warned.delete(key);
  }
  warnings.forEach(warn);
}

$("#cards").addEventListener("sifted", event => blank(event.detail));
$("#cards").addEventListener("click", event => {
  const card = event.target.closest(".card");
  if (card && event.target.closest(".open")) detail.open(store.byId.get(Number(card.dataset.id)));
});
$("#latest .stage").addEventListener("click", () => {
  if (store.latest) detail.open(store.byId.get(store.latest.id) ?? store.latest);
});
$("#more").addEventListener("click", async () => {
  const last = grid.visible().at(-1);
  await attempt(() => loadRows(true));
  const rows = grid.visible(), next = rows[rows.indexOf(last) + 1];
  if (next) grid.focusRow(next);
});
$("#detector").addEventListener("change", event => {
  store.detector = event.target.value;
  store.tell("detectors");
  filters.read();
  attempt(() => Promise.all([loadRows(), loadLatest()]));
});
filters.onFilter(reload);

// With a tried threshold verdicts are sorted out here, so the list must hold the others, too.
const relist = settled(() => {
  if (store.asked.verdict !== store.listed) reload();
}, 250);
store.addEventListener("judge", relist);

line.addEventListener("live", ({ detail: { again } }) => {
  if (again || !store.detectors.length) load();
});
line.addEventListener("verdict", ({ detail: row }) => {
  store.put(row);
  arrived(store.byId.get(row.id) ?? row);
});
line.addEventListener("feedback", ({ detail: row }) => {
  store.put(row);
  lookSoon();
});
line.addEventListener("detector", () => attempt(loadDetectors));
line.addEventListener("warning", ({ detail: warning }) => warn(warning));
line.addEventListener("status", ({ detail: status }) => {
  $("#version").textContent = `zeroflaw ${status.version ?? ""}`.trim();
  warnAnew(status.warnings ?? []);
});
signals.addEventListener("unlocked", () => {
  line.retry();
});
onAccepted(() => attempt(loadDetectors));

$("#help-open").addEventListener("click", () => $("#help").showModal());
for (const button of all("#help .close, #proposal .close")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
listen({ judged: row => {
  store.put(row);
  arrived(store.byId.get(row.id) ?? row);
} });
addEventListener("unhandledrejection", event => {
  say("");
  toast(`Something went wrong in this page: ${event.reason?.message ?? event.reason}`);
});
line.start();
load();
