"""Colours of drawn results: of tracks and boxes, and of the classes of a segmentation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

Rgb = tuple[int, int, int]

# Twelve hues that stay apart on grass, asphalt and skin; neighbours in the list are far apart on the colour circle.
PALETTE_RGB: tuple[Rgb, ...] = (
    (255, 64, 64), (0, 190, 255), (255, 200, 0), (150, 80, 255), (60, 220, 90), (255, 90, 200),
    (0, 110, 255), (255, 130, 30), (0, 215, 180), (200, 160, 255), (180, 220, 40), (190, 70, 90),
)  # fmt: skip
# Near to what street data sets (CamVid, Cityscapes) made familiar: roads purple, trees green, people red. Large areas
# are muted, so that people, cars and signs stand out; none is grey, which above a picture looks like no class.
STREET_RGB: dict[str, Rgb] = {
    "sky": (90, 165, 235), "building": (165, 100, 60), "pole": (245, 235, 205), "road": (128, 64, 150),
    "pavement": (244, 60, 220), "tree": (90, 150, 35), "sign": (255, 220, 0), "fence": (255, 145, 60),
    "car": (40, 60, 235), "pedestrian": (235, 20, 50), "bicyclist": (0, 215, 205),
}  # fmt: skip
NO_CLASS = frozenset({"background", "other", "void", "unlabelled"})


def mask_palette(class_names: Sequence[str]) -> list[Rgb]:
    """Return the RGB of each class in masks and overlays: street scenes in the colours known from their data sets, the
    rest from the palette, background and "other" black."""
    free = itertools.cycle(PALETTE_RGB)
    return [(0, 0, 0) if name in NO_CLASS else STREET_RGB.get(name) or next(free) for name in class_names]
