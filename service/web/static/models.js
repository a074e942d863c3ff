// The models of the server, asked for once and again when the key changes or the server was loading.

import { requestJson } from "./api.js";

const RETRY_MS = 1500;
const LISTENERS = new Set();
let known = [];

/** Call `listener` now and whenever the list of models changes. */
export function onModels(listener) {
  LISTENERS.add(listener);
  listener();
}

/** Return the models of a task that can be asked, the default first; with `ready` only those loaded. */
export function modelsOf(task, { ready = false } = {}) {
  return known
    .filter((model) => model.task === task && model.state !== "failed" && (!ready || model.state === "ready"))
    .sort((a, b) => Number(b.default) - Number(a.default));
}

/** Ask the server for its models until it answers; raises what it refuses for another reason than still loading. */
export async function loadModels() {
  for (;;) {
    try {
      known = (await requestJson("GET", "v1/models")).models;
      for (const listener of LISTENERS) listener();
      return;
    } catch (error) {
      if (error.status !== 503 && error.code !== "unreachable") throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}
