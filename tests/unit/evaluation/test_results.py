"""COCO results files: what is read is what was written, and each kind of wrong file is told by name."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.evaluation.ground_truth import GroundTruth, RelabelledDetector, read_ground_truth
from vision.evaluation.results import read_results, write_results
from vision.types import Detections, Frame

CATEGORIES = [{"id": 3, "name": "dog"}, {"id": 17, "name": "cat"}]
BOXES = [[10, 20, 30, 40], [50, 60, 20, 20], [5, 5, 60, 30]]


@pytest.fixture
def gt(tmp_path: Path) -> Path:
    """Three pictures with one object each; the ids have gaps, as COCO's have."""
    annotations = [
        {"id": index + 1, "image_id": 10 + index, "category_id": key, "bbox": box, "area": 100.0, "iscrowd": 0}
        for index, (key, box) in enumerate(zip((3, 17, 3), BOXES, strict=True))
    ]
    images = [{"id": 10 + index, "file_name": f"{index}.png"} for index in range(3)]
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return path


def rows(**changes: Any) -> list[dict[str, Any]]:
    keys = (3, 17, 3)
    made = [
        {"image_id": 10 + index, "category_id": keys[index], "bbox": BOXES[index], "score": 0.5} for index in range(3)
    ]
    return [{**row, **changes} for row in made]


def read(gt: Path, content: Any) -> dict[int, Detections]:
    path = gt.with_name("results.json")
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_results(path, read_ground_truth(gt))


def test_rows_become_detections_by_image(gt: Path) -> None:
    found = read(gt, [*rows(), {"image_id": 10, "category_id": 17, "bbox": [1, 2, 3, 4], "score": 0.25}])
    assert sorted(found) == [10, 11, 12]
    assert found[10].boxes.tolist() == [[10, 20, 40, 60], [1, 2, 4, 6]]
    assert found[10].labels.tolist() == [0, 1]
    assert found[10].scores.tolist() == [0.5, 0.25]
    assert read(gt, []) == {}


def test_written_results_are_read_back(gt: Path, tmp_path: Path) -> None:
    truth = read_ground_truth(gt)
    boxes = np.array([[10.25, 20, 40, 60.5], [0, 0, 30, 30]], np.float32)
    found = {10: Detections(boxes, np.array([0.875, 0.125], np.float32), np.array([1, 0]))}
    path = tmp_path / "out.json"
    write_results(path, found, truth.category_ids)
    assert [row["category_id"] for row in json.loads(path.read_text())] == [17, 3]
    again = read_results(path, truth)
    assert again[10].boxes.tolist() == boxes.tolist()
    assert again[10].scores.tolist() == [0.875, 0.125]
    assert again[10].labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", ("results.json", "cannot parse")),
        ({"images": [], "annotations": []}, ("ground truth", "--gt")),
        ({"a": 1}, ("found an object",)),
        ([1, 2], ("must be a list of objects",)),
        (rows(image_id=99), ("image ids", "99", "10, 11, 12")),
        (rows(category_id=0), ("category ids", "3 dog, 17 cat", "labels from 0")),
        (rows(category_id=5), ("category ids", "found 5")),
        (rows(image_id="10"), ("whole numbers", "'10'")),
        (rows(bbox=[1, 2, 3]), ("row 0 has bbox [1, 2, 3]",)),
        (rows(score="high"), ("row 0", "high")),
        ([{"image_id": 10}], ("lacks category_id, bbox, score",)),
        (rows(bbox=[10, 10, -5, 5]), ("sizes >= 0",)),
        (rows(bbox=[0.1, 0.2, 0.3, 0.4]), ("in pixels", "multiply")),
        ('[{"image_id": 10, "category_id": 3, "bbox": [1, 2, 3, NaN], "score": 1}]', ("cannot parse",)),
    ],
)
def test_each_wrong_file_is_told(gt: Path, content: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(gt, content)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_told(gt: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="check the path"):
        read_results(tmp_path / "absent.json", read_ground_truth(gt))


def test_corners_in_place_of_sizes_are_told(gt: Path) -> None:
    """Far from the origin, x2 and y2 read as width and height make boxes that meet nothing."""
    document = json.loads(gt.read_text())
    far = [[400 + 10 * index, 300, 40, 60] for index in range(12)]
    document["images"] = [{"id": index, "file_name": f"{index}.png"} for index in range(12)]
    document["annotations"] = [
        {"id": index + 1, "image_id": index, "category_id": 3, "bbox": box} for index, box in enumerate(far)
    ]
    gt.write_text(json.dumps(document))
    corners = [
        {"image_id": index, "category_id": 3, "bbox": [x, y, x + w, y + h], "score": 0.5}
        for index, (x, y, w, h) in enumerate(far)
    ]
    with pytest.raises(InvalidInputError, match="read as two corners 12 do"):
        read(gt, corners)


def test_categories_that_are_not_measured_are_left_out_with_a_warning(
    gt: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = gt.with_name("results.json")
    path.write_text(json.dumps(rows()))
    truth = read_ground_truth(gt, ["cat"])
    assert truth.class_names == ("cat",)
    assert truth.category_ids == (17,)
    with caplog.at_level(logging.WARNING):
        found = read_results(path, truth)
    assert sorted(found) == [11]
    assert "2 of 3 rows left out" in caplog.text


def test_classes_that_only_one_side_knows_are_left_out(gt: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        truth = read_ground_truth(gt, ["horse", "dog"])
    assert truth.class_names == ("dog",)
    assert [len(image.labels) for image in truth.images] == [1, 0, 1]
    assert "not measured, because the detector does not know them: cat" in caplog.text
    with pytest.raises(InvalidInputError, match="must have a class that the detector knows"):
        read_ground_truth(gt, ["person"])


def test_labels_are_translated_by_name() -> None:
    class Fixed:
        def detect(self, frames: list[Frame]) -> list[Detections]:
            boxes = np.tile(np.array([[0, 0, 9, 9]], np.float32), (3, 1))
            return [Detections(boxes, np.array([0.9, 0.8, 0.7]), np.array([0, 1, 2])) for _ in frames]

    detector = RelabelledDetector(Fixed(), ["horse", "cat", "dog"], ["dog", "cat"])  # type: ignore[arg-type]
    (found,) = detector.detect([Frame(np.zeros((9, 9, 3), np.uint8))])
    assert found.labels.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx([0.8, 0.7])


def test_pictures_from_another_folder(gt: Path, tmp_path: Path) -> None:
    truth: GroundTruth = read_ground_truth(gt, pictures=tmp_path / "elsewhere")
    assert truth.images[0].path == tmp_path / "elsewhere" / "0.png"
