"""The classes that a user wants of those that a detector knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vision.errors import ConfigError, closest_hint
from vision.types import Detections, IntArray


def wanted_labels(names: Sequence[str], class_names: Sequence[str]) -> IntArray | None:
    """Return the distinct labels of the wanted class names, or None for all; ConfigError for an unknown name."""
    for name in names:
        if name not in class_names:
            raise ConfigError(
                f"detection.classes must be of the detector's {', '.join(class_names)}, got {name!r}"
                f"{closest_hint(name, class_names)}; name one of these",
                expected=f"of {', '.join(class_names)}",
                actual=name,
            )
    return np.array([class_names.index(name) for name in dict.fromkeys(names)], np.int64) if names else None


def relabel(detections: Detections, wanted: IntArray | None) -> Detections:
    """Return detections whose labels count the wanted classes with labels that count all; None wants all."""
    return detections if wanted is None else dataclasses.replace(detections, labels=wanted[detections.labels])
