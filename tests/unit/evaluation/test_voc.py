"""VOC's AP against the example counted by hand and a second formula."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision.evaluation.voc import average_precision_11, average_precision_area, voc_scores
from vision.training.datasets.pictures import AnnotatedImage
from vision.types import Detections


def curve(correct: list[bool], objects: int) -> tuple[np.ndarray, np.ndarray]:
    right = np.cumsum(correct)
    return right / objects, right / np.arange(1, len(correct) + 1)


def test_worked_example() -> None:
    """Ten detections of five objects, right at ranks 1, 2, 6, 7 and 10: precision there 1, 1, 1/2, 4/7, 1/2.

    Made to fall from the right: 1 up to recall 0.4, 4/7 up to 0.8, 1/2 up to 1.
    """
    recall, precision = curve([True, True, False, False, False, True, True, False, False, True], 5)
    # Points 0 to 0.4 have 1 (five), 0.5 to 0.8 have 4/7 (four), 0.9 and 1 have 1/2 (two).
    assert average_precision_11(recall, precision) == pytest.approx((5 * 1 + 4 * 4 / 7 + 2 * 0.5) / 11)
    assert average_precision_area(recall, precision) == pytest.approx(0.4 * 1 + 0.4 * 4 / 7 + 0.2 * 0.5)


@pytest.mark.parametrize("objects", range(1, 12))
def test_every_object_found_is_one_at_every_count(objects: int) -> None:
    """Recalls such as 3 / 10 must reach the recall points in spite of rounding."""
    recall, precision = curve([True] * objects, objects)
    assert average_precision_11(recall, precision) == pytest.approx(1)
    assert average_precision_area(recall, precision) == pytest.approx(1)


def test_no_detection_is_zero() -> None:
    assert average_precision_11(np.zeros(0), np.zeros(0)) == average_precision_area(np.zeros(0), np.zeros(0)) == 0


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 20))
def test_area_is_the_mean_precision_at_each_object(correct: list[bool], missed: int) -> None:
    """Every object found adds 1 / objects to recall: the area is the mean over objects of the best precision there."""
    objects = max(sum(correct) + missed, 1)
    recall, precision = curve(correct, objects)
    counts = np.cumsum(correct)
    best = [max(precision[counts >= n].tolist(), default=0.0) for n in range(1, objects + 1)]
    assert average_precision_area(recall, precision) == pytest.approx(np.mean(best))


BOXES = np.array([[0, 0, 40, 40], [100, 0, 140, 40], [200, 0, 240, 40]], np.float32)


def picture(**changes: object) -> AnnotatedImage:
    return replace(AnnotatedImage(Path("1.png"), 1, BOXES, np.zeros(3, np.int64)), **changes)  # type: ignore[arg-type]


def score(boxes: np.ndarray, image: AnnotatedImage) -> float:
    scores = np.linspace(0.9, 0.5, len(boxes)).astype(np.float32)
    found = {1: Detections(boxes.astype(np.float32), scores, np.zeros(len(boxes), np.int64))}
    return voc_scores([image], found, 1).area


def test_difficult_objects_are_neither_asked_for_nor_punished() -> None:
    difficult = np.array([True, False, False])
    assert score(BOXES[1:], picture()) == pytest.approx(2 / 3)
    assert score(BOXES[1:], picture(difficult=difficult)) == pytest.approx(1)
    # The surest box is that of the difficult object: left out, not wrong; so is a second one on it.
    assert score(BOXES[[0, 0, 1, 2]], picture(difficult=difficult)) == pytest.approx(1)


def test_a_detection_takes_the_object_it_overlaps_most_and_no_second_best() -> None:
    """VOC's rule: two boxes nearest to one object are one right and one wrong, though another object is near."""
    near = np.array([[0, 0, 40, 40], [0, 10, 40, 50]], np.float32)
    image = AnnotatedImage(Path("1.png"), 1, near, np.zeros(2, np.int64))
    boxes = np.array([[0, 0, 40, 40], [0, 4, 40, 44]], np.float32)
    assert score(boxes, image) == pytest.approx(0.5)


def test_means_leave_out_classes_without_objects() -> None:
    found = {1: Detections(BOXES, np.full(3, 0.5, np.float32), np.array([0, 0, 1]))}
    result = voc_scores([picture()], found, 3)
    assert result.area_by_class == (pytest.approx(2 / 3), -1, -1)
    assert result.area == pytest.approx(2 / 3)
    assert voc_scores([], {}, 2).ap11 == -1
