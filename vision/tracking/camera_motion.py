"""How the camera moved since the last frame; comes before the tracker's update, which moves its tracks along.

A camera that pans, shakes or turns moves every object in the picture at once. A filter of constant velocity in pixels
takes that for motion of the objects and loses them where the camera starts, stops or shakes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self, get_args

import cv2
import numpy as np
import numpy.typing as npt

from vision.errors import ConfigError, InvalidInputError
from vision.tracking.camera_state import CameraState
from vision.tracking.picture_motion import Matrix, MotionFailure, ecc_motion, find_corners, flow_motion
from vision.types import FloatArray, ImageArray
from vision.validation import as_boxes, describe

Method = Literal["flow", "ecc"]
METHODS: tuple[Method, ...] = get_args(Method)

# Longer side that pictures are shrunk to: the error stays near a tenth of a shrunk pixel, and every size costs what a
# small picture costs.
LONG_SIDE = 320
MIN_LONG_SIDE = 64
# Smaller pictures hold neither corners nor structure to align.
MIN_SHORT_SIDE = 16

# What a camera may do from one frame to the next; beyond it a result is a mistake, or a cut.
MAX_SCALE = 1.3
MAX_ROTATION_RAD = math.radians(20)
MAX_SHIFT = 0.3
"""Motion of the picture's centre, as a share of the longer side."""

# Detections are drawn a little larger into the mask: their outlines are corners too.
MASK_MARGIN = 0.05

NO_CORNERS: FloatArray = np.zeros((0, 2), np.float32)


