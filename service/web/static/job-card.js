// The card of one job: progress with what is left, its numbers, cancelling, and its results for download.

import { byId, button, bytesText, durationText, fillFacts, millisecondsText } from "./dom.js";
import { isOver } from "./job-events.js";
import { showError } from "./notices.js";
import { resultLink } from "./results.js";

const STATES = { queued: "waiting", running: "running", succeeded: "done", failed: "failed", cancelled: "cancelled" };
const PHASES = { track: "tracking", render: "drawing" };
let shown = "";

/** Show an upload that is on its way. */
export function showUpload(file, share, onCancel) {
  head(file.name, `uploading, ${Math.round(share * 100)} %`, share);
  fillFacts(byId("job-facts"), [["Size", bytesText(file.size)]]);
  actions(`upload ${file.name}`, () => [button("Cancel", onCancel)]);
}

/** Show the status of a job; `onCancel` and `onDelete` are what its buttons do. */
export function showJob(status, { onCancel, onDelete, errorBox }) {
  const what = status.state === "running" ? (PHASES[status.phase] ?? "running") : (STATES[status.state] ?? status.state);
  head(status.name || status.id, isOver(status) ? what : `${what}, ${Math.round(100 * status.progress)} %`, isOver(status) ? null : status.progress);
  fillFacts(byId("job-facts"), [
    ["Frames", status.frames_total ? `${status.frames_done} of ${status.frames_total}` : status.frames_done],
    ["Frames a second", status.frames_per_s ? status.frames_per_s.toFixed(1) : null],
    ["Left", !isOver(status) && status.eta_s !== null && status.eta_s !== undefined ? durationText(status.eta_s) : null],
    ["Took", tookText(status)],
    ["Tracker", status.options?.tracker ?? null],
    ["Model", status.options?.model ?? null],
    ["Note", status.warning ?? null],
    ["Kept until", status.expires_at && isOver(status) ? new Date(typeof status.expires_at === "number" ? status.expires_at * 1000 : status.expires_at).toLocaleString() : null],
  ]);
  if (status.error) showError(errorBox, status.error);
  actions(`${status.id} ${status.state} ${status.results?.length ?? 0}`, () => isOver(status)
    ? [...(status.results ?? []).map((result) => resultLink(status, result, errorBox)),
      button("Delete", onDelete)]
    : [button("Cancel", onCancel)]);
}

/** Take the card away. */
export function clearJob() {
  byId("job").hidden = true;
  shown = "";
}

function head(name, state, share) {
  byId("job").hidden = false;
  byId("job-title").textContent = name;
  byId("job-state").textContent = state;
  byId("job-progress").hidden = share === null;
  if (share !== null) byId("job-progress").value = share;
}

/** Make the buttons anew only when they change, for a press or the keyboard may be on one of them. */
function actions(mark, make) {
  if (mark === shown) return;
  shown = mark;
  byId("job-actions").replaceChildren(...make());
}

function tookText({ started_at: started, finished_at: finished }) {
  if (!started || !finished) return null;
  const seconds = typeof started === "number" ? finished - started : (new Date(finished) - new Date(started)) / 1000;
  return seconds < 1 ? millisecondsText(1000 * seconds) : durationText(seconds);
}
