// The latest verdict, large enough for somebody who stands at the line.

import { $, settled } from "./dom.js";
import { thumbnail } from "./picture.js";
import { say } from "./notices.js";
import { store } from "./store.js";
import { expit, isNumber, moment, nameOf, plural, scoreOf, scoreWords, short, WORDS } from "./words.js";

const root = $("#latest"), stage = $(".stage", root), gauge = $(".gauge", root);

function show() {
  const row = store.latest;
  stage.hidden = !row;
  $(".invite", root).hidden = Boolean(row);
  if (!row) return;
  const verdict = store.verdict(row), threshold = store.thresholdOf(row);
  stage.dataset.verdict = verdict;
  $(".plate use", stage).setAttribute("href", `#icon-${verdict}`);
  $(".word", stage).textContent = WORDS[verdict];
  $(".name", stage).textContent = nameOf(row);
  $(".facts", stage).textContent = row.error ? row.error : scoreWords(row, threshold);
  $(".said", stage).textContent = said(row, threshold);
  if (stage.dataset.id !== String(row.id) || stage.dataset.thumbnail !== String(row.thumbnail)) {
    stage.dataset.id = row.id;
    stage.dataset.thumbnail = row.thumbnail;
    $(".shown", stage).replaceChildren(thumbnail(row));
  }
  measure(scoreOf(row), threshold);
}

function said(row, threshold) {
  const parts = [moment(row.time)];
  if (isNumber(row.p_value)) parts.push(`p ${row.p_value.toPrecision(2)}`);
  if (isNumber(row.logit) && isNumber(threshold)) {
    parts.push(`log-odds ${short(row.logit)} against ${short(threshold)}`);
  }
  if (row.regions?.length) parts.push(plural(row.regions.length, "region"));
  if (row.label) parts.push(`said to be ${row.label}`);
  if (store.tried.has(row.detector)) parts.push("by the tried threshold");
  return parts.filter(Boolean).join(" · ");
}

function measure(score, threshold) {
  gauge.hidden = !isNumber(score);
  if (gauge.hidden) return;
  $(".bar", gauge).style.width = `${100 * score}%`;
  $(".tick", gauge).hidden = !isNumber(threshold);
  if (isNumber(threshold)) $(".tick", gauge).style.left = `${100 * expit(threshold)}%`;
}

let heard = [];
const announce = settled(() => {
  const rows = heard;
  heard = [];
  if (rows.length === 1) {
    const [row] = rows;
    const score = scoreWords(row, store.thresholdOf(row));
    say(`${WORDS[store.verdict(row)]}: ${nameOf(row).slice(0, 120)}, ${score}`);
    return;
  }
  const flawed = rows.filter(row => store.verdict(row) === "flawed").length;
  say(`${plural(rows.length, "photo")} judged, ${flawed} flawed`);
}, 600);

/** A photo was judged just now, here or elsewhere. */
export function arrived(row) {
  if (row.detector !== store.detector && store.filter.of !== "*") return;
  if (store.latest && row.id < store.latest.id) return;
  if (store.latest?.id !== row.id) {
    heard.push(row);
    announce();
  }
  store.show(row);
}

store.addEventListener("latest", show);
store.addEventListener("judge", show);
