"""Tracks beside the segmentation of their frame: the pixels of each, and what it stands on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vision.palette import NO_CLASS
from vision.regions import TrackRegions
from vision.types import FloatArray, SegmentationMap, Tracks

# A person's feet: the middle half of the box's width, from just above its lower edge to just below it.
FOOT_WIDTH, FOOT_ABOVE, FOOT_BELOW = 0.5, 0.03, 0.06

# What a detector calls a thing -> what segmenters call its pixels: COCO's names, CamVid's, Cityscapes' and VOC's.
SAME_THINGS: Mapping[str, tuple[str, ...]] = {
    "person": ("person", "pedestrian", "bicyclist", "rider"),
    "bicycle": ("bicycle", "bicyclist"),
    "car": ("car", "vehicle"),
    "bus": ("bus", "vehicle"),
    "truck": ("truck", "vehicle"),
    "motorcycle": ("motorcycle", "motorbike"),
    "airplane": ("airplane", "aeroplane"),
    "couch": ("couch", "sofa"),
    "dining table": ("dining table", "diningtable"),
    "potted plant": ("potted plant", "pottedplant"),
    "tv": ("tv", "tvmonitor"),
}
# Where a segmenter has no word of its own for a thing it was taught another: CamVid's cars are all of these.
COUNTED_AS: Mapping[str, str] = {"bus": "car", "truck": "car", "motorcycle": "bicyclist"}
THINGS = frozenset(word for words in SAME_THINGS.values() for word in words)


def regions_of_tracks(tracks: Tracks, segmentation: SegmentationMap, class_names: Sequence[str]) -> TrackRegions:
    """Return the pixels of each track and the surface it stands on.

    A track's pixels are those in its box whose class is its own. Where boxes overlap, a pixel belongs to the track
    whose lower edge is lowest: seen from above ground that is the nearer one. The surface is the class that most pixels
    at the foot of the box have, the track's own class and what is no class left out; None where the foot lies outside
    of the picture or nothing else is there. Tracks that were not seen in this frame have neither pixels nor a surface.

    Args:
        tracks, segmentation: of the same frame.
        class_names: the detector's name of each of the tracks' labels; without names a track may be any thing.
    """
    owners = np.full(segmentation.labels.shape, -1, np.int32)
    surfaces: list[str | None] = [None] * len(tracks)
    for row in np.argsort(tracks.boxes[:, 3], kind="stable").tolist():
        if tracks.time_since_update[row]:
            continue
        own = _own_classes(_name(class_names, int(tracks.labels[row])), segmentation.class_names)
        box = tracks.boxes[row]
        top, bottom, left, right = _pixels(box, owners.shape)
        owners[top:bottom, left:right][own[segmentation.labels[top:bottom, left:right]]] = row
        surfaces[row] = _surface(box, own, segmentation)
    return TrackRegions(owners, tuple(surfaces))


def thing_labels(name: str, class_names: Sequence[str]) -> list[int]:
    """Return the segmenter's labels for what a detector calls ``name``.

    Without a name those of all things that have a name here.

    >>> thing_labels("person", ("road", "pedestrian", "bicyclist", "car"))
    [1, 2]
    >>> thing_labels("", ("road", "pedestrian", "bicyclist", "car"))
    [1, 2, 3]
    """
    words: Collection[str] = SAME_THINGS.get(name, (name,)) if name else THINGS
    labels = [label for label, other in enumerate(class_names) if other in words]
    return labels or [label for label, other in enumerate(class_names) if other == COUNTED_AS.get(name)]


def _own_classes(name: str, class_names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return for each class of the segmenter whether it is what a detector calls ``name``."""
    own = np.zeros(len(class_names), np.bool_)
    own[thing_labels(name, class_names)] = True
    return own


def _surface(box: FloatArray, own: npt.NDArray[np.bool_], segmentation: SegmentationMap) -> str | None:
    x1, y1, x2, y2 = (float(value) for value in box)
    middle, half, tall = (x1 + x2) / 2, (x2 - x1) * FOOT_WIDTH / 2, y2 - y1
    foot = np.array([middle - half, y2 - FOOT_ABOVE * tall, middle + half, y2 + FOOT_BELOW * tall])
    top, bottom, left, right = _pixels(foot, segmentation.labels.shape)
    counts = np.bincount(segmentation.labels[top:bottom, left:right].ravel(), minlength=len(own))
    counts[own | [name in NO_CLASS for name in segmentation.class_names]] = 0
    return segmentation.class_names[int(counts.argmax())] if counts.any() else None


def _pixels(box: npt.NDArray[np.floating], size_hw: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of all pixels that a box touches within the picture."""
    height, width = size_hw
    x1, y1, x2, y2 = np.nan_to_num(box)
    left, right = (int(np.clip(value, 0, width)) for value in (np.floor(x1), np.ceil(x2)))
    top, bottom = (int(np.clip(value, 0, height)) for value in (np.floor(y1), np.ceil(y2)))
    return top, bottom, left, right


def _name(class_names: Sequence[str], label: int) -> str:
    return class_names[label] if label < len(class_names) else ""
