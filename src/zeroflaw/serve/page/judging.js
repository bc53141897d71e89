// What a row is called under a threshold, and what a threshold would cost. Nothing here touches the page.

import { isNumber, plural, expit, shortScore, short } from "./words.js";

export const BINS = 48;

/** Threshold (log-odds) that a row is called by: the tried one, or its own; null where there is none. */
export const thresholdOf = (row, tried) => tried ?? row.threshold ?? null;

/** "flawed", "good", "none" (there is no threshold) or "error" (the file could not be judged). */
export function verdictOf(row, tried) {
  if (row.error) return "error";
  if (isNumber(tried) && isNumber(row.logit)) return row.logit >= tried ? "flawed" : "good";
  if (row.anomalous === true) return "flawed";
  return row.anomalous === false ? "good" : "none";
}

/** Lowest and highest log-odds to draw, with room beside them. */
export function span(values, threshold) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) [low, high] = isNumber(threshold) ? [threshold - 2, threshold + 2] : [-2, 2];
  const wide = high - low || 1;
  if (isNumber(threshold)) {
    // A threshold far away must not press the photos into one bar.
    low = Math.max(Math.min(low, threshold), low - 3 * wide);
    high = Math.min(Math.max(high, threshold), high + 3 * wide);
  }
  const pad = 0.03 * (high - low) || 0.5;
  return [low - pad, high + pad];
}

/** Number of values in each of `BINS` equal bins. */
export function binned(values, low, high) {
  const counts = new Array(BINS).fill(0);
  for (const value of values) {
    const at = Math.floor((value - low) / (high - low) * BINS);
    counts[Math.max(0, Math.min(BINS - 1, at))]++;
  }
  return counts;
}

/** What a threshold is and how many good parts it would call flawed, as a sentence or two. */
export function readout(threshold, tried, good) {
  if (!isNumber(threshold)) return "No threshold yet: move the slider to try one.";
  const said = `${tried ? "Tried threshold" : "Threshold"}: score ${shortScore(expit(threshold))}, ` +
    `log-odds ${short(threshold)}. `;
  if (!good.length) return said + "Without good photos false alarms cannot be foreseen.";
  const above = good.filter(value => value >= threshold).length;
  const rate = (1 + above) / (good.length + 1);
  return `${said}${above} of ${plural(good.length, "good photo")} reach it: on average no more than ` +
    `${(100 * rate).toPrecision(2)} % of good parts do (1 in ${(1 / rate).toFixed(rate > 0.3 ? 1 : 0)}).`;
}
