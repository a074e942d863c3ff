// The page's start: tabs, theme, the key's dialog, and the three views.

import { startCamera, stopCamera } from "./camera.js";
import { byId } from "./dom.js";
import { refuseStrayDrops } from "./files.js";
import { startMeter } from "./meter.js";
import { loadModels } from "./models.js";
import { showError } from "./notices.js";
import { startPicture } from "./picture.js";
import { startSettings } from "./settings.js";
import { startTabs } from "./tabs.js";
import { startVideo, showVideo } from "./video.js";

refuseStrayDrops();
startSettings();
startPicture();
startVideo();
startCamera();
startMeter();
startTabs((name) => {
  // Who leaves the view expects the camera's light to go out.
  if (name !== "camera") stopCamera();
  if (name === "video") showVideo();
});

async function readModels() {
  try {
    await loadModels();
  } catch (error) {
    showError(byId("picture-error"), error);
  }
}
document.addEventListener("keychange", () => {
  showError(byId("picture-error"), null);
  void readModels();
});
void readModels();
