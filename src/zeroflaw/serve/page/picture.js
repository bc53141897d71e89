// Photos with their regions drawn over them.

import { draw, icon, make } from "./dom.js";
import { store } from "./store.js";
import { nameOf } from "./words.js";

/** Outlines of a row's regions, to lie over its photo; null where there is nothing to draw. */
export function outlines(row) {
  if (!row.regions?.length || !row.width || !row.height) return null;
  const least = 0.012 * Math.max(row.width, row.height); // a flaw of a few pixels is still to be seen
  const boxes = row.regions.map(({ box: [left, top, width, height] }) => {
    const more = [Math.max(0, least - width), Math.max(0, least - height)];
    return { x: left - more[0] / 2, y: top - more[1] / 2, width: width + more[0], height: height + more[1] };
  });
  const lines = name => draw("g", { class: name }, ...boxes.map(box => draw("rect", box)));
  const whole = { class: "regions", viewBox: `0 0 ${row.width} ${row.height}`, "aria-hidden": "true" };
  return draw("svg", whole, lines("casing"), lines("outline"));
}

/** A row's thumbnail with its regions, or a sign that there is none. */
export function thumbnail(row) {
  const frame = make("span", { class: "thumb" });
  const address = row.thumbnail ?? store.previews.get(row.id);
  if (!address) {
    frame.append(icon("picture"));
    frame.classList.add("empty");
    return frame;
  }
  const image = make("img", { alt: "", loading: "lazy", decoding: "async", draggable: false });
  image.addEventListener("load", () => frame.classList.add("loaded"));
  image.addEventListener("error", () => {
    frame.replaceChildren(icon("picture"));
    frame.classList.add("empty");
  });
  image.src = address;
  frame.append(image);
  const drawn = outlines(row);
  if (drawn) frame.append(drawn);
  return frame;
}

/** What is read aloud for a row. */
export function spoken(row, said) {
  const name = nameOf(row);
  return `${name.length > 120 ? `${name.slice(0, 120)} …` : name}: ${said}`;
}
