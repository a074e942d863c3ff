"""Tracks beside the segmentation of their frame: the pixels of each, and what it stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vision.types import SegmentationMap, Tracks

# A person's feet: the middle half of the box's width, from just above its lower edge to just below it.
FOOT_WIDTH, FOOT_ABOVE, FOOT_BELOW = 0.5, 0.03, 0.06

# What a detector calls a thing -> what segmenters call its pixels, beside the same word.
SAME_THINGS: Mapping[str, tuple[str, ...]] = {
    "person": ("person", "pedestrian", "bicyclist", "rider"),
    "car": ("car", "vehicle"),
    "bicycle": ("bicycle", "bicyclist"),
}


def masks_of_tracks(
    tracks: Tracks, segmentation: SegmentationMap, class_names: Sequence[str]
) -> list[npt.NDArray[np.bool_]]:
    """Return for each track the pixels [H, W] in its box whose class is the track's own.

    Where boxes overlap, a pixel belongs to the track whose lower edge is lowest: in most scenes that is the nearer one.

    Args:
        tracks: of one frame.
        segmentation: of the same frame.
        class_names: the detector's name of each of the tracks' labels.
    """
    height, width = segmentation.labels.shape
    owner = np.full((height, width), -1, np.int64)
    for row in np.argsort(tracks.boxes[:, 3], kind="stable").tolist():
        wanted = thing_labels(_name(class_names, int(tracks.labels[row])), segmentation.class_names)
        x1, y1, x2, y2 = _pixels(tracks.boxes[row], width, height)
        inside = np.isin(segmentation.labels[y1:y2, x1:x2], wanted)
        owner[y1:y2, x1:x2][inside] = row
    return [owner == row for row in range(len(tracks))]


def surfaces_of_tracks(
    tracks: Tracks, segmentation: SegmentationMap, class_names: Sequence[str]
) -> list[str | None]:
    """Return the class that most pixels at the foot of each track's box have, things like the track itself left out.

    None where the foot lies outside of the picture, or only the track's own class is there.
    """
    return [
        _surface(box, _name(class_names, label), segmentation)
        for box, label in zip(tracks.boxes, tracks.labels.tolist(), strict=True)
    ]


def thing_labels(name: str, class_names: Sequence[str]) -> list[int]:
    """Return the segmenter's labels for what a detector calls ``name``.

    >>> thing_labels("person", ("road", "pedestrian", "bicyclist"))
    [1, 2]
    """
    words = SAME_THINGS.get(name, (name,))
    return [label for label, other in enumerate(class_names) if other in words]


def _surface(box: npt.NDArray[np.float32], name: str, segmentation: SegmentationMap) -> str | None:
    height, width = segmentation.labels.shape
    x1, y1, x2, y2 = (float(value) for value in box)
    middle, half, tall = (x1 + x2) / 2, (x2 - x1) * FOOT_WIDTH / 2, y2 - y1
    left, top, right, bottom = _pixels(
        np.array([middle - half, y2 - FOOT_ABOVE * tall, middle + half, y2 + FOOT_BELOW * tall]), width, height
    )
    labels = segmentation.labels[top:bottom, left:right]
    counts = np.bincount(labels.ravel(), minlength=len(segmentation.class_names))
    counts[thing_labels(name, segmentation.class_names)] = 0
    return segmentation.class_names[int(counts.argmax())] if counts.any() else None


def _pixels(
    box: npt.NDArray[np.floating[npt.NBitBase]] | npt.NDArray[np.float32], width: int, height: int
) -> tuple[int, int, int, int]:
    """Return the box as whole pixels within the picture, at least one along each side where it lies in it."""
    x1, y1, x2, y2 = (float(value) for value in box)
    left, top = int(np.clip(np.floor(x1), 0, width)), int(np.clip(np.floor(y1), 0, height))
    right, bottom = int(np.clip(np.ceil(x2), 0, width)), int(np.clip(np.ceil(y2), 0, height))
    return left, top, right, bottom


def _name(class_names: Sequence[str], label: int) -> str:
    return class_names[label] if label < len(class_names) else str(label)
