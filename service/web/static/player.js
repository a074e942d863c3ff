// Playing the annotated video of a job.

import { address, apiKey, request } from "./api.js";
import { byId } from "./dom.js";

let kept = null;

/** Show the annotated video of a job and begin to play it, unless motion is to be reduced. */
export async function playResult(status, signal) {
  const path = `v1/jobs/${status.id}/results/annotated.mp4`;
  let source = address(path).href;
  if (apiKey()) {
    // A video element sends no headers, hence no key: the whole file is fetched first.
    const blob = await (await request("GET", path, { signal })).blob();
    if (signal.aborted) return;
    source = URL.createObjectURL(blob);
    kept = source;
  }
  const player = byId("video-player");
  player.hidden = false;
  byId("video-stage").classList.remove("waiting");
  player.setAttribute("aria-label", `Annotated video of ${status.name || status.id}`);
  player.src = source;
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  // Browsers may refuse to begin by themselves; the controls are there.
  player.play().catch(() => {});
}

/** Stop and hide the player, and let go of what it held. */
export function clearPlayer() {
  const player = byId("video-player");
  player.pause();
  player.removeAttribute("src");
  player.load();
  player.hidden = true;
  if (kept) URL.revokeObjectURL(kept);
  kept = null;
}
