// What a person says about a part; it is shown at once, and taken back if the service refuses it.

import { api } from "./api.js";
import { toast } from "./notices.js";
import { store } from "./store.js";
import { nameOf } from "./words.js";

const undone = []; // what was there before each correction, the last at the end
const changed = new EventTarget();

const brief = row => nameOf(row).length > 60 ? `${nameOf(row).slice(0, 60)} …` : nameOf(row);

async function give(row, label, note) {
  const before = { label: row.label ?? null, note: row.note ?? "" };
  store.put(Object.assign(row, { label, note }));
  try {
    store.put(await api.feedback(row.id, label, note));
  } catch (error) {
    store.put(Object.assign(row, before));
    toast(`The correction of ${brief(row)} was not kept: ${error.message}`);
    return false;
  }
  changed.dispatchEvent(new Event("changed"));
  return true;
}

/** Say that a part is "good" or "flawed" (or null: say nothing about it), with a note. */
export async function correct(row, label, note = row.note ?? "") {
  const before = { label: row.label ?? null, note: row.note ?? "" };
  if (before.label === label && before.note === note) return;
  if (!await give(row, label, note)) return;
  undone.push({ row, ...before });
  const what = before.label === label ? "Note kept" : label ? `Said to be ${label}` : "Correction taken back";
  toast(`${what}: ${brief(row)}`, { word: "Undo", does: undo });
}

/** Take the last correction of this page back. */
export async function undo() {
  const last = undone.pop();
  if (!last) {
    toast("There is nothing to undo.");
    return;
  }
  if (await give(last.row, last.label, last.note)) toast(`Undone: ${brief(last.row)}`);
  else undone.push(last);
}

/** Call `does` after each correction that was kept. */
export const onCorrection = does => changed.addEventListener("changed", does);
