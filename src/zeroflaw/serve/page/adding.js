// Photos come in by drop, choice, paste or camera; how far they are is told until all are judged.

import { $, make } from "./dom.js";
import { toast } from "./notices.js";
import { store } from "./store.js";
import { Uploads, dropped, sorted } from "./uploads.js";
import { clock, day, plural } from "./words.js";

const KEPT = 300; // photos whose files are kept in reach for showing them, where the service keeps none
const root = $("#add"), progress = $("#progress"), failures = $("#failures"), cover = $("#drop");
const uploads = new Uploads();
let round = []; // rows of this round

function take({ pictures, others }) {
  const them = others === 1 ? "is no picture and was" : "are no pictures and were";
  if (others) toast(`${plural(others, "file")} ${them} left out.`);
  if (!uploads.busy) round = [];
  uploads.add(pictures, store.detector);
}

const named = files => sorted([...files].map(file => ({ file, name: file.webkitRelativePath || file.name })));

function show() {
  const { busy, done, total, waits } = uploads, bar = $("progress", progress);
  progress.hidden = !busy;
  bar.max = total || 1;
  bar.value = done;
  $(".count", progress).textContent = `${done} of ${plural(total, "photo")}` + (waits && ` · ${waits} …`);
  $(".hint", root).hidden = busy;
}

function summarise() {
  const flawed = round.filter(row => store.verdict(row) === "flawed").length;
  const judged = round.some(row => store.verdict(row) !== "none");
  const parts = [plural(round.length, "photo") + " judged"];
  if (judged) parts.push(`${flawed} flawed`);
  $("#summary").textContent = `${parts.join(", ")}.`;
  $("#summary").hidden = !round.length;
}

function fail({ detail: { name, reason } }) {
  const list = $("ul", failures);
  const said = reason.startsWith(`${name}: `) ? reason.slice(name.length + 2) : reason;
  const heading = make("b", { textContent: name, dir: "auto" });
  list.prepend(make("li", {}, heading, make("span", { textContent: said })));
  $("summary", failures).textContent = `${plural(list.children.length, "photo")} not judged`;
  failures.hidden = false;
  if (list.children.length === 1) failures.open = true;
}

/** Remember a file of a photo that the service does not keep. */
function preview(row, file) {
  if (row.thumbnail || row.picture) return;
  store.previews.set(row.id, URL.createObjectURL(file));
  if (store.previews.size > KEPT) {
    const [oldest, address] = store.previews.entries().next().value;
    URL.revokeObjectURL(address);
    store.previews.delete(oldest);
  }
}

const carries = event => [...event.dataTransfer?.types ?? []].includes("Files");

/** Start to take photos in; `judged` is called with the row of each. */
export function listen({ judged }) {
  let inside = 0;
  addEventListener("dragenter", event => {
    if (!carries(event)) return;
    event.preventDefault();
    inside++;
    const several = store.detectors.length > 1;
    $("p", cover).textContent = several ? `Drop to judge with ${store.detector}` : "Drop to judge";
    cover.hidden = false;
  });
  addEventListener("dragleave", event => {
    if (carries(event) && --inside <= 0) cover.hidden = true;
  });
  addEventListener("dragover", event => {
    if (carries(event)) event.preventDefault();
  });
  addEventListener("drop", async event => {
    if (!carries(event)) return;
    event.preventDefault();
    inside = 0;
    cover.hidden = true;
    take(await dropped(event.dataTransfer));
  });
  addEventListener("paste", event => {
    const files = [...event.clipboardData?.files ?? []];
    if (!files.length || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    const now = new Date(), named = `pasted ${day(now)} ${clock(now).replaceAll(":", ".")}.png`;
    // Browsers call every pasted picture the same.
    take(sorted(files.map(file => ({ file, name: file.name === "image.png" ? named : file.name }))));
  });
  for (const [button, input] of [["#choose", "#files"], ["#camera", "#shot"]]) {
    $(button).addEventListener("click", () => $(input).click());
    $(input).addEventListener("change", event => {
      take(named(event.target.files));
      event.target.value = "";
    });
  }
  $("#latest .invite").addEventListener("click", () => $("#files").click());
  $(".cancel", progress).addEventListener("click", () => uploads.cancel());
  $("button", failures).addEventListener("click", () => {
    $("ul", failures).replaceChildren();
    failures.hidden = true;
  });
  uploads.addEventListener("progress", show);
  uploads.addEventListener("failed", fail);
  uploads.addEventListener("judged", ({ detail: { row, file } }) => {
    preview(row, file);
    round.push(row);
    judged(row);
  });
  uploads.addEventListener("done", summarise);
  addEventListener("beforeunload", event => {
    if (uploads.busy) event.preventDefault();
  });
}
