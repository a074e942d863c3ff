// Asking before something is lost.

import { byId } from "./dom.js";

/** Ask with a title, a sentence and the name of the deed; return whether it is to be done. Escape means no. */
export function confirmed(title, text, deed) {
  const dialog = byId("confirm");
  if (dialog.open) return Promise.resolve(false);
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = deed;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
