// The answer about a picture as lists: class filter, table, summary; and its exports, which hold what is shown.

import { address, apiKey, request } from "./api.js";
import { byId, countText, element, fillBody, fillHead, millisecondsText, save, swatch } from "./dom.js";
import { announce, showError } from "./notices.js";
import { colourOf, cssColour } from "./palette.js";
import { rove } from "./roving.js";

/** Return the detections that pass the slider and the class filter, best first as the server sends them. */
export function shownDetections({ answer, conf, hidden }) {
  return (answer?.detections ?? []).filter((detection) => detection.score >= conf && !hidden.has(detection.label));
}

/** Return what an answer holds, in one sentence for eyes and screen readers. */
export function describe(state) {
  const { answer } = state;
  if (answer.detections) {
    const shown = shownDetections(state).length;
    const under = answer.detections.length - shown;
    return countText(shown, "box", "boxes") + (under ? `, ${under} more hidden by the filters` : "");
  }
  const named = answer.classes.filter((entry) => !state.hidden.has(entry.label));
  if (answer.segmentation) {
    named.sort((a, b) => b.share - a.share).splice(3);
    return named.length ? `most of it ${named.map((entry) => `${entry.class_name} ${percent(entry.share)}`).join(", ")}` : "no classes shown";
  }
  if (answer.value !== null && answer.value !== undefined) return `${answer.value} ${answer.unit ?? ""}`.trim();
  return named.length ? `${named[0].class_name}, score ${named[0].score.toFixed(2)}` : "no class";
}

/** Show a checkbox for each class with its count or share; `onChange` is given the labels that are switched off. */
export function listClasses(state, onChange) {
  const entries = classEntries(state);
  const field = byId("picture-classes-field");
  field.hidden = entries.length === 0;
  const list = byId("picture-classes");
  const had = document.activeElement?.dataset?.label;
  list.replaceChildren(...entries.map(({ label, name, colour, amount }) => {
    const box = element("input", {
      type: "checkbox", checked: !state.hidden.has(label), "data-label": label,
      change: () => {
        const hidden = new Set(state.hidden);
        if (!hidden.delete(label)) hidden.add(label);
        onChange(hidden);
      },
    });
    return element("li", {}, element("label", { class: "check" }, box, swatch(colour), element("span", { class: "name" }, name), element("span", { class: "amount" }, amount)));
  }));
  // The list was made anew under the keyboard; give the focus back.
  if (had !== undefined) list.querySelector(`[data-label="${CSS.escape(had)}"]`)?.focus();
}

function classEntries({ answer, conf, colours }) {
  if (answer.segmentation) {
    return [...answer.classes].sort((a, b) => b.share - a.share).map((entry) => ({
      label: entry.label, name: entry.class_name, colour: colours[entry.label] ? cssColour(colours[entry.label]) : "transparent",
      amount: percent(entry.share),
    }));
  }
  const counted = new Map();
  for (const detection of answer.detections ?? []) {
    const entry = counted.get(detection.label) ?? { label: detection.label, name: detection.class_name, count: 0 };
    if (detection.score >= conf) entry.count += 1;
    counted.set(detection.label, entry);
  }
  return [...counted.values()].map((entry) => ({ ...entry, colour: cssColour(colourOf(entry.label)), amount: String(entry.count) }));
}

/** Fill the table and the summary; `onMark` is given the detection under the pointer or focus, or null. */
export function listResults(state, onMark) {
  const { answer } = state;
  const table = byId("picture-table");
  const times = answer.timings_ms ?? {};
  byId("picture-summary").textContent = [
    describe(state), `${answer.image.width} × ${answer.image.height}`, answer.model,
    `inference ${millisecondsText(times.infer)}, waited ${millisecondsText(times.queue)}, decoded in ${millisecondsText(times.decode)}`,
    `${millisecondsText(state.elapsedMs)} in all`,
  ].join(" · ");
  byId("picture-mask").hidden = !answer.segmentation;
  byId("picture-drawn").hidden = !answer.segmentation && !answer.detections;
  const nothing = chosenClasses(state) === "";
  byId("picture-drawn").disabled = nothing;
  byId("picture-mask").disabled = nothing;
  byId("picture-curl").disabled = nothing;
  if (answer.detections) listDetections(state, table, onMark);
  else listShares(state, table);
}

