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

/** Return whether the server still loads models. */
export const isLoading = () => known.some((model) => model.state === "loading");

/**
 * Ask the server for its models, again while it does not answer or still loads; raises what it refuses for another
 * reason.
 */
export async function loadModels() {
  for (;;) {
    try {
      known = (await requestJson("GET", "v1/models")).models;
      for (const listener of LISTENERS) listener();
      if (!isLoading()) return;
    } catch (error) {
      if (error.status !== 503 && error.code !== "unreachable") throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** Return the lowest score that a detector's card recommends, which is where its F1 was best, or null. */
export async function recommendedConf(name) {
  const { card } = await requestJson("GET", `v1/models/${encodeURIComponent(name)}`, { quiet: true });
  return card?.metrics?.find((metric) => metric.name === "f1_conf")?.value ?? null;
}
