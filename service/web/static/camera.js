// The view of the camera: frames to a tracking session, tracks onto the very frames they belong to.

import { request, requestJson } from "./api.js";
import { byId, countText, fillBody, fillSelect } from "./dom.js";
import { CameraError, listCameras, openCamera, FrameGrabber } from "./camera-source.js";
import { modelsOf, onModels } from "./models.js";
import { announce, showError } from "./notices.js";
import { colourOf } from "./palette.js";
import { Stage } from "./stage.js";
import { TRACKERS } from "./trackers.js";
import { FrameStream } from "./stream.js";

const TRAIL_POINTS = 40;
const RATE_WINDOW_MS = 2000;
const LIST_EVERY_MS = 500;
// Who closes the tab sends no DELETE; the session then ends by itself.
const TTL_S = 60;

const canvas = byId("camera-canvas");
const toggle = byId("camera-toggle");
const errorBox = byId("camera-error");
const stage = new Stage(byId("camera-stage"), canvas, () => {});
// The live run: {media, grabber, stream, session, arrivals, trails, met, listedAt}, or null.
let run = null;
let starting = 0;

/** Wire the view to its controls. */
export function startCamera() {
  toggle.addEventListener("click", () => (run ? stopCamera("The camera is off.") : void start()));
  byId("camera-form").addEventListener("submit", (event) => event.preventDefault());
  fillSelect(byId("camera-tracker"), TRACKERS, "");
  onModels(() => {
    const models = modelsOf("detect");
    fillSelect(byId("camera-model"), models.map((model) => [model.name, model.name]), models[0]?.name);
  });
  for (const id of ["camera-device", "camera-model", "camera-tracker", "camera-side", "camera-appearance"]) {
    // A session keeps its options, so a change begins another one.
    byId(id).addEventListener("change", () => { if (run) void start(); });
  }
  window.addEventListener("pagehide", () => stopCamera());
}

/** Stop the camera and end the session; `said` is shown and read aloud. */
export function stopCamera(said) {
  starting += 1;
  const ended = run;
  run = null;
  if (ended) {
    ended.stream.close();
    ended.grabber.stop();
    for (const track of ended.media.getTracks()) track.stop();
    void request("DELETE", `v1/sessions/${ended.session.id}`, { quiet: true, keepalive: true }).catch(() => {});
  }
  sayState(said ?? "The camera is off.");
  if (ended && said) announce(said);
}

/** Open the camera, a session and its WebSocket; whatever ran before ends. */
async function start() {
  stopCamera();
  const mine = starting;
  const stale = () => mine !== starting;
  showError(errorBox, null);
  toggle.disabled = true;
  let media = null;
  let session = null;
  try {
    media = await openCamera(byId("camera-device").value);
    if (!stale()) session = await requestJson("POST", "v1/sessions", { body: JSON.stringify(options()), headers: { "Content-Type": "application/json" } });
    if (stale()) return abandon(media, session);
    const grabber = new FrameGrabber(media, Number(byId("camera-side").value));
    await grabber.ready();
    if (stale()) return abandon(media, session);
    begin(media, session, grabber);
    await offerCameras(media);
  } catch (error) {
    abandon(media, session);
    if (stale()) return;
    run = null;
    sayState("The camera is off.");
    showError(errorBox, error);
  } finally {
    toggle.disabled = false;
  }
}

function abandon(media, session) {
  for (const track of media?.getTracks() ?? []) track.stop();
  if (session) void request("DELETE", `v1/sessions/${session.id}`, { quiet: true }).catch(() => {});
}

function begin(media, session, grabber) {
  const stream = new FrameStream(session.id, {
    next: () => grabber.frame(),
    onResult,
    onEnd: (error) => {
      if (!run || run.stream !== stream) return;
      stopCamera("The camera is off: the connection ended.");
      showError(errorBox, error);
    },
  });
  run = { media, grabber, stream, session, arrivals: [], trails: new Map(), met: new Set(), listedAt: 0 };
  // A camera that is pulled out ends its track.
  media.getVideoTracks()[0].addEventListener("ended", () => {
    if (run?.media !== media) return;
    stopCamera();
    showError(errorBox, new CameraError("The camera must keep sending, but it ended; plug it in and start again."));
  });
  byId("camera-idle").hidden = true;
  toggle.textContent = "Stop the camera";
  toggle.setAttribute("aria-pressed", "true");
  stream.open();
}

function options() {
  const made = { ttl_s: TTL_S, appearance: byId("camera-appearance").checked };
  if (byId("camera-model").value) made.model = byId("camera-model").value;
  if (byId("camera-tracker").value) made.tracker = byId("camera-tracker").value;
  return made;
}

async function offerCameras(media) {
  const cameras = await listCameras();
  byId("camera-device-field").hidden = cameras.length < 2;
  fillSelect(byId("camera-device"), cameras, media.getVideoTracks()[0].getSettings().deviceId);
}

/** Draw a frame with the tracks found on it, and keep the numbers. */
function onResult(result, picture, latencyMs) {
  const now = performance.now();
  run.arrivals.push(now);
  while (run.arrivals[0] < now - RATE_WINDOW_MS) run.arrivals.shift();
  const tracks = result.tracks.filter((track) => track.state === "confirmed");
  stage.begin(result.image.width, result.image.height);
  stage.picture(picture);
  keepTrails(tracks);
  for (const [id, points] of run.trails) stage.trail(points, colourOf(id));
  stage.boxes(tracks.map((track) => ({
    box: track.box, colour: colourOf(track.id), text: `${track.id} ${track.class_name}`, dashed: track.time_since_update > 0,
  })));
  if (now - run.listedAt >= LIST_EVERY_MS) list(tracks, latencyMs, now);
}

/** Lengthen the path of each track by where it stands, and forget those that are gone. */
function keepTrails(tracks) {
  const alive = new Set(tracks.map((track) => track.id));
  for (const id of run.trails.keys()) if (!alive.has(id)) run.trails.delete(id);
  for (const { id, box: [x1, , x2, y2] } of tracks) {
    run.met.add(id);
    const points = run.trails.get(id) ?? [];
    points.push([(x1 + x2) / 2, y2]);
    points.splice(0, points.length - TRAIL_POINTS);
    run.trails.set(id, points);
  }
}

function list(tracks, latencyMs, now) {
  run.listedAt = now;
  const spanS = Math.max(0.2, (now - run.arrivals[0]) / 1000);
  byId("camera-fps").textContent = ((run.arrivals.length - 1) / spanS).toFixed(1);
  byId("camera-latency").textContent = `${Math.round(latencyMs)} ms`;
  byId("camera-met").textContent = String(run.met.size);
  const text = countText(tracks.length, "track");
  byId("camera-summary").textContent = text;
  canvas.setAttribute("aria-label", `Camera picture with ${text}`);
  fillBody(byId("camera-table"), tracks.map((track) => ({
    cells: [String(track.id), track.class_name, (track.score ?? 0).toFixed(2), track.age + 1],
  })));
}

function sayState(text) {
  toggle.textContent = "Start the camera";
  toggle.setAttribute("aria-pressed", "false");
  byId("camera-summary").textContent = text;
  byId("camera-idle").hidden = false;
  canvas.hidden = true;
  canvas.setAttribute("aria-label", "Camera is off");
  for (const id of ["camera-fps", "camera-latency", "camera-met"]) byId(id).textContent = "–";
  byId("camera-table").tBodies[0].replaceChildren();
}
