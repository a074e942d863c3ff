// The live panel of the server: numbers of /v1/stats every two seconds while the tab is seen.

import { apiKey, requestJson } from "./api.js";
import { byId, bytesText, durationText, fillBody, fillFacts, millisecondsText } from "./dom.js";
import { isLoading } from "./models.js";

const PERIOD_MS = 2000;
const POINTS = 60;
const history = [];
let timer = null;
let asked = 0;

/** Begin to poll; hidden tabs rest, and a refused key waits for another one. */
export function startMeter() {
  const narrow = matchMedia("(max-width: 46rem)");
  byId("meter").open = !narrow.matches;
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : void poll()));
  document.addEventListener("keychange", () => void poll());
  if (!document.hidden) void poll();
}

function rest() {
  clearTimeout(timer);
  asked += 1;
}

async function poll() {
  rest();
  const mine = asked;
  try {
    const stats = await requestJson("GET", "v1/stats", { quiet: true });
    if (mine !== asked) return;
    show(stats);
    if (isLoading()) say("loading", "loading");
    else say("ready", "ready");
  } catch (error) {
    if (mine !== asked) return;
    if (error.status === 401) {
      say("locked", apiKey() ? "key refused" : "needs a key");
      return;
    }
    say(error.status === 503 ? "loading" : "away", error.status === 503 ? "loading" : "no answer");
  }
  timer = setTimeout(() => void poll(), PERIOD_MS);
}

function say(state, text) {
  byId("health").dataset.state = state;
  if (byId("health-text").textContent !== text) byId("health-text").textContent = text;
}

function show(stats) {
  history.push(stats.requests.per_s);
  history.splice(0, history.length - POINTS);
  const highest = Math.max(1, ...history);
  byId("meter-line").firstElementChild.setAttribute("points", history.map((value, at) =>
    `${((at + POINTS - history.length) * 120) / (POINTS - 1)},${(22 - (20 * value) / highest).toFixed(1)}`).join(" "));
  fillFacts(byId("meter-facts"), [
    ["Requests a second", stats.requests.per_s.toFixed(1)],
    ["Requests", stats.requests.total.toLocaleString("en")],
    ["Rejected", typeof stats.rejected === "number" ? stats.rejected.toLocaleString("en") : null],
    ["Sessions", stats.sessions],
    ["Jobs", stats.jobs ? `${stats.jobs.running} running, ${stats.jobs.queued} waiting` : null],
    ["Memory", stats.memory_bytes ? bytesText(stats.memory_bytes) : null],
    ["GPU memory", stats.gpu_memory_bytes ? bytesText(stats.gpu_memory_bytes) : null],
    ["Up", durationText(stats.uptime_s)],
  ]);
  byId("meter-models-scroll").hidden = stats.models.length === 0;
  fillBody(byId("meter-models"), stats.models.map((model) => {
    // A model that was never asked has medians of 0, which would read as very fast.
    const used = model.batch_mean > 0;
    const figures = used ? [millisecondsText(model.queue_wait_ms_p50), millisecondsText(model.infer_ms_p50), model.batch_mean.toFixed(1)] : ["–", "–", "–"];
    return { cells: [model.name, model.queue_items, ...figures] };
  }));
}
