// What the page says: errors in a box beside their view, and short announcements for screen readers.

import { byId, element } from "./dom.js";

/** Show an error of a view with its code and request id; null hides the box. Aborted requests are no errors. */
export function showError(box, error) {
  if (error?.name === "AbortError") return;
  box.hidden = !error;
  if (!error) {
    box.replaceChildren();
    return;
  }
  const facts = [error.code ? `code ${error.code}` : null, error.requestId ? `request ${error.requestId}` : null,
    error.retryAfterS ? `try again in ${error.retryAfterS} s` : null].filter(Boolean).join(" · ");
  // A box that changes is read aloud; one that is replaced by the same text would not be.
  box.replaceChildren(
    element("p", {}, error.message),
    ...(facts ? [element("p", { class: "facts-line" }, facts)] : []),
  );
}

/** Say a short text to screen readers, politely. */
export function announce(text) {
  const announcer = byId("announcer");
  announcer.textContent = "";
  // In the same turn a reader would see no change when the text is the same as before.
  setTimeout(() => { announcer.textContent = text; }, 60);
}
