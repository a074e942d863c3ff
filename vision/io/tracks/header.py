"""What a file of tracks says besides its rows: class names, frame rate, source, size and length of the sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vision.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class TracksHeader:
    """Facts about the sequence of a Trajectories value; each is optional, and no format but Parquet holds them all.

    Attributes:
        class_names: name of each label; labels beyond it have none.
        fps: frames a second, > 0, or None when unknown.
        source: the video, folder or sequence that the tracks belong to; "" when unknown.
        size_hw: height and width of its frames in pixels, or None.
        frame_count: frames of the sequence, those without tracks included, or None.
    """

    class_names: tuple[str, ...] = ()
    fps: float | None = None
    source: str = ""
    size_hw: tuple[int, int] | None = None
    frame_count: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise InvalidInputError(
                f"fps must be a finite number above 0, got {self.fps}; pass None when it is unknown"
            )
        if self.size_hw is not None and not (len(self.size_hw) == 2 and min(self.size_hw) > 0):
            raise InvalidInputError(
                f"size_hw must be a height and a width above 0, got {self.size_hw}; pass None when they are unknown"
            )
        if self.frame_count is not None and self.frame_count < 0:
            raise InvalidInputError(f"frame_count must be >= 0, got {self.frame_count}; pass None when it is unknown")

    def name_of(self, label: int) -> str:
        """Return the name of a label, or the number as text when there is none."""
        return self.class_names[label] if 0 <= label < len(self.class_names) else str(label)


def names_by_label(names: dict[int, str]) -> tuple[str, ...]:
    """Return class names in label order; gaps hold the label as text, and only such texts mean that nothing is named.

    >>> names_by_label({0: "person", 2: "car"})
    ('person', '1', 'car')
    >>> names_by_label({0: "0", 1: "1"})
    ()
    """
    if all(name == str(label) for label, name in names.items()):
        return ()
    return tuple(names.get(label, str(label)) for label in range(max(names) + 1))


def estimate_fps(frames: Sequence[int], timestamps_s: Sequence[float]) -> float | None:
    """Return the mean frames a second between the first and the last of the given times, or None when time stands.

    Args:
        frames: the first and the last frame index that has a time.
        timestamps_s: their seconds.
    """
    if len(frames) < 2 or frames[-1] <= frames[0] or timestamps_s[-1] <= timestamps_s[0]:
        return None
    # Files hold milliseconds: more digits would be noise.
    return round((frames[-1] - frames[0]) / (timestamps_s[-1] - timestamps_s[0]), 3) or None