function listDetections(state, table, onMark) {
  fillHead(table, ["No.", "Class", "Score", "Left", "Top", "Right", "Bottom"], 3);
  fillBody(table, shownDetections(state).map((detection, at) => ({
    attributes: {
      "data-score": detection.score, pointerenter: () => onMark(detection), pointerleave: () => onMark(null),
      focus: () => onMark(detection), blur: () => onMark(null),
    },
    cells: [String(at + 1), detection.class_name, bar(detection.score), ...detection.box.map((value) => Number(value.toFixed(1)))],
  })));
  table.setAttribute("role", "grid");
  rove(table.tBodies[0]);
}

function listShares(state, table) {
  const { answer } = state;
  table.removeAttribute("role");
  const areas = Boolean(answer.segmentation);
  const entries = answer.classes.filter((entry) => !areas || !state.hidden.has(entry.label));
  if (areas) entries.sort((a, b) => b.share - a.share);
  fillHead(table, areas ? ["Class", "Share", "Pixels"] : ["Class", "Score", "Assigned"], 2 + Number(!areas));
  fillBody(table, entries.map((entry) => ({
    cells: areas ? [entry.class_name, bar(entry.share, percent(entry.share)), entry.pixels] : [entry.class_name, bar(entry.score), entry.assigned ? "yes" : "no"],
  })));
}

/** Return a share of 1 with a bar as long as it; the bar says nothing new to a screen reader. */
function bar(share, text = share.toFixed(3)) {
  const fill = element("span", { class: "bar-fill" });
  fill.style.width = `${Math.round(Math.max(0, Math.min(1, share)) * 100)}%`;
  return element("span", { class: "score" }, element("span", {}, text), element("span", { class: "bar-room", "aria-hidden": "true" }, fill));
}

/** Wire the buttons for JSON, annotated picture, mask and curl. */
export function wireExports(state, errorBox) {
  byId("picture-json").addEventListener("click", () => {
    const shown = state.answer.detections ? { ...state.answer, detections: shownDetections(state) } : state.answer;
    save(new Blob([JSON.stringify(shown, null, 2)], { type: "application/json" }), `${stem(state)}.json`);
  });
  byId("picture-drawn").addEventListener("click", () => void saveDrawn(state, errorBox, "image/jpeg", `${stem(state)}-annotated.jpg`));
  byId("picture-mask").addEventListener("click", () => void saveDrawn(state, errorBox, "image/png", `${stem(state)}-mask.png`));
  byId("picture-curl").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(curlCommand(state));
      announce("The command is in the clipboard.");
      flash(byId("picture-curl"));
    } catch {
      showError(errorBox, new Error(`The clipboard must be open to this page, but the browser refused it; copy this: ${curlCommand(state)}`));
    }
  });
}

async function saveDrawn(state, errorBox, type, name) {
  try {
    const answer = await request("POST", `v1/${state.task}`, {
      query: shownQuery(state), body: state.file, headers: { Accept: type, "Content-Type": state.file.type || "application/octet-stream" },
    });
    save(await answer.blob(), name);
  } catch (error) {
    showError(errorBox, error);
  }
}

/** Return the query that makes the server leave out what the filters hide. */
function shownQuery(state) {
  return { model: state.answer.model, conf: state.answer.detections ? state.conf : null, classes: chosenClasses(state) };
}

/** Return the names of the classes shown, comma-separated; null where all are, empty where none is. */
function chosenClasses({ answer, hidden }) {
  if (!hidden.size) return null;
  const all = new Map((answer.detections ?? answer.classes).map((entry) => [entry.label, entry.class_name]));
  return [...all].filter(([label]) => !hidden.has(label)).map(([, name]) => name).join(",");
}

/** Return the same question as a curl command; the key stays out of it, for commands are pasted elsewhere. */
export function curlCommand(state) {
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  return [
    "curl", quoted(address(`v1/${state.task}`, shownQuery(state)).href), "-H", quoted(`Content-Type: ${state.file.type || "application/octet-stream"}`),
    ...(apiKey() ? ["-H", '"Authorization: Bearer $STRIDE32_API_KEY"'] : []), "--data-binary", quoted(`@${state.file.name || "picture.png"}`),
  ].join(" ");
}

function flash(pressed) {
  pressed.classList.add("done");
  setTimeout(() => pressed.classList.remove("done"), 1200);
}

const stem = ({ file }) => (file.name || "picture").replace(/\.[^.]*$/, "");

const percent = (share) => (share >= 0.1 || share === 0 ? `${(100 * share).toFixed(0)} %` : `${(100 * share).toFixed(1)} %`);
