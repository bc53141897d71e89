// The token, where the service wants one: asked for once, kept as a cookie that no script reads.

import { api, signals } from "./api.js";
import { $ } from "./dom.js";

const dialog = $("#token"), form = $("form", dialog), field = $("input[type=password]", form);
let entered = false;

signals.addEventListener("locked", () => {
  if (dialog.open) return;
  $("#token-error").textContent = entered ? "The session is over; enter the token again." : "";
  dialog.showModal();
});

form.addEventListener("submit", async event => {
  event.preventDefault();
  const button = $("button", form);
  button.disabled = true;
  try {
    await api.enter(field.value.trim());
    entered = true;
    field.value = "";
    dialog.close();
    $("#sign-out").hidden = false;
    signals.dispatchEvent(new Event("unlocked"));
  } catch (error) {
    $("#token-error").textContent = error.message;
    field.select();
  } finally {
    button.disabled = false;
  }
});
// Nothing can be done without it.
dialog.addEventListener("cancel", event => event.preventDefault());

$("#sign-out").addEventListener("click", async () => {
  await api.leave();
  location.reload();
});
