// The view of videos: upload them as jobs, follow one, list all jobs, play and save results.

import { request, requestJson } from "./api.js";
import { confirmed } from "./confirm.js";
import { byId, exchange, fillSelect } from "./dom.js";
import { acceptFiles } from "./files.js";
import { clearJob, showJob, showUpload } from "./job-card.js";
import { followJob, isOver } from "./job-events.js";
import { listJobs } from "./jobs-table.js";
import { modelsOf, onModels } from "./models.js";
import { announce, showError } from "./notices.js";
import { clearPlayer, playResult } from "./player.js";
import { FILM } from "./results.js";
import { TRACKERS } from "./trackers.js";
import { UploadQueue } from "./upload-queue.js";

const errorBox = byId("video-error");
const uploads = new UploadQueue({ onChange: uploadsChanged, onDone: uploaded, onFail: notUploaded });
const act = {
  choose, remove: (job) => void remove(job), cancel: (job) => void cancel(job), look: showUploadOf, drop: (entry) => uploads.cancel(entry),
};
let jobs = [];
// What the card shows: the id of a job or of an upload, or null.
let shownId = null;
let following = null;
let listed = "";

/** Wire the view to its controls. */
export function startVideo() {
  acceptFiles({
    view: byId("view-video"), input: byId("video-file"), buttons: [byId("video-choose"), byId("video-other")],
    onFile: add, several: true,
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

/** Take a video: it is uploaded after those that came before, with the options of this moment. */
function add(file) {
  showError(errorBox, null);
  const entry = uploads.add(file, query(file));
  if (entry === uploads.current) showUploadOf(entry);
  else announce(`${file.name} is uploaded after ${uploads.entries.at(-2).file.name}.`);
}

function query(file) {
  return {
    name: file.name, model: byId("video-model").value, tracker: byId("video-tracker").value, conf: byId("video-conf").value,
    appearance: byId("video-appearance").checked ? null : false, segment: byId("video-segment").checked || null, render: true,
  };
}

/** Show an upload in the card, in the place of whatever was there. */
function showUploadOf(entry) {
  following?.abort();
  shownId = entry.id;
  clearPlayer();
  showPlace(true);
  uploadsChanged();
}

function uploadsChanged() {
  const entry = uploads.entries.find(({ id }) => id === shownId);
  if (entry) showUpload(entry.file, entry.share, () => uploads.cancel(entry));
  showList();
}

function uploaded(status, entry) {
  announce(`${status.name || entry.file.name} is uploaded.`);
  jobs = [status, ...jobs];
  if (shownId === entry.id) choose(status);
  showList();
}

function notUploaded(error, entry) {
  if (shownId === entry.id) showNothing();
  showError(errorBox, error);
  if (uploads.current && shownId === null) showUploadOf(uploads.current);
}

/** Show a job and follow it to its end; then play what it made. */
function choose(status) {
  following?.abort();
  following = new AbortController();
  shownId = status.id;
  clearPlayer();
  showPlace(true);
  showError(errorBox, null);
  update(status);
  void follow(status, following.signal);
}

async function follow(status, signal) {
  try {
    let last = status;
    // What the list knows of a finished job may be old, its addresses too.
    if (isOver(last)) last = await requestJson("GET", `v1/jobs/${last.id}`, { signal });
    else {
      for await (const next of followJob(last.id, signal)) {
        last = next;
        if (signal.aborted) return;
        update(last);
      }
      announce(`${last.name}: ${last.state}.`);
    }
    if (signal.aborted) return;
    update(last);
    if (last.results?.some((result) => result.name === FILM)) playResult(last, errorBox);
    else showPlace(false);
    // A job that ended without a result may have been deleted elsewhere.
    if (last.state !== "succeeded") void list();
  } catch (error) {
    if (signal.aborted) return;
    showError(errorBox, error);
    if (error.status === 404) {
      showNothing();
      void list();
    }
  }
}

/** Show a new status of a job in its card and in its row. */
function update(status) {
  if (status.id === shownId) showJob(status, { onCancel: () => void cancel(status), onDelete: () => void remove(status), errorBox });
  const at = jobs.findIndex((job) => job.id === status.id);
  if (at >= 0) jobs[at] = status;
  showList();
}

async function cancel(status) {
  await attempt(async () => update(await requestJson("POST", `v1/jobs/${status.id}/cancel`)));
}

async function remove(status) {
  const name = status.name || status.id;
  if (!(await confirmed(`Delete ${name}?`, "The server removes the job with all its results. This cannot be undone.", "Delete"))) return;
  await attempt(async () => {
    await request("DELETE", `v1/jobs/${status.id}`).catch((error) => {
      // Gone already, which is what was asked for.
      if (error.status !== 404) throw error;
    });
    jobs = jobs.filter((job) => job.id !== status.id);
    if (status.id === shownId) showNothing();
    showList();
    announce(`${name} is deleted.`);
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
  } catch (error) {
    showError(errorBox, error);
  }
}

/** Make the list anew where it shows something else; a row that is replaced under the pointer would lose the press. */
function showList() {
  const mark = JSON.stringify([shownId, uploads.entries.map(({ id }) => id), jobs.map(({ id, state, frames_total: total }) => [id, state, total])]);
  if (mark === listed) return;
  listed = mark;
  listJobs(jobs, uploads.entries, shownId, act);
}

/** Empty the card and show the drop place. */
function showNothing() {
  following?.abort();
  shownId = null;
  clearJob();
  clearPlayer();
  showPlace(false);
}

/** Show the drop place, or hide it while a job is looked at. */
function showPlace(busy) {
  const [choose, other] = [byId("video-choose"), byId("video-other")];
  exchange(...(busy ? [choose, other] : [other, choose]));
  byId("video-stage").classList.toggle("waiting", busy);
}
