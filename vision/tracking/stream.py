"""One stream's step in time: the motion of its camera, then its tracker; both advance or neither does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vision.errors import VisionError
from vision.timing import timed
from vision.tracking.tracker import Tracker
from vision.types import Detections, ImageArray, Tracks

if TYPE_CHECKING:
    from vision.tracking.camera_motion import CameraMotion


def advance(
    tracker: Tracker,
    camera: CameraMotion | None,
    detections: Detections,
    image: ImageArray | None,
    *,
    frame_index: int | None,
    timestamp_s: float | None,
    timings_ms: dict[str, float],
) -> Tracks:
    """Return the tracks of a stream's next frame; ``timings_ms`` receives "camera" and "track".

    Args:
        tracker: the stream's tracker.
        camera: the stream's camera motion, or None to take the camera for still.
        detections: objects of the frame, with or without embeddings.
        image: uint8 [H, W, 3] RGB, or None: without a picture the camera counts as still, and begins anew after it.
        frame_index, timestamp_s: as for ``Tracker.update``.
        timings_ms: written to.

    Raises:
        InvalidInputError: as for ``Tracker.update``; tracker and camera are then as before the call.
    """
    motion = None
    if camera is not None and image is not None:
        with timed(timings_ms, "camera"):
            motion = camera.estimate(image, detections.boxes)
    try:
        with timed(timings_ms, "track"):
            tracks = tracker.update(detections, frame_index=frame_index, timestamp_s=timestamp_s, camera_motion=motion)
    except VisionError:
        if camera is not None and image is not None:
            camera.undo()
        raise
    if camera is not None and image is None:
        # The last picture is older than the last update now: a motion since then would move the tracks twice.
        camera.forget()
    return tracks
