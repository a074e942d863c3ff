"""The confusion matrix of a detector on pictures that can be counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vision.evaluation.confusion import confusion_matrix
from vision.training.datasets.pictures import AnnotatedImage
from vision.types import Detections

BOXES = np.array([[0, 0, 40, 40], [100, 0, 140, 40], [200, 0, 240, 40]], np.float32)
IMAGE = AnnotatedImage(Path("1.png"), 1, BOXES, np.array([0, 1, 1]))


def found(boxes: np.ndarray, labels: list[int], scores: list[float] | None = None) -> dict[int, Detections]:
    values = [0.9] * len(boxes) if scores is None else scores
    return {1: Detections(boxes.astype(np.float32), np.array(values, np.float32), np.array(labels, np.int64))}


@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        ({}, [[0, 0, 1], [0, 0, 2], [0, 0, 0]]),
        (found(BOXES, [0, 1, 1]), [[1, 0, 0], [0, 2, 0], [0, 0, 0]]),
        (found(BOXES, [1, 1, 0]), [[0, 1, 0], [1, 1, 0], [0, 0, 0]]),
        (found(BOXES + np.float32(300), [0, 0, 1]), [[0, 0, 1], [0, 0, 2], [2, 1, 0]]),
        (found(BOXES, [0, 1, 1], [0.9, 0.1, 0.9]), [[1, 0, 0], [0, 1, 1], [0, 0, 0]]),
        (found(BOXES[[0, 0]], [1, 0], [0.9, 0.6]), [[1, 0, 0], [0, 0, 2], [0, 1, 0]]),
    ],
    ids=["nothing", "all right", "classes exchanged", "beside", "below the threshold", "the right class goes first"],
)
def test_counts(detections: dict[int, Detections], expected: list[list[int]]) -> None:
    assert confusion_matrix([IMAGE], detections, 2, conf=0.5).tolist() == expected


def test_crowds_take_false_detections_of_their_class() -> None:
    crowd = replace(IMAGE, crowd_boxes=np.array([[300, 0, 500, 200]], np.float32), crowd_labels=np.array([0], np.int64))
    inside = np.array([[310, 0, 340, 40], [400, 0, 440, 40]])
    matrix = confusion_matrix([crowd], found(inside, [0, 1]), 2, conf=0.5)
    assert matrix[2].tolist() == [0, 1, 0]


def test_agrees_with_supervision() -> None:
    """A second implementation, on pictures where each detection has one object at most."""
    import supervision as sv

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3)
    scores = rng.uniform(0.2, 1, 3).astype(np.float32)
    ours = confusion_matrix([IMAGE], found(BOXES + 2, labels.tolist(), scores.tolist()), 2, conf=0.5)
    theirs = sv.ConfusionMatrix.from_detections(
        predictions=[sv.Detections(BOXES + 2, confidence=scores, class_id=labels)],
        targets=[sv.Detections(BOXES, class_id=IMAGE.labels)],
        classes=["a", "b"],
        conf_threshold=0.5,
        iou_threshold=0.5,
    )
    assert ours.tolist() == theirs.matrix.astype(int).tolist()
