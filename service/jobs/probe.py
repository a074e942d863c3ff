"""A look into an uploaded video before it is accepted: can it be decoded, and is it short enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.jobs.errors import InvalidVideoError, VideoTooLongError
from vision.errors import LimitExceededError, MediaError
from vision.io.video import DecodeBudget, VideoReader

# No camera records more; a file may pretend to, to hide a million frames in a second.
MAX_FPS = 240
# Headers round up, and the last frame has a length as well.
DURATION_MARGIN_S = 1.0
# Of a good video the first picture comes at once; that of a cut recording with the next key frame.
PROBE_BUDGET = DecodeBudget(packets=2000, seconds=10.0)


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What the header and the first frame say.

    Attributes:
        frames: number of frames, or None; damaged files hold fewer.
        fps: average frames a second, or None.
        size_hw: height and width in pixels.
    """

    frames: int | None
    fps: float | None
    size_hw: tuple[int, int]


def probe_video(
    path: Path,
    *,
    name: str,
    max_pixels: int,
    max_duration_s: float,
    should_stop: Callable[[], bool] | None = None,
) -> VideoFacts:
    """Return the facts of a video of which at least one frame was decoded; blocks, for the time of PROBE_BUDGET.

    Once ``should_stop`` says True, a video without a frame so far counts as one that has none.

    Raises:
        InvalidVideoError: no video, or its pictures are too large.
        VideoTooLongError: its header states more than ``max_duration_s``.
    """
    try:
        with VideoReader(
            path, max_pixels=max_pixels, name=name, budget=PROBE_BUDGET, should_stop=should_stop
        ) as reader:
            check_length(reader.duration_s, reader.frame_count, max_duration_s)
            return VideoFacts(reader.frame_count, reader.fps, reader.size_hw)
    except (MediaError, LimitExceededError) as exc:
        raise InvalidVideoError(str(exc)) from exc


def check_length(seconds: float | None, frames: int | None, max_duration_s: float) -> None:
    """Raise VideoTooLongError for a video of more time or more frames than allowed; None is unknown and passes."""
    if seconds is not None and seconds > max_duration_s + DURATION_MARGIN_S:
        raise VideoTooLongError(
            f"a video must last at most {max_duration_s:g} seconds, this one has {seconds:.1f}; cut it into parts"
        )
    if frames is not None and frames > frame_limit(max_duration_s):
        raise VideoTooLongError(
            f"a video must have at most {frame_limit(max_duration_s)} frames ({MAX_FPS} a second), this one has "
            f"{frames}; cut it into parts"
        )


def frame_limit(max_duration_s: float) -> int:
    """Return the most frames of a video of the longest duration."""
    return int((max_duration_s + DURATION_MARGIN_S) * MAX_FPS)
