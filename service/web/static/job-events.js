// Following one job: its status as it changes, over server-sent events, taken up again when the connection breaks.

import { requestJson, serverEvents } from "./api.js";

const OVER = new Set(["succeeded", "failed", "cancelled"]);
const PAUSE_MS = 1000;
const ATTEMPTS = 5;

/** Return whether a job has come to its end. */
export const isOver = (status) => OVER.has(status.state);

/**
 * Yield each status of a job until it is over or deleted. A connection that breaks is opened again, after asking for the
 * status once; after five failures in a row the error is raised.
 */
export async function* followJob(id, signal) {
  for (let failures = 0; ;) {
    try {
      for await (const { event, data } of serverEvents(`v1/jobs/${id}/events`, { signal })) {
        if (event !== "status" && event !== "end") continue;
        failures = 0;
        const status = JSON.parse(data);
        // Of a job that was deleted before anything was told there is no status.
        if (status.id) yield status;
        if (event === "end" || isOver(status)) return;
      }
    } catch (error) {
      failures = worse(error, failures, signal);
    }
    // The stream ended early or broke: whatever was missed is in the status.
    try {
      const status = await requestJson("GET", `v1/jobs/${id}`, { signal });
      failures = 0;
      yield status;
      if (isOver(status)) return;
    } catch (error) {
      failures = worse(error, failures, signal);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

/** Return one failure more, or raise the error where trying again cannot help. */
function worse(error, failures, signal) {
  const refused = error.status >= 400 && error.status < 500 && error.status !== 429;
  if (signal?.aborted || refused || failures + 1 >= ATTEMPTS) throw error;
  return failures + 1;
}
