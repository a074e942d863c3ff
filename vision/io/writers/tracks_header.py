"""What a file of tracks says besides its rows: class names, frame rate, source, size and length of the sequence."""

from __future__ import annotations

import math
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


def estimate_fps(first: tuple[int, float] | None, last: tuple[int, float] | None) -> float | None:
    """Return the mean frames a second between two (frame index, seconds); None when one is unknown or time stands.

    >>> estimate_fps((0, 0.0), (50, 2.0))
    25.0
    """
    if first is None or last is None or last[0] <= first[0] or last[1] <= first[1]:
        return None
    # Files hold milliseconds: more digits would be noise.
    return round((last[0] - first[0]) / (last[1] - first[1]), 3) or None
