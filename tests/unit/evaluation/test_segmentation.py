"""Scores of segmentation against hand-counted pixels."""

import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.evaluation.borders import border_f_score, border_of
from vision.evaluation.segmentation import SegmentationMeter

NAMES = ("road", "car", "sky")


def meter_of(labels, truth, **options):
    meter = SegmentationMeter(NAMES, **options)
    meter.add(np.array(labels, np.uint8), np.array(truth, np.uint8))
    return meter


def test_iou_by_hand_with_ignored_pixels():
    meter = meter_of([[0, 0, 1, 1]], [[0, 1, 1, 255]], borders=False)
    scores = meter.scores()
    assert scores["iou/road"] == pytest.approx(1 / 2)
    assert scores["iou/car"] == pytest.approx(1 / 2)
    assert np.isnan(scores["iou/sky"])
    assert scores["mIoU"] == pytest.approx(1 / 2)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["class_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["pictures"] == 1
    np.testing.assert_array_equal(meter.confusion, [[1, 0, 0], [1, 1, 0], [0, 0, 0]])


def test_a_class_found_where_none_is_has_iou_zero_and_does_not_count_in_the_mean():
    scores = meter_of([[0, 2]], [[0, 0]], borders=False).scores()
    assert scores["iou/sky"] == 0
    assert scores["mIoU"] == pytest.approx(1 / 2)


def test_pictures_add_up():
    meter = meter_of([[0]], [[0]], borders=False)
    meter.add(np.array([[1, 1]]), np.array([[0, 1]], np.uint8))
    assert meter.scores()["iou/road"] == pytest.approx(1 / 2)
    assert meter.scores()["pictures"] == 2


def test_nothing_known_scores_nothing():
    scores = meter_of([[0]], [[255]], borders=False).scores()
    assert np.isnan(scores["mIoU"])
    assert np.isnan(scores["accuracy"])


def test_maps_of_another_size_are_refused():
    with pytest.raises(InvalidInputError, match="must have one size"):
        meter_of([[0, 1]], [[0]])


def square(left, size=40, side=10):
    mask = np.zeros((size, size), bool)
    mask[10 : 10 + side, left : left + side] = True
    return mask


def test_borders_of_a_square():
    assert border_of(square(10)).sum() == 4 * 10 - 4


def test_the_pictures_edge_is_no_border():
    assert border_of(np.ones((5, 5), bool)).sum() == 0


def test_border_f_score_forgives_within_the_radius():
    assert border_f_score(square(10), square(10), 1) == 1
    assert border_f_score(square(11), square(10), 1) == 1
    assert border_f_score(square(14), square(10), 1) < 0.7
    assert border_f_score(square(25), square(10), 1) == 0
    assert border_f_score(np.zeros((40, 40), bool), square(10), 1) == 0
    assert border_f_score(np.ones((40, 40), bool), np.ones((40, 40), bool), 1) == 1
