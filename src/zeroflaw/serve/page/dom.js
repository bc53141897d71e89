// Elements. Whatever the service sends goes in as text or as an attribute: nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (query, root = document) => root.querySelector(query);
export const all = (query, root = document) => [...root.querySelectorAll(query)];

/** Make an element: class, text, properties; then its children. */
export function make(tag, { class: names = "", ...properties } = {}, ...children) {
  const node = document.createElement(tag);
  if (names) node.className = names;
  Object.assign(node, properties);
  node.append(...children);
  return node;
}

/** Make an SVG element of attributes. */
export function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Make an icon of the page's sprite; the word beside it is what is read aloud. */
export const icon = name => draw("svg", { "aria-hidden": "true" }, draw("use", { href: `#icon-${name}` }));

/** Call `does` once, `wait` milliseconds after the last of several calls. */
export function settled(does, wait) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => does(...values), wait);
  };
}

export const pause = (milliseconds, signal) => new Promise((done, fail) => {
  const timer = setTimeout(done, milliseconds);
  signal?.addEventListener("abort", () => {
    clearTimeout(timer);
    fail(signal.reason);
  }, { once: true });
});