class CameraMotion:
    """Estimates the motion of the camera from frame to frame of one stream; use one instance for each stream.

    The same frames and boxes always give the same matrices.

    Args:
        method: "flow" follows corners outside the detections (Shi & Tomasi 1994, pyramidal Lucas-Kanade, RANSAC) and
            finds shift, rotation and zoom; "ecc" aligns whole pictures (Evangelidis & Psarakis 2008) by
            shift and rotation.
        long_side: pictures are shrunk by a whole number to about this longer side in pixels, >= 64.
    """

    def __init__(self, method: Method = "flow", *, long_side: int = LONG_SIDE) -> None:
        if method not in METHODS:
            raise ConfigError(f"the camera's method must be one of {', '.join(METHODS)}, got {method!r}; pick one")
        self.method: Method = method
        self.long_side = long_side
        if self.long_side < MIN_LONG_SIDE:
            raise ConfigError(f"long_side must be >= {MIN_LONG_SIDE} pixels, got {self.long_side}; leave it out")
        self.reset()

    @property
    def frames(self) -> int:
        """Pictures seen since the last reset."""
        return self._state.frames

    @property
    def failures(self) -> Mapping[MotionFailure, int]:
        """How often each failure made the camera count as still since the last reset; empty if none did."""
        return self._state.failures

    @property
    def last_failure(self) -> MotionFailure | None:
        """Why the last matrix is the identity, or None when it was measured (or the picture was the first)."""
        return self._state.last_failure

    def reset(self) -> None:
        """Forget the last picture and the counts, as at the start of another stream."""
        self._state = self._state_before = CameraState()

    def forget(self) -> None:
        """Forget the last picture but not the counts: the next one is the first of a new comparison."""
        self._state = self._state_before = replace(self._state, grey=None, corners=NO_CORNERS, size_hw=(0, 0))

    def undo(self) -> None:
        """Forget the last picture given to ``estimate``: for a frame that was then refused. One step, not saved."""
        self._state = self._state_before

    def estimate(self, image: ImageArray, boxes: FloatArray | None = None) -> Matrix:
        """Return float64 [2, 3], which maps pixel positions (x, y, 1) of the last frame to this one.

        The identity is returned for the first picture and wherever the motion cannot be told (``last_failure`` says
        why): too little to follow, a cut, a picture of another size, a motion larger than a camera makes.

        Args:
            image: uint8 [H, W, 3] RGB, the next picture of the stream.
            boxes: float [N, 4] xyxy pixels of the objects in this picture, which move by themselves; None if unknown.

        Raises:
            InvalidInputError: the picture or the boxes have another form. The state is then as before the call.
        """
        _check_image(image)
        boxes = np.zeros((0, 4), np.float32) if boxes is None else as_boxes(boxes)
        size_hw = (image.shape[0], image.shape[1])
        factor = self._factor(size_hw)
        grey = _shrink(image, factor)
        mask = _open_mask(grey.shape, boxes / np.float32(factor))
        matrix, failure = self._compare(grey, mask, size_hw, factor)
        corners = (
            find_corners(grey, mask) if self.method == "flow" and min(grey.shape) >= MIN_SHORT_SIDE else NO_CORNERS
        )
        self._state_before = self._state
        self._state = self._state.then(grey, corners, size_hw, failure)
        return np.eye(2, 3) if matrix is None else matrix

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of the whole state; ``from_arrays`` goes on from there with exactly the same results."""
        return self._state.to_arrays()

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, npt.NDArray[Any]],
        method: Method = "flow",
        *,
        long_side: int = LONG_SIDE,
    ) -> Self:
        """Return an estimator in the state ``to_arrays`` gave, with the settings it had.

        Raises:
            InvalidInputError: the arrays do not fit each other or the settings.
            ConfigError: as for the constructor.
        """
        camera = cls(method, long_side=long_side)
        state = CameraState.from_arrays(arrays)
        if state.grey is not None and state.grey.shape != (
            expected := _shrunk_hw(state.size_hw, camera._factor(state.size_hw))
        ):
            raise InvalidInputError(
                f"camera state of a frame {state.size_hw} must hold a picture {expected} for long_side "
                f"{camera.long_side}, got {state.grey.shape}; use the settings it was saved with"
            )
        camera._state = camera._state_before = state
        return camera

    def _compare(
        self, grey: ImageArray, mask: ImageArray, size_hw: tuple[int, int], factor: int
    ) -> tuple[Matrix | None, MotionFailure | None]:
        """Return the motion from the last picture to this one in pixels of the frame, or why there is none."""
        last = self._state
        if last.grey is None:
            return None, None
        if size_hw != last.size_hw:
            return None, MotionFailure.NEW_SIZE
        if min(grey.shape) < MIN_SHORT_SIDE:
            return None, MotionFailure.FEW_POINTS if self.method == "flow" else MotionFailure.NOT_ALIGNED
        if self.method == "flow":
            matrix, failure = flow_motion(last.grey, last.corners, grey, mask)
        else:
            matrix, failure = ecc_motion(last.grey, grey, mask)
        if matrix is None:
            return None, failure
        matrix = _to_frame(matrix, factor)
        return (matrix, None) if is_plausible(matrix, size_hw) else (None, MotionFailure.IMPLAUSIBLE)

    def _factor(self, size_hw: tuple[int, int]) -> int:
        """Return the whole number by which pictures of this size are shrunk; whole, so that both axes shrink alike."""
        return max(1, round(max(size_hw) / self.long_side))


def is_plausible(matrix: Matrix, size_hw: tuple[int, int]) -> bool:
    """Return whether a camera can move so from one frame to the next: bounds on zoom, rotation and shift.

    >>> is_plausible(np.array([[1.0, 0, 30], [0, 1, -5]]), (480, 640))
    True
    >>> is_plausible(np.array([[2.0, 0, 0], [0, 2, 0]]), (480, 640))
    False
    """
    if not np.isfinite(matrix).all():
        return False
    linear = matrix[:, :2]
    stretch = np.linalg.svd(linear, compute_uv=False)
    if not (stretch.max() <= MAX_SCALE and stretch.min() >= 1 / MAX_SCALE and np.linalg.det(linear) > 0):
        return False
    if abs(math.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])) > MAX_ROTATION_RAD:
        return False
    # The shift of the centre: that of the corner (0, 0) grows with any rotation.
    centre = np.array([size_hw[1] / 2, size_hw[0] / 2])
    return bool(np.linalg.norm(linear @ centre + matrix[:, 2] - centre) <= MAX_SHIFT * max(size_hw))


def _check_image(image: ImageArray) -> None:
    is_picture = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    if not is_picture or 0 in image.shape:
        raise InvalidInputError(f"the picture must be uint8 [H, W, 3] RGB, got {describe(image)}; pass frame.image")


def _shrunk_hw(size_hw: tuple[int, int], factor: int) -> tuple[int, int]:
    return max(1, size_hw[0] // factor), max(1, size_hw[1] // factor)


def _shrink(image: ImageArray, factor: int) -> ImageArray:
    """Return the grey picture, each pixel the mean of factor x factor; an incomplete last row or column is cut off."""
    height, width = _shrunk_hw((image.shape[0], image.shape[1]), factor)
    grey: Any = cv2.cvtColor(np.ascontiguousarray(image[: height * factor, : width * factor]), cv2.COLOR_RGB2GRAY)
    if factor > 1:
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)


def _open_mask(shape_hw: tuple[int, ...], boxes: FloatArray) -> ImageArray:
    """Return uint8 [h, w], 0 where a box [N, 4] of the shrunk picture lies and 255 elsewhere."""
    height, width = shape_hw
    mask = np.full((height, width), 255, np.uint8)
    margin = MASK_MARGIN * (boxes[:, 2:] - boxes[:, :2]) + 1
    grown = np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)
    # Clipped before rounding: a box far outside would not fit an integer.
    low = np.floor(np.clip(grown[:, :2], 0, (width, height))).astype(int)
    high = np.ceil(np.clip(grown[:, 2:], 0, (width, height))).astype(int)
    for (x1, y1), (x2, y2) in zip(low.tolist(), high.tolist(), strict=True):
        mask[y1:y2, x1:x2] = 0
    return mask


def _to_frame(matrix: Matrix, factor: int) -> Matrix:
    """Return a motion between shrunk pictures, counted from pixel centres, in pixels of the frame from its corner.

    A frame's position is p = factor * (q + 0.5), so q' = A q + t becomes p' = A p + factor * (t + 0.5 - A 0.5).
    """
    moved = matrix.copy()
    moved[:, 2] = factor * (matrix[:, 2] + 0.5 - matrix[:, :2] @ np.full(2, 0.5))
    return moved
