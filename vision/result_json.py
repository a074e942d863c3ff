"""A FrameResult as plain JSON data and back: the fields, what is left out, and how damage is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vision.errors import InvalidInputError
from vision.geometry.rle import decode_label_map, encode_label_map
from vision.regions import TrackRegions
from vision.types import TRACK_FIELDS, Classification, Detections, FrameResult, SegmentationMap, Tracks


def result_to_dict(result: FrameResult, *, embeddings: bool, segmentation: bool) -> dict[str, Any]:
    """Return plain JSON data; see ``FrameResult.to_dict``."""
    row: dict[str, Any] = {
        "frame_index": result.frame_index,
        "timestamp_s": result.timestamp_s,
        "source": result.source,
        "size_hw": None if result.size_hw is None else list(result.size_hw),
    }
    if result.detections is not None:
        row["detections"] = _detections_to_dict(result.detections, embeddings=embeddings)
    if result.tracks is not None:
        row["tracks"] = {name: getattr(result.tracks, name).tolist() for name in TRACK_FIELDS}
    if result.regions is not None:
        row["regions"] = result.regions.to_dict()
    if segmentation and result.segmentation is not None:
        labels = encode_label_map(result.segmentation.labels)
        row["segmentation"] = {"class_names": list(result.segmentation.class_names), **labels}
    if result.classification is not None:
        row["classification"] = _classification_to_dict(result.classification)
    row["timings_ms"] = {name: round(value, 3) for name, value in result.timings_ms.items()}
    return row


def result_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the FrameResult that ``result_to_dict`` was given.

    Raises:
        InvalidInputError: a field is missing or malformed.
    """
    try:
        return _fields(row)
    except InvalidInputError:
        raise
    except (KeyError, TypeError, IndexError, ValueError, OverflowError, AttributeError) as exc:
        raise InvalidInputError(
            f"a frame result needs the fields that to_dict writes, failed at {exc!r}; write it again"
        ) from exc


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "frame_index": int(np.int64(int(row["frame_index"]))),  # refuses what no column of frames can hold
        "timestamp_s": row["timestamp_s"],
        "source": row["source"],
        "size_hw": None if row["size_hw"] is None else (int(row["size_hw"][0]), int(row["size_hw"][1])),
        "timings_ms": dict(row["timings_ms"]),
    }
    if (detections := row.get("detections")) is not None:
        fields["detections"] = _detections_from_dict(detections)
    if (tracks := row.get("tracks")) is not None:
        fields["tracks"] = Tracks(*(np.asarray(tracks[name]) for name in TRACK_FIELDS))
    if (regions := row.get("regions")) is not None:
        fields["regions"] = TrackRegions.from_dict(regions)
    if (segmentation := row.get("segmentation")) is not None:
        fields["segmentation"] = SegmentationMap(decode_label_map(segmentation), tuple(segmentation["class_names"]))
    if (classification := row.get("classification")) is not None:
        fields["classification"] = _classification_from_dict(classification)
    return fields


def _detections_to_dict(detections: Detections, *, embeddings: bool) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(detections, name).tolist() for name in ("boxes", "scores", "labels")}
    if embeddings and detections.embeddings is not None:
        row["embeddings"] = detections.embeddings.tolist()
    return row


def _detections_from_dict(row: Mapping[str, Any]) -> Detections:
    embeddings = row.get("embeddings")
    return Detections(
        np.asarray(row["boxes"], np.float64),
        np.asarray(row["scores"], np.float64),
        np.asarray(row["labels"], np.int64),
        # An empty list has lost its width; without rows there is nothing to keep.
        np.asarray(embeddings, np.float64) if embeddings else None,
    )


def _classification_to_dict(classification: Classification) -> dict[str, Any]:
    """Return classes, or value and unit: a reader finds only what there is."""
    if classification.value is not None:
        return {"value": classification.value, "unit": classification.unit}
    return {
        "labels": classification.labels.tolist(),
        "names": list(classification.names),
        "scores": classification.scores.tolist(),
        "assigned": classification.assigned,
    }


def _classification_from_dict(row: Mapping[str, Any]) -> Classification:
    if "value" in row:
        return Classification(
            np.zeros(0, np.int64), np.zeros(0, np.float32), value=float(row["value"]), unit=row["unit"]
        )
    return Classification(
        np.asarray(row["labels"], np.int64),
        np.asarray(row["scores"], np.float32),
        tuple(row["names"]),
        assigned=int(row["assigned"]),
    )
