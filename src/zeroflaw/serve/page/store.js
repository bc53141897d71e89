// What the page knows: detectors, the rows that are shown, how they are filtered, and the tried thresholds.

import { verdictOf, thresholdOf } from "./judging.js";
import { isNumber } from "./words.js";

const VERDICTS = { anomalous: "flawed", normal: "good", none: "none" };

/**
 * Tells "detectors" (list or choice changed), "rows" (another list), "row" (one was added or changed, `detail`
 * has `row` and `added`), "judge" (another threshold is tried) and "latest".
 */
class Store extends EventTarget {
  detectors = [];
  detector = null; // name of the one in use
  rows = []; // as shown, in order
  byId = new Map();
  next = null; // cursor of the following page
  total = 0;
  latest = null;
  tried = new Map(); // detector -> log-odds
  listed = ""; // verdict that the list was asked for with
  filter = { text: "", verdict: "", order: "newest", since: null, until: null, of: "" };
  previews = new Map(); // id -> object URL of a photo that was dropped here and is not kept by the service

  tell(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  get current() {
    return this.detectors.find(one => one.name === this.detector) ?? null;
  }

  get threshold() {
    return this.tried.get(this.detector) ?? this.current?.threshold ?? null;
  }

  get trying() {
    return this.tried.has(this.detector);
  }

  verdict(row) {
    return verdictOf(row, this.tried.get(row.detector));
  }

  thresholdOf(row) {
    return thresholdOf(row, this.tried.get(row.detector));
  }

  promise(row) {
    const known = this.detectors.find(one => one.name === row.detector);
    return known && (!row.fingerprint || known.fingerprint === row.fingerprint) ? known.promise : null;
  }

  /** Try a threshold on the detector in use; null goes back to its own. */
  attempt(threshold) {
    if (threshold === null) this.tried.delete(this.detector);
    else this.tried.set(this.detector, threshold);
    this.tell("judge");
  }

  /** Whether verdicts are sorted out here, since the service does not know of a tried threshold. */
  get sorts() {
    return this.tried.size > 0 && this.filter.verdict in VERDICTS;
  }

  /** The filter as the service takes it. */
  get asked() {
    const { text, verdict, order, since, until, of } = this.filter;
    const detector = of === "*" ? null : this.detector;
    return { detector, text, verdict: this.sorts ? "" : verdict, order, since, until };
  }

  hasVerdict(row) {
    const { verdict } = this.filter, called = this.verdict(row);
    if (verdict === "corrected") return Boolean(row.label);
    return !verdict || called === VERDICTS[verdict] || (verdict === "none" && called === "error");
  }

  matches(row) {
    const { text, since, until, of } = this.filter;
    const wanted = text.toLowerCase();
    return (of === "*" || row.detector === this.detector)
      && (!wanted || `${row.name ?? ""}\n${row.note ?? ""}`.toLowerCase().includes(wanted))
      && (!since || Date.parse(row.time) >= Date.parse(since))
      && (!until || Date.parse(row.time) < Date.parse(until));
  }

  /** Take the first page of a list, or one more. */
  take(page, more) {
    if (!more) {
      this.rows = [];
      this.byId.clear();
    }
    for (const row of page.rows) {
      if (this.byId.has(row.id)) continue;
      this.byId.set(row.id, row);
      this.rows.push(row);
    }
    this.next = page.next ?? null;
    this.total = isNumber(page.total) ? page.total : this.rows.length;
    this.tell("rows", { more });
  }

  /** Take a row that was judged or corrected just now, wherever it was heard from first. */
  put(row) {
    const old = this.byId.get(row.id);
    if (old) {
      Object.assign(old, row);
      this.tell("row", { row: old, added: false });
    } else if (this.matches(row) && this.filter.verdict !== "corrected" && this.insert(row)) {
      this.tell("row", { row, added: true });
    }
    if (this.latest?.id === row.id) this.show(Object.assign(this.latest, row));
  }

  insert(row) {
    const at = this.rows.findIndex(other => this.before(row, other));
    this.total++;
    // Behind the last row that is shown, it belongs to a page that was not loaded yet.
    if (at < 0 && this.next !== null) return false;
    this.rows.splice(at < 0 ? this.rows.length : at, 0, row);
    this.byId.set(row.id, row);
    return true;
  }

  before(a, b) {
    if (this.filter.order === "oldest") return a.id < b.id;
    if (this.filter.order === "highest") {
      const [x, y] = [a, b].map(row => isNumber(row.logit) ? row.logit : -Infinity);
      if (x !== y) return x > y;
    }
    return a.id > b.id;
  }

  show(row) {
    this.latest = row;
    this.tell("latest");
  }
}

export const store = new Store();
