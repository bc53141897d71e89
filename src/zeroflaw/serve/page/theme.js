// Runs before the page is painted, so that a chosen theme does not flash in. Where the browser forbids
// storage the choice lasts as long as the page.
"use strict";
(() => {
  const root = document.documentElement;
  const kept = () => {
    try { return localStorage; } catch { return null; }
  };
  const chosen = kept()?.getItem("theme");
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  addEventListener("DOMContentLoaded", () => document.getElementById("theme").addEventListener("click", () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
    kept()?.setItem("theme", root.dataset.theme);
  }));
})();
