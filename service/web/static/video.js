// The view of videos: upload one as a job, follow it, list all jobs, play and save results.

import { request, requestJson, upload } from "./api.js";
import { byId, button, countText, element, fillBody, fillSelect, momentText } from "./dom.js";
import { acceptFiles } from "./files.js";
import { clearJob, showJob, showUpload } from "./job-card.js";
import { followJob, isOver } from "./job-events.js";
import { modelsOf, onModels } from "./models.js";
import { announce, showError } from "./notices.js";
import { clearPlayer, playResult } from "./player.js";
import { TRACKERS } from "./trackers.js";

const errorBox = byId("video-error");
let jobs = [];
let chosenId = null;
let following = null;
let uploading = null;

/** Wire the view to its controls. */
export function startVideo() {
  acceptFiles({
    view: byId("view-video"), input: byId("video-file"), buttons: [byId("video-choose"), byId("video-other")],
    onFile: (file) => void add(file),
  });
  byId("video-form").addEventListener("submit", (event) => event.preventDefault());
  fillSelect(byId("video-tracker"), TRACKERS, "");
  onModels(() => {
    const models = modelsOf("detect");
    fillSelect(byId("video-model"), models.map((model) => [model.name, model.name]), models[0]?.name);
    byId("video-segment").disabled = modelsOf("segment").length === 0;
  });
}

/** Bring the list up to date when the view is opened. */
export function showVideo() {
  void list();
}

/** Upload a video and follow the job it becomes; one upload at a time, which goes on while other jobs are looked at. */
async function add(file) {
  showError(errorBox, null);
  uploading?.abort();
  following?.abort();
  const mine = new AbortController();
  uploading = mine;
  chosenId = null;
  clearPlayer();
  showPlace(true);
  const isShown = () => uploading === mine && chosenId === null;
  const show = (share) => { if (isShown()) showUpload(file, share, () => mine.abort()); };
  show(0);
  try {
    const status = await upload("v1/jobs", file, { query: query(file), signal: mine.signal, onProgress: show });
    announce(`${status.name || file.name} is uploaded.`);
    jobs = [status, ...jobs];
    if (isShown()) choose(status);
    showList();
  } catch (error) {
    if (isShown()) {
      clearJob();
      showPlace(false);
    }
    showError(errorBox, error);
  }
}

function query(file) {
  return {
    name: file.name, model: byId("video-model").value, tracker: byId("video-tracker").value, conf: byId("video-conf").value,
    appearance: byId("video-appearance").checked ? null : false, segment: byId("video-segment").checked || null, render: true,
  };
}

/** Show a job and follow it to its end; then play what it made. */
function choose(status) {
  following?.abort();
  following = new AbortController();
  chosenId = status.id;
  clearPlayer();
  showPlace(true);
  void follow(status, following.signal);
}

async function follow(status, signal) {
  showError(errorBox, null);
  try {
    let last = status;
    update(last);
    if (!isOver(last)) {
      for await (const next of followJob(last.id, signal)) {
        last = next;
        update(last);
      }
      announce(`${last.name}: ${last.state}.`);
    }
    if (last.results?.some((result) => result.name === "annotated.mp4")) await playResult(last, signal);
    else showPlace(false);
  } catch (error) {
    showError(errorBox, error);
    if (error.status === 404) void list();
  }
}

/** Show a new status of a job in its card and in its row. */
function update(status) {
  if (status.id === chosenId) showJob(status, { onCancel: () => void cancel(status), onDelete: () => void remove(status), errorBox });
  const at = jobs.findIndex((job) => job.id === status.id);
  const changed = at < 0 || jobs[at].state !== status.state || isOver(status);
  if (at >= 0) jobs[at] = status;
  // A row that is replaced while the keyboard is on it would lose it, so numbers that run are shown in the card alone.
  if (changed) showList();
}

async function cancel(status) {
  await attempt(async () => update(await requestJson("POST", `v1/jobs/${status.id}/cancel`)));
}

async function remove(status) {
  await attempt(async () => {
    await request("DELETE", `v1/jobs/${status.id}`);
    if (status.id === chosenId) {
      following?.abort();
      chosenId = null;
      clearJob();
      clearPlayer();
      showPlace(false);
    }
    jobs = jobs.filter((job) => job.id !== status.id);
    showList();
    announce(`${status.name} is deleted.`);
    // The pressed button is gone; the keyboard goes on at the list.
    byId("jobs-table").closest(".scroll").focus();
  });
}

async function list() {
  await attempt(async () => {
    jobs = (await requestJson("GET", "v1/jobs")).jobs;
    showList();
  });
}

async function attempt(work) {
  try {
    await work();
    return true;
  } catch (error) {
    showError(errorBox, error);
    return false;
  }
}

function showList() {
  byId("jobs-summary").textContent = jobs.length ? countText(jobs.length, "job") : "No jobs yet.";
  fillBody(byId("jobs-table"), jobs.map((job) => ({
    attributes: { "data-id": job.id, "aria-current": job.id === chosenId ? "true" : null },
    cells: [
      element("button", { type: "button", class: "link", click: () => choose(job) }, job.name || job.id),
      element("span", { class: "state", "data-state": job.state }, job.state),
      (isOver(job) ? job.frames_done : job.frames_total) ?? "–", momentText(job.created_at),
      element("span", { class: "row" },
        isOver(job) ? button("Delete", () => void remove(job), { class: "quiet", "aria-label": `Delete ${job.name || job.id}` })
          : button("Cancel", () => void cancel(job), { class: "quiet", "aria-label": `Cancel ${job.name || job.id}` })),
    ],
  })));
}

/** Show the drop place, or hide it while a job is looked at. */
function showPlace(busy) {
  byId("video-stage").hidden = false;
  byId("video-choose").hidden = busy;
  byId("video-other").hidden = !busy;
  byId("video-stage").classList.toggle("waiting", busy);
}

