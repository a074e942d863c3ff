"""Frames of a local camera through OpenCV, which speaks V4L2, AVFoundation and Media Foundation alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from vision.errors import MediaError
from vision.io.images import DEFAULT_LIMITS
from vision.types import Frame


class CameraReader:
    """An endless iterator over the frames of camera number ``index``; it ends when the camera stops delivering.

    Timestamps are seconds of the monotonic clock since the first frame, taken when the frame arrives.

    Raises:
        MediaError: there is no such camera, it is in use, or it delivers no frame.
    """

    truncated = False
    frame_count: int | None = None
    duration_s: float | None = None

    def __init__(self, index: int, *, max_pixels: int = DEFAULT_LIMITS.max_pixels) -> None:
        self.name = str(index)
        _check_device(index)
        self._capture = cv2.VideoCapture(index)
        is_read: bool
        bgr: Any
        is_read, bgr = self._capture.read() if self._capture.isOpened() else (False, None)
        if not is_read or bgr.shape[0] * bgr.shape[1] > max_pixels:
            found = (
                "no picture" if not is_read else f"frames of {bgr.shape[1]} x {bgr.shape[0]}, over {max_pixels} pixels"
            )
            self._capture.release()
            raise MediaError(
                f"camera {index} must deliver frames, got {found}; check that it is plugged in, free and permitted",
                expected="frames",
                actual=found,
            )
        self._started_s = time.monotonic()
        self._next_index = 0
        self._pending: Any = bgr
        self.size_hw: tuple[int, int] = (bgr.shape[0], bgr.shape[1])

    @property
    def fps(self) -> float | None:
        """Frames a second as the driver states it, or None."""
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if rate > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        bgr, self._pending = self._pending, None
        if bgr is None:
            is_read, bgr = self._capture.read()
            if not is_read:
                raise StopIteration
        index, self._next_index = self._next_index, self._next_index + 1
        timestamp_s = time.monotonic() - self._started_s if index else 0.0
        return Frame(np.ascontiguousarray(bgr[..., ::-1]), index=index, timestamp_s=timestamp_s, source=self.name)

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _check_device(index: int) -> None:
    """Refuse a missing camera at once on Linux, where OpenCV would try every back end and print their complaints."""
    if sys.platform == "linux" and not Path(f"/dev/video{index}").exists():
        present = sorted(int(path.name[5:]) for path in Path("/dev").glob("video*") if path.name[5:].isdigit())
        found = f"cameras {present}" if present else "no camera"
        raise MediaError(
            f"camera {index} must be plugged in, found {found} on this machine; pass another number or a file",
            expected=f"camera {index}",
            actual=found,
        )
