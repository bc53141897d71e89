// Which photos are shown: read from the form, kept in the address of the page.

import { api, query } from "./api.js";
import { $, all, settled } from "./dom.js";
import { store } from "./store.js";
import { day } from "./words.js";

const form = $("#filters");
const KEYS = { text: "#text", order: "#order", when: "#when", since: "#since", until: "#until", of: "#of" };
const USUAL = { text: "", order: "newest", when: "", since: "", until: "", of: "", verdict: "" };

/** Start of a day given as 2026-11-26, in the time of this machine, `later` days on. */
function midnight(text, later = 0) {
  const [year, month, date] = text.split("-").map(Number);
  return new Date(year, month - 1, date + later).toISOString();
}

function range({ when, since, until }, now = new Date()) {
  const today = midnight(day(now));
  if (when === "hour") return { since: new Date(now - 3_600_000).toISOString(), until: null };
  if (when === "today") return { since: today, until: null };
  if (when === "week") return { since: midnight(day(now), -6), until: null };
  if (when !== "dates") return { since: null, until: null };
  return { since: since ? midnight(since) : null, until: until ? midnight(until, 1) : null };
}

function values() {
  const found = Object.fromEntries(Object.entries(KEYS).map(([name, at]) => [name, $(at).value.trim()]));
  found.verdict = $("input[name=verdict]:checked", form).value;
  return found;
}

function write(given) {
  for (const [name, at] of Object.entries(KEYS)) $(at).value = given[name] ?? USUAL[name];
  for (const radio of all("input[name=verdict]", form)) radio.checked = radio.value === (given.verdict ?? "");
  for (const name of ["order", "when", "of"]) {
    if ($(KEYS[name]).selectedIndex < 0) $(KEYS[name]).value = USUAL[name];
  }
  if (!$("input[name=verdict]:checked", form)) $("input[name=verdict]", form).checked = true;
}

/** Read the form into the store; true if something is filtered. */
export function read() {
  const found = values();
  $(".dates", form).hidden = found.when !== "dates";
  const { text, verdict, order, of } = found;
  store.filter = { text, verdict, order, of, ...range(found) };
  const set = Object.fromEntries(Object.entries(found).filter(([name, value]) => value !== USUAL[name]));
  if (store.detector && store.detector !== store.detectors[0]?.name) set.detector = store.detector;
  history.replaceState(history.state, "", location.pathname + query(set) + location.hash);
  link();
  return filtered();
}

/** Whether fewer photos than all are asked for. */
export const filtered = () => {
  const { text, verdict, since, until } = store.filter;
  return Boolean(text || verdict || since || until);
};

function link() {
  const { detector, text, since, until, order } = store.asked;
  $("#csv").href = api.csv({ detector, verdict: store.filter.verdict, since, until, text, order });
}

/** Take the filter from the address of the page; returns the detector that it names, if any. */
export function restore() {
  const given = Object.fromEntries(new URLSearchParams(location.search));
  write(given);
  return given.detector ?? null;
}

export function clear() {
  write({ order: $("#order").value, of: $("#of").value });
  form.dispatchEvent(new Event("filtered"));
}

const soon = settled(() => form.dispatchEvent(new Event("filtered")), 200);
form.addEventListener("input", event => {
  if (event.target.type === "search") soon();
});
$("#order").addEventListener("change", () => form.dispatchEvent(new Event("filtered")));
form.addEventListener("change", event => {
  if (event.target.type !== "search") form.dispatchEvent(new Event("filtered"));
});
form.addEventListener("submit", event => {
  event.preventDefault();
  form.dispatchEvent(new Event("filtered"));
});

/** Call `does` whenever other photos are wanted. */
export const onFilter = does => form.addEventListener("filtered", does);
