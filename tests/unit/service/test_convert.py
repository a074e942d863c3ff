"""Results to JSON: the numbers as they are, names where there are names."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from service import convert
from vision.geometry.rle import decode_label_map
from vision.types import Classification, Detections, SegmentationMap

NAMES = ("person", "car")


def test_detections_keep_their_float32_numbers() -> None:
    boxes = np.array([[0.1, 0.2, 30.3, 40.4], [1, 2, 3, 4]], np.float32)
    found = Detections(boxes, np.array([0.7, 0.1], np.float32), np.array([1, 0]))
    rows = orjson.loads(orjson.dumps(convert.detections_json(found, NAMES)))
    np.testing.assert_array_equal(np.array([row["box"] for row in rows], np.float32), boxes)
    assert [np.float32(row["score"]) for row in rows] == found.scores.tolist()
    assert [(row["label"], row["class_name"]) for row in rows] == [(1, "car"), (0, "person")]


def test_nothing_found_is_an_empty_list() -> None:
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert convert.detections_json(empty, NAMES) == []


@pytest.mark.parametrize(("label", "name"), [(0, "person"), (1, "car"), (2, "2")])
def test_label_without_a_name_is_its_number(label: int, name: str) -> None:
    assert convert.class_name(NAMES, label) == name


def test_map_comes_back_with_the_area_of_each_class() -> None:
    labels = np.array([[0, 0, 1], [1, 1, 1]], np.uint8)
    row = orjson.loads(orjson.dumps(convert.segmentation_json(SegmentationMap(labels, ("sky", "road", "tree")))))
    np.testing.assert_array_equal(decode_label_map(row["segmentation"]), labels)
    assert [each["pixels"] for each in row["classes"]] == [2, 4, 0]
    assert sum(each["share"] for each in row["classes"]) == pytest.approx(1.0)
    assert row["class_names"] == ["sky", "road", "tree"]


def test_classes_say_which_are_assigned() -> None:
    found = Classification(np.array([3, 1]), np.array([0.8, 0.1], np.float32), ("cat", "dog"), 1)
    rows = convert.classification_json(found)["classes"]
    assert [(row["label"], row["class_name"], row["assigned"]) for row in rows] == [(3, "cat", True), (1, "dog", False)]


def test_size_is_width_and_height() -> None:
    assert convert.image_size((480, 640)) == {"width": 640, "height": 480}
