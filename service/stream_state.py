"""What a stream remembers, tracker and camera, as arrays: taken before each frame, put back when the frame fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from service.errors import SessionTooLargeError
from vision.errors import InvalidInputError, StateError
from vision.tracking.camera_motion import CameraMotion
from vision.tracking.tracker import Tracker

if TYPE_CHECKING:
    from vision.pipeline import Pipeline

Arrays = Mapping[str, npt.NDArray[Any]]

MAX_STATE_BYTES = 64 << 20
"""Most bytes that a session's tracker may hold: more than a thousand tracks with galleries of a hundred looks."""
MAX_TRACKS = 5000
"""Most tracks of a session: a frame compares each with each detection, whatever few bytes they take."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """The memory of one stream; copies, which nothing writes to.

    Attributes:
        tracker: what ``Tracker.to_arrays`` gives.
        camera: what ``CameraMotion.to_arrays`` gives; empty where the camera counts as still.
    """

    tracker: Arrays
    camera: Arrays = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for part in (self.tracker, self.camera) for array in part.values())

    @property
    def track_count(self) -> int:
        """Live tracks; those of a snapshot are as many as it says, whether or not the rest fits."""
        ids = self.tracker.get("ids")
        return 0 if ids is None else ids.size


def check_size(state: StreamState) -> None:
    """Raise SessionTooLargeError for more bytes or tracks than a session may have."""
    if state.nbytes > MAX_STATE_BYTES or state.track_count > MAX_TRACKS:
        raise SessionTooLargeError(
            f"a session's tracks must be at most {MAX_TRACKS} in {MAX_STATE_BYTES >> 20} MiB, they are "
            f"{state.track_count} in {state.nbytes >> 20}; delete it and make one with a lower tracking.max_age or "
            "tracking.gallery_size, or a higher conf"
        )


def take_state(pipeline: Pipeline) -> StreamState:
    """Return copies of what the pipeline's tracker and camera remember; raises StateError when it has no tracker."""
    if pipeline.tracker is None:
        raise StateError("a session's pipeline must have a tracker, this one has none or was closed; open a session")
    camera = {} if pipeline.camera is None else pipeline.camera.to_arrays()
    return StreamState(pipeline.tracker.to_arrays(), camera)


def put_state(pipeline: Pipeline, state: StreamState) -> None:
    """Make the pipeline go on from ``state``, as the one that it was taken from would.

    Raises:
        InvalidInputError: the arrays fit neither each other nor the pipeline's settings; it is then as before.
    """
    if pipeline.tracker is None:
        raise StateError("a session's pipeline must have a tracker, this one has none or was closed; open a session")
    if (pipeline.camera is None) != (not state.camera):
        raise InvalidInputError(
            "the saved camera motion must match tracking.camera_motion, got one without the other; use the settings it "
            "was saved with"
        )
    tracker = Tracker.from_arrays(pipeline.tracker.config, state.tracker)
    if pipeline.camera is not None:
        camera = pipeline.camera
        pipeline.camera = CameraMotion.from_arrays(state.camera, camera.method, long_side=camera.long_side)
    pipeline.tracker = tracker
