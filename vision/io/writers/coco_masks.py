"""COCO results with masks: one entry a class and picture, its mask as compressed run lengths; streamed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from vision.errors import InvalidInputError
from vision.geometry.rle import compress_counts, encode_mask
from vision.io.writers.coco import CocoWriter
from vision.types import Frame, FrameResult, SegmentationMap


class CocoMasksWriter(CocoWriter):
    """Writes ``{"image_id", "category_id", "segmentation": {"size", "counts"}, "area", "bbox", "score"}`` a class.

    A class that a picture does not show has no entry. The score is the mean probability of the mask's pixels where the
    segmenter gives them, else 1. Errors are those of CocoWriter.

    Args:
        path: output file.
        left_out: labels that get no entry, such as that of "other".
        options: the other arguments of CocoWriter.
    """

    def __init__(self, path: str | Path, *, left_out: Collection[int] = (), **options: Any) -> None:
        super().__init__(path, **options)
        self._left_out = frozenset(left_out)

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Add the entries of one picture."""
        if result.segmentation is None:
            raise InvalidInputError("COCO masks need a segmentation, got a result without one; run stride32 segment")
        image_id = self._claim_image_id(frame, result)
        for label, row in mask_rows(result.segmentation, left_out=self._left_out):
            self._write_row({"image_id": image_id, "category_id": self._category_id(label), **row})


def mask_rows(segmentation: SegmentationMap, *, left_out: Collection[int] = ()) -> list[tuple[int, dict[str, Any]]]:
    """Return each label that occurs and is not left out, with its segmentation, area, bbox xywh and score."""
    rows: list[tuple[int, dict[str, Any]]] = []
    counts = np.bincount(segmentation.labels.ravel(), minlength=len(segmentation.class_names))
    for label in np.flatnonzero(counts).tolist():
        if label in left_out:
            continue
        mask = segmentation.labels == label
        runs = encode_mask(mask)
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        scores = segmentation.scores
        row = {
            "segmentation": {"size": runs["size"], "counts": compress_counts(runs["counts"])},
            "area": int(counts[label]),
            "bbox": [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)],
            "score": 1.0 if scores is None else round(float(scores[mask].mean()), 4),
        }
        rows.append((label, row))
    return rows
