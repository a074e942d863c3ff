// Playing the annotated video of a job: the browser streams it, asking for the parts that it needs.

import { requestJson } from "./api.js";
import { byId } from "./dom.js";
import { showError } from "./notices.js";
import { FILM, resultAddress } from "./results.js";

const player = byId("video-player");
// What is shown: {status, errorBox, renewed}, or null.
let shown = null;

/** Show the annotated video of a job and begin to play it, unless motion is to be reduced. */
export function playResult(status, errorBox) {
  shown = { status, errorBox, renewed: false };
  player.hidden = false;
  byId("video-stage").classList.remove("waiting");
  player.setAttribute("aria-label", `Annotated video of ${status.name || status.id}`);
  player.src = addressOf(status);
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play();
}

/** Stop and hide the player, and let go of what it held. */
export function clearPlayer() {
  shown = null;
  player.pause();
  player.removeAttribute("src");
  player.load();
  player.hidden = true;
}

const addressOf = (status) => resultAddress(status.results.find((result) => result.name === FILM));

// Browsers may refuse to begin by themselves; the controls are there.
const play = () => player.play().catch(() => {});

/** With a key the address holds for minutes, and a film may be watched for longer: go on with a new one, where it was. */
async function renew() {
  const mine = shown;
  const { currentTime, paused } = player;
  mine.renewed = true;
  try {
    const status = await requestJson("GET", `v1/jobs/${mine.status.id}`);
    if (shown !== mine) return;
    player.src = addressOf(status);
    player.currentTime = currentTime;
    if (!paused) play();
  } catch (error) {
    if (shown === mine) showError(mine.errorBox, error);
  }
}

player.addEventListener("playing", () => { if (shown) shown.renewed = false; });
player.addEventListener("error", () => {
  if (!shown) return;
  const isSigned = shown.status.results.some((result) => result.signed_url);
  // Once in a row: what fails with a new address as well is not the address.
  if (isSigned && !shown.renewed) void renew();
  else showError(shown.errorBox, new Error("The annotated video must play, but the browser cannot go on; save it and play it elsewhere."));
});
