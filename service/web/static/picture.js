// The view of one picture: choose it, ask the server, draw the answer; picture-results.js lists and exports it.

import { request, requestJson } from "./api.js";
import { byId, exchange, fillSelect } from "./dom.js";
import { acceptFiles } from "./files.js";
import { modelsOf, onModels, recommendedConf } from "./models.js";
import { announce, showError } from "./notices.js";
import { colourOf, maskColours } from "./palette.js";
import { decodeRuns, maskPicture } from "./mask.js";
import { describe, listClasses, listResults, shownDetections, wireExports } from "./picture-results.js";
import { Stage } from "./stage.js";

// All scores above this are asked for at once; the slider then only hides.
const ASKED_CONF = 0.1;

const view = byId("view-picture");
const canvas = byId("picture-canvas");
const stage = new Stage(byId("picture-stage"), canvas, () => draw());
const errorBox = byId("picture-error");

// What is shown. `hidden` holds labels switched off; `marked` is the row under the pointer or the keyboard's focus.
const state = {
  file: null, bitmap: null, serverDrawn: false, task: "detect", answer: null, runs: null, colours: [], hidden: new Set(),
  conf: 0.4, confIsChosen: false, opacity: 0.5, marked: null,
};
let asking = null;
let drawingSoon = false;

/** Wire the view to its controls. */
export function startPicture() {
  acceptFiles({
    view, input: byId("picture-file"), buttons: [byId("picture-choose"), byId("picture-other")], paste: true,
    onFile: (file) => void open(file),
  });
  for (const radio of document.querySelectorAll("input[name=task]")) {
    radio.addEventListener("change", () => chooseTask(radio.value));
  }
  byId("picture-model").addEventListener("change", () => {
    void adoptConf();
    void ask();
  });
  byId("picture-form").addEventListener("submit", (event) => event.preventDefault());
  byId("picture-conf").addEventListener("input", (event) => {
    state.conf = Number(event.target.value);
    state.confIsChosen = true;
    refresh();
  });
  byId("picture-opacity").addEventListener("input", (event) => {
    state.opacity = Number(event.target.value);
    sayControls();
    drawSoon();
  });
  byId("picture-all").addEventListener("click", () => setHidden([]));
  byId("picture-none").addEventListener("click", () => setHidden((state.answer?.classes ?? classesFound()).map((entry) => entry.label)));
  wireExports(state, errorBox);
  onModels(offerModels);
  sayControls();
}

/** Take a new picture: show it at once, then ask the server. */
async function open(file) {
  asking?.abort();
  Object.assign(state, { file, answer: null, runs: null, hidden: new Set(), marked: null, bitmap: null, serverDrawn: false });
  showError(errorBox, null);
  byId("picture-results").hidden = true;
  byId("picture-classes-field").hidden = true;
  // The server's coordinates belong to the upright picture, so the orientation is applied here as well.
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  if (state.file !== file) return;
  state.bitmap = bitmap;
  canvas.hidden = !bitmap;
  showPlace(!bitmap);
  draw();
  await ask();
}

/** Ask the server about the picture with the task and model chosen; an earlier question is dropped. */
async function ask() {
  asking?.abort();
  if (!state.file) return;
  const question = new AbortController();
  asking = question;
  busy(true);
  showError(errorBox, null);
  const started = performance.now();
  try {
    const answer = await answerWhenReady(question.signal);
    if (!state.bitmap) await showServersPicture(question.signal);
    take(answer, performance.now() - started);
  } catch (error) {
    if (error.name === "AbortError") return;
    state.answer = null;
    byId("picture-results").hidden = true;
    byId("picture-classes-field").hidden = true;
    draw();
    showError(errorBox, error);
  } finally {
    if (asking === question) busy(false);
  }
}

/** Return the server's answer; while it still loads models, ask again. */
async function answerWhenReady(signal) {
  for (;;) {
    try {
      return await requestJson("POST", `v1/${state.task}`, {
        query: { model: byId("picture-model").value, conf: state.task === "detect" ? ASKED_CONF : null },
        body: state.file, headers: { "Content-Type": state.file.type || "application/octet-stream" }, signal,
      });
    } catch (error) {
      if (error.code !== "not_ready") throw error;
      byId("picture-busy").textContent = "The server is loading";
      await new Promise((resolve) => setTimeout(resolve, 1000 * (error.retryAfterS ?? 1)));
      signal.throwIfAborted();
    }
  }
}

