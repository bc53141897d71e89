// Photos on their way to the service: small batches, as fast as it takes them, none lost while it is away.

import { api, signals, Problem, Unreachable } from "./api.js";
import { pause } from "./dom.js";

const MOST = 8; // photos in a request
const BYTES = 24 * 2 ** 20; // about the bytes in a request; a larger photo goes alone
const LANES = 2; // requests at a time: one is sent while the other is judged
const LONGEST = 15; // seconds between attempts while nobody answers
const PICTURES = /\.(jpe?g|jpe|jfif|png|webp|bmp|gif|tiff?|dcm|avif|heic|heif|jp2|pgm|ppm|pnm)$/i;

/** A name for a request, so that it is judged once though it may be sent twice. */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is not there without TLS
  return [...bytes].map(byte => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether a file may be a picture; the service decides in the end. */
export const likely = file => file.type.startsWith("image/") || PICTURES.test(file.name);

/**
 * The queue. Tells "progress" after each change, "judged" (`detail`: `row`, `file`) and "failed" (`detail`:
 * `name`, `reason`) for each photo, and "done" when the last one is through.
 */
export class Uploads extends EventTarget {
  total = 0;
  done = 0;
  failed = 0;
  waits = ""; // why nothing moves just now
  #queue = [];
  #lanes = 0;
  #most = MOST;
  #stop = new AbortController();

  get busy() {
    return this.done < this.total;
  }

  /** Put named files ({file, name}) into the queue, for a detector. */
  add(files, detector) {
    if (!files.length) return;
    if (!this.busy) this.total = this.done = this.failed = 0;
    this.total += files.length;
    this.#queue.push(...files.map(one => ({ ...one, detector })));
    this.#tell("progress");
    while (this.#lanes < Math.min(LANES, this.#queue.length)) this.#run();
  }

  /** Drop what was not sent, and what is on its way. */
  cancel() {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#lanes = 0; // those that are stopped no longer count
    this.#queue = [];
    this.total = this.done;
    this.#tell("progress");
    this.#tell("done");
  }

  #tell(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #take() {
    const batch = [];
    let bytes = 0;
    while (this.#queue.length && batch.length < this.#most) {
      const next = this.#queue[0];
      const fits = next.detector === batch[0]?.detector && !next.alone && bytes + next.file.size <= BYTES;
      if (batch.length && (!fits || batch[0].alone)) break;
      bytes += next.file.size;
      batch.push(this.#queue.shift());
    }
    return batch;
  }

  async #run() {
    this.#lanes++;
    const { signal } = this.#stop;
    let failures = 0, held = null; // held: a batch that may have been judged, though no answer came
    try {
      while ((held || this.#queue.length) && !signal.aborted) {
        const batch = held ?? { files: this.#take(), key: randomKey() };
        held = null;
        try {
          const { results } = await api.detect(batch.files, batch.files[0].detector, batch.key, signal);
          failures = 0;
          this.#most = Math.min(MOST, this.#most + 1);
          this.#settle(batch.files, results);
        } catch (error) {
          if (signal.aborted) return;
          if (error instanceof Unreachable) {
            held = batch;
            const seconds = Math.min(LONGEST, 2 ** failures++);
            await this.#wait(seconds, "Waiting for the service", signal, "answered");
          } else await this.#refused(batch.files, error, failures++, signal);
        }
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      if (signal === this.#stop.signal) this.#lanes--;
    }
  }

  #settle(batch, results) {
    this.waits = "";
    batch.forEach(({ file, name }, place) => {
      const result = results[place];
      this.done++;
      if (result?.id !== undefined) this.#tell("judged", { row: result, file });
      else this.#fail(name, sentence(result?.error));
    });
    this.#advance();
  }

  #fail(name, reason) {
    this.failed++;
    this.#tell("failed", { name, reason });
  }

  #advance() {
    this.#tell("progress");
    if (!this.busy) this.#tell("done");
  }

  /** Sort out why a batch was not taken: it waits, goes in smaller parts, or is given up. */
  async #refused(batch, error, failures, signal) {
    const again = () => this.#queue.unshift(...batch);
    if (error instanceof Problem && error.status === 401) {
      again();
      await this.#wait(3600, "Waiting for the token", signal, "unlocked");
    } else if (error instanceof Problem && [429, 503].includes(error.status)) {
      again();
      this.#most = Math.max(1, Math.ceil(batch.length / 2));
      await this.#wait(error.retryAfter ?? Math.min(LONGEST, 2 ** failures), "The service is busy", signal);
    } else if (error instanceof Problem && batch.length > 1) {
      // One of them may be what is refused: each by itself then.
      for (const one of batch) one.alone = true;
      again();
    } else {
      this.done += batch.length;
      for (const { name } of batch) this.#fail(name, error.message);
      this.#advance();
      if (!(error instanceof Problem)) throw error;
    }
  }

  /** Wait some seconds, or until `signals` tells `sooner`. */
  async #wait(seconds, why, signal, sooner = "") {
    this.waits = why;
    this.#tell("progress");
    const woken = new Promise(done => signals.addEventListener(sooner || "never", done, { once: true }));
    await Promise.race([pause(1000 * seconds, signal), woken]);
    this.waits = "";
    this.#tell("progress");
  }
}

const sentence = problem => typeof problem === "string" ? problem
  : problem?.detail || problem?.title || "The service did not say why.";

/** Files of a drop, folders walked through: named files, and how many others were left out. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return sorted([...transfer.files].map(file => ({ file, name: file.name })));
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return sorted(found);
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((done, fail) => entry.file(done, fail));
    found.push({ file, name: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) { // a reader gives a hundred entries at a time
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) return;
    for (const one of some) await walk(one, found);
  }
}

/** Part named files into pictures, by name, and the number of others. */
export function sorted(files) {
  const pictures = files.filter(({ file }) => likely(file));
  pictures.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  return { pictures, others: files.length - pictures.length };
}
