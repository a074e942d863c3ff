// The files that a job made: where they are, and links that save them.

import { address, requestJson } from "./api.js";
import { bytesText, element } from "./dom.js";
import { showError } from "./notices.js";

export const FILM = "annotated.mp4";

/** Return the address of a result that needs no header; where a key is asked for, the server has signed it. */
export const resultAddress = (result) => address((result.signed_url ?? result.url).replace(/^\//, "")).href;

/** Return a link that saves a result; the browser writes it to disk as it comes. */
export function resultLink(status, result, errorBox) {
  const name = `${(status.name || status.id).replace(/\.[^.]*$/, "")}-${result.name}`;
  const link = element("a", { class: "plain", href: resultAddress(result), download: name }, `${result.name}, ${bytesText(result.bytes)}`);
  // A signed address is too old after a while and the page may stay open for days, so a press takes a new one.
  if (result.signed_url) link.addEventListener("click", (event) => {
    if (!event.isTrusted) return;
    event.preventDefault();
    void renewed(status.id, result.name, link, errorBox);
  });
  return link;
}

async function renewed(id, name, link, errorBox) {
  try {
    const { results } = await requestJson("GET", `v1/jobs/${id}`);
    link.href = resultAddress(results.find((result) => result.name === name));
    link.click();
  } catch (error) {
    showError(errorBox, error);
  }
}
