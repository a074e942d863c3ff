"""Results of the library to the JSON of the HTTP interface: the last step of a frame's path here.

Numbers are those of ``FrameResult.to_dict``, which the command line writes: float32 as the shortest float64 text.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vision.geometry.rle import encode_label_map
from vision.types import Classification, Detections, SegmentationMap, Tracks, TrackState


def image_size(size_hw: tuple[int, int]) -> dict[str, int]:
    """Return the size of the upright picture, which all coordinates belong to."""
    return {"width": size_hw[1], "height": size_hw[0]}


def class_name(class_names: tuple[str, ...], label: int) -> str:
    """Return the name of a label, or its number where there is no name."""
    return class_names[label] if label < len(class_names) else str(label)


def detections_json(found: Detections, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one object a detection, best first."""
    return [
        {"box": box, "score": score, "label": label, "class_name": class_name(class_names, label)}
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    ]


def tracks_json(tracks: Tracks, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one object a track, by rising id."""
    return [
        {
            "id": tracks.ids[row].item(),
            "box": tracks.boxes[row].tolist(),
            "score": tracks.scores[row].item(),
            "label": (label := tracks.labels[row].item()),
            "class_name": class_name(class_names, label),
            "state": TrackState(tracks.states[row].item()).name.lower(),
            "age": tracks.ages[row].item(),
            "time_since_update": tracks.time_since_update[row].item(),
            "detection": None if (matched := tracks.detection_index[row].item()) < 0 else matched,
        }
        for row in range(len(tracks))
    ]


def segmentation_json(segmentation: SegmentationMap) -> dict[str, Any]:
    """Return the map as run lengths, and the area of each class."""
    names = segmentation.class_names
    pixels = np.bincount(segmentation.labels.ravel(), minlength=len(names)).tolist()
    total = max(1, segmentation.labels.size)
    return {
        "class_names": list(names),
        "classes": [
            {"label": label, "class_name": name, "pixels": count, "share": count / total}
            for label, (name, count) in enumerate(zip(names, pixels, strict=True))
        ],
        "segmentation": encode_label_map(segmentation.labels),
    }


def classification_json(found: Classification) -> dict[str, Any]:
    """Return the classes, surest first, or the measured value."""
    return {
        "classes": [
            {"label": label, "class_name": name, "score": score, "assigned": row < found.assigned}
            for row, (label, name, score) in enumerate(
                zip(found.labels.tolist(), found.names, found.scores.tolist(), strict=True)
            )
        ],
        "value": found.value,
        "unit": found.unit,
    }
