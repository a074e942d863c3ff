// The camera itself: permission, choice, and frames as JPEG at the size to be sent.

const JPEG_QUALITY = 0.82;

/** Why there are no frames, in words for people. */
export class CameraError extends Error {}

const REASONS = {
  NotAllowedError: "The page must be allowed to use the camera, but the browser or you refused; allow it beside the address, then start again.",
  NotFoundError: "A camera must be there, but the browser finds none; plug one in, then start again.",
  NotReadableError: "The camera must be free, but another program holds it; close that program, then start again.",
  OverconstrainedError: "The chosen camera must be there, but it is gone; start again to take another one.",
};

/** Open a camera, the chosen one if a device id is given; raises CameraError. */
export async function openCamera(deviceId) {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    throw new CameraError("A camera needs a secure page, but this one came over plain HTTP; open it by https:// or as http://localhost.");
  }
  const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, ...(deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "environment" }) };
  try {
    return await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  } catch (error) {
    throw new CameraError(REASONS[error.name] ?? `The camera must open, but the browser says: ${error.message || error.name}.`);
  }
}

/** Return [device id, name] of each camera; names are known once one was allowed. */
export async function listCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter((device) => device.kind === "videoinput").map((device, at) => [device.deviceId, device.label || `Camera ${at + 1}`]);
}

/** Takes frames from a camera, each only once, scaled so that the longer side has at most `longSide` pixels. */
export class FrameGrabber {
  constructor(media, longSide) {
    this.longSide = longSide;
    this.video = document.createElement("video");
    Object.assign(this.video, { srcObject: media, muted: true, playsInline: true });
    this.waiting = null;
  }

  /** Wait until the camera sends. */
  async ready() {
    await this.video.play();
  }

  /** Return {blob, picture} of the next new frame, or null when stopped. `picture` is a canvas with what is in the JPEG. */
  async frame() {
    await new Promise((resolve) => {
      this.waiting = resolve;
      if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(resolve);
      else requestAnimationFrame(resolve);
    });
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!this.video.srcObject || !width) return null;
    const scale = Math.min(1, this.longSide / Math.max(width, height));
    const picture = document.createElement("canvas");
    picture.width = Math.round(width * scale);
    picture.height = Math.round(height * scale);
    picture.getContext("2d").drawImage(this.video, 0, 0, picture.width, picture.height);
    const blob = await new Promise((resolve) => picture.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
    return blob && { blob, picture };
  }

  /** Let go of the camera and of who waits for a frame. */
  stop() {
    this.video.srcObject = null;
    this.waiting?.();
  }
}