/** Keep an answer and show it everywhere. */
function take(answer, elapsedMs) {
  state.answer = answer;
  state.elapsedMs = elapsedMs;
  state.hidden = new Set();
  state.marked = null;
  state.runs = answer.segmentation ? decodeRuns(answer.segmentation) : null;
  state.colours = answer.segmentation ? maskColours(answer.class_names) : [];
  byId("picture-results").hidden = false;
  refresh();
  announce(describe(state));
}

/** For a format that this browser cannot decode: let the server draw it. */
async function showServersPicture(signal) {
  if (state.task === "classify") return;
  const drawn = await request("POST", `v1/${state.task}`, {
    query: { model: byId("picture-model").value }, body: state.file, headers: { Accept: "image/jpeg" }, signal,
  });
  state.bitmap = await createImageBitmap(await drawn.blob());
  state.serverDrawn = true;
  showPlace(false);
}

const showPlace = (is) => exchange(...(is ? [byId("picture-other"), byId("picture-choose")] : [byId("picture-choose"), byId("picture-other")]));

/** Bring list, table and drawing in line with the filters. */
function refresh() {
  sayControls();
  if (!state.answer) return;
  listClasses(state, setHidden);
  listResults(state, (marked) => {
    state.marked = marked;
    drawSoon();
  });
  drawSoon();
}

function setHidden(labels) {
  state.hidden = new Set(labels);
  refresh();
}

/** Return the classes of all detections, whatever their score. */
function classesFound() {
  const found = new Map((state.answer?.detections ?? []).map((detection) => [detection.label, detection]));
  return [...found.values()];
}

function chooseTask(task) {
  Object.assign(state, { task, answer: null, runs: null, hidden: new Set() });
  // What the server drew belongs to the task before.
  if (state.serverDrawn) Object.assign(state, { bitmap: null, serverDrawn: false });
  offerModels();
  sayControls();
  byId("picture-results").hidden = true;
  byId("picture-classes-field").hidden = true;
  draw();
  void ask();
}

function offerModels() {
  const models = modelsOf(state.task);
  fillSelect(byId("picture-model"), models.map((model) => [model.name, model.name]), models.find((model) => model.default)?.name);
  byId("task-classify").hidden = modelsOf("classify", { ready: true }).length === 0;
  void adoptConf();
}

/** Put the slider where the detector's card says, unless somebody moved it. */
async function adoptConf() {
  const name = byId("picture-model").value;
  if (state.task !== "detect" || !name) return;
  const conf = await recommendedConf(name).catch(() => null);
  if (conf === null || state.confIsChosen || byId("picture-model").value !== name) return;
  state.conf = Math.max(ASKED_CONF, conf);
  byId("picture-conf").value = state.conf;
  refresh();
}

function sayControls() {
  byId("picture-conf-field").hidden = state.task !== "detect";
  byId("picture-opacity-field").hidden = state.task !== "segment";
  byId("picture-conf-out").textContent = state.conf.toFixed(2);
  byId("picture-opacity-out").textContent = `${Math.round(state.opacity * 100)} %`;
}

function busy(is) {
  byId("picture-busy").hidden = !is;
  byId("picture-busy").textContent = "Working";
  byId("picture-stage").setAttribute("aria-busy", String(is));
}

/** Draw in the next frame; many changes of a slider are then one drawing. */
function drawSoon() {
  if (drawingSoon) return;
  drawingSoon = true;
  requestAnimationFrame(() => {
    drawingSoon = false;
    draw();
  });
}

function draw() {
  if (!state.bitmap) return;
  const size = state.serverDrawn ? state.bitmap : (state.answer?.image ?? state.bitmap);
  stage.begin(size.width, size.height);
  stage.picture(state.bitmap);
  canvas.setAttribute("aria-label", `${state.file.name || "pasted picture"}: ${state.answer ? describe(state) : "not looked at yet"}`);
  if (!state.answer || state.serverDrawn) return;
  if (state.runs) {
    stage.picture(maskPicture(state.runs, state.colours, state.hidden, state.opacity), { smooth: false });
    return;
  }
  const shown = shownDetections(state);
  stage.boxes(shown.map((detection) => ({
    box: detection.box, colour: colourOf(detection.label), text: `${detection.class_name} ${detection.score.toFixed(2)}`,
    strong: detection === state.marked, faint: shown.includes(state.marked) && detection !== state.marked,
  })));
}
