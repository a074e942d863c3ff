// The list of videos: those on their way to the server, then the jobs that they became, newest first.

import { byId, button, countText, element, fillBody, momentText } from "./dom.js";
import { isOver } from "./job-events.js";

/**
 * Fill the list. jobs: statuses. uploads: entries of the queue. shownId: what the card shows. `act` holds what buttons
 * do: choose(job), remove(job), cancel(job), look(entry), drop(entry).
 */
export function listJobs(jobs, uploads, shownId, act) {
  const table = byId("jobs-table");
  const focused = focusIn(table);
  byId("jobs-summary").textContent = [
    jobs.length || !uploads.length ? (jobs.length ? countText(jobs.length, "job") : "No jobs yet.") : null,
    uploads.length ? `${countText(uploads.length, "upload")} to go` : null,
  ].filter(Boolean).join(", ");
  fillBody(table, [...uploads.map((entry, at) => uploadRow(entry, at, shownId, act)), ...jobs.map((job) => jobRow(job, shownId, act))]);
  restoreFocus(table, focused);
}

function uploadRow(entry, at, shownId, act) {
  const { name } = entry.file;
  return {
    attributes: { "data-id": entry.id, "aria-current": entry.id === shownId ? "true" : null },
    cells: [
      at === 0 ? element("button", { type: "button", class: "link", click: () => act.look(entry) }, name) : name,
      element("span", { class: "state", "data-state": "queued" }, at === 0 ? "uploading" : "not uploaded yet"),
      "–", "–", element("span", { class: "row" }, button("Cancel", () => act.drop(entry), { class: "quiet", "aria-label": `Cancel upload of ${name}` })),
    ],
  };
}

function jobRow(job, shownId, act) {
  const name = job.name || job.id;
  return {
    attributes: { "data-id": job.id, "aria-current": job.id === shownId ? "true" : null },
    cells: [
      element("button", { type: "button", class: "link", click: () => act.choose(job) }, name),
      element("span", { class: "state", "data-state": job.state }, job.state),
      (isOver(job) ? job.frames_done : job.frames_total) ?? "–", momentText(job.created_at),
      element("span", { class: "row" },
        isOver(job) ? button("Delete", () => act.remove(job), { class: "quiet", "aria-label": `Delete ${name}` })
          : button("Cancel", () => act.cancel(job), { class: "quiet", "aria-label": `Cancel ${name}` })),
    ],
  };
}

/** Return where in the list the keyboard is: {id, at}, the row and which of its buttons; null if elsewhere. */
function focusIn(table) {
  const row = table.contains(document.activeElement) ? document.activeElement.closest("tr") : null;
  return row && { id: row.dataset.id, at: [...row.querySelectorAll("button")].indexOf(document.activeElement) };
}

/** The rows were made anew under the keyboard; give the focus back, or to the list where the row is gone. */
function restoreFocus(table, focused) {
  if (!focused) return;
  const row = [...table.tBodies[0].rows].find((one) => one.dataset.id === focused.id);
  (row?.querySelectorAll("button")[focused.at] ?? table.closest(".scroll")).focus();
}
