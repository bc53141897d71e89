// How numbers, times and verdicts read.

export const WORDS = { flawed: "Flawed", good: "Good", none: "No verdict", error: "Not judged" };

export const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

/** Log-odds: two decimals, none where they are hundreds. */
export const short = x => (Math.abs(x) >= 100 ? x.toFixed(0) : x.toFixed(2)).replace("-", "\u2212");

export const expit = logit => 1 / (1 + Math.exp(-logit));

/** A score in [0, 1] in three digits, without pretending that it is 0 or 1. */
export function shortScore(score) {
  if (score > 0.999 && score <= 1) return "> 0.999";
  if (score < 0.001) return "< 0.001";
  return score.toFixed(3);
}

export const percent = share => {
  const value = 100 * share;
  return `${value === 0 || value >= 10 ? value.toFixed(0) : value.toPrecision(2)} %`;
};

const two = number => String(number).padStart(2, "0");

/** Day as people sort it, in the time of this machine: 2026-11-26. */
export const day = date => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;

export const clock = date => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;

/** Time of a row: the clock for today, else day and clock. */
export function moment(time) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return "";
  const today = day(date) === day(new Date());
  return today ? clock(date) : `${day(date)} ${clock(date).slice(0, 5)}`;
}

/** Name of a photo for people; a nameless one has its number. */
export const nameOf = row => row.name || (row.id === undefined ? "photo" : `photo ${row.id}`);

export const scoreOf = row => row.score ?? (isNumber(row.logit) ? expit(row.logit) : null);

export const isNumber = value => typeof value === "number" && Number.isFinite(value);

/** "score 0.993 · threshold 0.512", or what of it is known. */
export function scoreWords(row, threshold) {
  const score = scoreOf(row);
  if (!isNumber(score)) return "";
  const against = isNumber(threshold) ? ` · threshold ${shortScore(expit(threshold))}` : "";
  return `score ${shortScore(score)}${against}`;
}
