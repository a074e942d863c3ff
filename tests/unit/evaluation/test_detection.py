"""COCO metrics on cases that can be counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from vision.evaluation.detection import METRIC_NAMES, coco_metrics, evaluate_detector, score_detections
from vision.training.datasets.pictures import AnnotatedImage
from vision.types import Detections, Frame

NAMES = ("person",)


def grid(count: int, side: float = 40) -> np.ndarray:
    x = 60.0 * np.arange(count, dtype=np.float32)
    return np.stack([x, x * 0, x + side, x * 0 + side], axis=1).astype(np.float32)


def picture(image_id: int, boxes: np.ndarray, label: int = 0) -> AnnotatedImage:
    return AnnotatedImage(Path(f"{image_id}.png"), image_id, boxes, np.full(len(boxes), label, np.int64))


def detections(boxes: np.ndarray, scores: list[float] | None = None, label: int = 0) -> Detections:
    values = np.linspace(0.9, 0.5, len(boxes)) if scores is None else np.array(scores)
    return Detections(boxes, values.astype(np.float32), np.full(len(boxes), label, np.int64))


def test_everything_found_is_one() -> None:
    images = [picture(1, grid(3)), picture(5, grid(2)), picture(9, grid(0))]
    metrics = coco_metrics(images, {image.image_id: detections(image.boxes) for image in images}, NAMES)
    assert set(metrics) == {*METRIC_NAMES, "f1", "f1_conf", "f1_cross"}
    for name in ("ap", "ap50", "ap75", "ap_medium", "ar100", "f1"):
        assert metrics[name] == pytest.approx(1.0), name
    assert metrics["ar1"] == pytest.approx(0.4)  # one of three and one of two
    assert metrics["ap_large"] == -1  # there are none
    assert metrics["f1_conf"] == pytest.approx(0.5)


def test_half_found() -> None:
    """Recall ends at 1/2 with full precision: the 51 of 101 recall points up to 0.5 have precision 1."""
    metrics = coco_metrics([picture(1, grid(4))], {1: detections(grid(4)[:2])}, NAMES)
    assert metrics["ap50"] == pytest.approx(51 / 101)
    assert metrics["ap"] == pytest.approx(51 / 101)
    assert metrics["ar100"] == pytest.approx(0.5)
    assert metrics["f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("found", [{}, {1: Detections.empty()}])
def test_nothing_found_is_zero(found: dict[int, Detections]) -> None:
    metrics = coco_metrics([picture(1, grid(4))], found, NAMES)
    assert metrics["ap"] == metrics["ap50"] == metrics["ar100"] == metrics["f1"] == 0


def test_a_false_positive_costs_by_its_score() -> None:
    """One object. A surer false box halves the precision of everything; a less sure one costs nothing of AP."""
    images, false_box = [picture(1, grid(1))], np.array([[500, 500, 540, 540]], np.float32)
    both = np.concatenate([grid(1), false_box])
    before = coco_metrics(images, {1: detections(both, [0.5, 0.9])}, NAMES)
    after = coco_metrics(images, {1: detections(both, [0.9, 0.5])}, NAMES)
    assert before["ap50"] == pytest.approx(0.5)
    assert before["f1"] == pytest.approx(2 / 3)
    assert after["ap50"] == pytest.approx(1.0)
    assert after["f1"] == pytest.approx(1.0)
    assert after["f1_conf"] == pytest.approx(0.9)


def test_a_second_box_on_one_object_is_false() -> None:
    both = np.concatenate([grid(1) + np.float32(1), grid(1)])
    metrics = coco_metrics([picture(1, grid(2))], {1: detections(both, [0.9, 0.8])}, NAMES)
    assert metrics["ar100"] <= 0.5
    assert metrics["ap50"] == pytest.approx(51 / 101)


def test_a_loose_box_counts_at_low_overlap_only() -> None:
    loose = grid(1) + np.array([0, 0, 0, 20], np.float32)  # IoU 40 * 40 / (40 * 60) = 2/3
    metrics = coco_metrics([picture(1, grid(1))], {1: detections(loose)}, NAMES)
    assert metrics["ap50"] == pytest.approx(1)
    assert metrics["ap75"] == 0
    assert metrics["ap"] == pytest.approx(4 / 10)  # 0.50, 0.55, 0.60, 0.65


def test_the_class_must_be_right() -> None:
    names = ("person", "dog")
    images = [picture(1, grid(2)), picture(2, grid(2), label=1)]
    right = {1: detections(grid(2)), 2: detections(grid(2), label=1)}
    wrong = {1: detections(grid(2)), 2: detections(grid(2), label=0)}
    assert coco_metrics(images, right, names)["ap"] == pytest.approx(1)
    assert coco_metrics(images, wrong, names)["ap50"] < 0.6


def test_a_class_without_objects_does_not_count() -> None:
    metrics = coco_metrics([picture(1, grid(2))], {1: detections(grid(2))}, ("person", "dog"))
    assert metrics["ap"] == pytest.approx(1)
    assert metrics["f1"] == pytest.approx(1)
    assert metrics["f1_conf"] == pytest.approx(0.5)


def test_false_boxes_on_pictures_without_objects() -> None:
    metrics = coco_metrics([picture(1, grid(0))], {1: detections(grid(2))}, NAMES)
    assert metrics["f1"] == metrics["f1_conf"] == 0


def test_a_detector_is_run_on_each_picture(tmp_path: Path) -> None:
    images = []
    for image_id, width in ((1, 120), (2, 200)):
        path = tmp_path / f"{image_id}.png"
        cv2.imwrite(str(path), np.zeros((50, width, 3), np.uint8))
        images.append(AnnotatedImage(path, image_id, grid(width // 60), np.zeros(width // 60, np.int64)))

    class ByWidth:
        def detect(self, frames: list[Frame]) -> list[Detections]:
            return [detections(grid(frame.size_hw[1] // 60)) for frame in frames]

    assert evaluate_detector(ByWidth(), images, NAMES)["ap"] == pytest.approx(1)  # type: ignore[arg-type]


def test_detections_in_a_crowd_cost_nothing() -> None:
    """Two boxes inside a crowd region are ignored; one half outside of it, or of another class, is false."""
    crowd = np.array([[400, 0, 600, 200]], np.float32)
    image = replace(picture(1, grid(1)), crowd_boxes=crowd, crowd_labels=np.zeros(1, np.int64))
    inside = np.array([[410, 10, 450, 50], [500, 100, 540, 140]], np.float32)
    outside = np.array([[590, 0, 640, 40]], np.float32)
    for extra, expected in ((inside, 1.0), (outside, 0.5)):
        boxes = np.concatenate([extra, grid(1)])
        scores = score_detections([image], {1: detections(boxes, [0.9] * len(extra) + [0.5])}, NAMES)
        assert scores.metrics["ap50"] == pytest.approx(expected)
        assert scores.classes[0].precision == pytest.approx(expected)
        assert scores.classes[0].objects == 1


def test_stated_areas_decide_the_size() -> None:
    """A box of 40 x 40 is medium (32^2 to 96^2); its outline of 900 square pixels is small."""
    image = picture(1, grid(2))
    stated = replace(image, areas=np.array([900.0, np.nan]))
    found = {1: detections(grid(2)[:1])}
    by_box, by_area = coco_metrics([image], found, NAMES), coco_metrics([stated], found, NAMES)
    assert (by_box["ap_small"], by_box["ap_medium"]) == (-1, pytest.approx(51 / 101))
    assert (by_area["ap_small"], by_area["ap_medium"]) == (pytest.approx(1), 0)
    assert by_box["ap"] == by_area["ap"]


def test_scores_of_each_class() -> None:
    names = ("person", "dog", "horse")
    images = [picture(1, grid(2)), picture(2, grid(4), label=1)]
    found = {1: detections(grid(2), [0.9, 0.8]), 2: detections(grid(4)[:2], [0.6, 0.5], label=1)}
    scores = score_detections(images, found, names)
    person, dog, horse = scores.classes
    assert (person.name, person.objects, person.ap, person.f1) == ("person", 2, pytest.approx(1), pytest.approx(1))
    assert dog.ap50 == pytest.approx(51 / 101)
    assert (dog.precision, dog.recall, dog.own.conf) == (pytest.approx(1), 0.5, 0.5)
    assert (horse.objects, horse.ap, horse.ap50, horse.recall) == (0, -1, -1, 0)
    assert scores.conf == 0.5
    strict = score_detections(images, found, names, conf=0.7)
    assert strict.classes[1].recall == 0
    assert strict.metrics == scores.metrics
    nothing = score_detections(images, {}, names)
    assert [item.ap for item in nothing.classes] == [0, 0, -1]


def test_ap50_agrees_with_the_curve_drawn_for_it() -> None:
    """The library's matching and ours, on boxes that overlap several objects, by the 101-point average."""
    from vision.evaluation.curves import precision_recall

    rng = np.random.default_rng(3)
    images, found = [], {}
    for image_id in range(12):
        corners = rng.uniform(0, 60, (5, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(15, 40, (5, 2))], axis=1).astype(np.float32)
        crowd = np.array([[100, 0, 160, 60]], np.float32)
        images.append(replace(picture(image_id, boxes), crowd_boxes=crowd, crowd_labels=np.zeros(1, np.int64)))
        noisy = np.concatenate([boxes, boxes]) + rng.normal(0, 3, (10, 4)).astype(np.float32)
        strays = np.array([[110, 5, 130, 30], [90, 5, 115, 30], [200, 5, 215, 30]], np.float32)
        found[image_id] = detections(np.concatenate([noisy, strays]), rng.uniform(0.1, 0.9, 13).tolist())
    scores = score_detections(images, found, NAMES)
    precision, recall = precision_recall(scores.matches[0])
    points = [precision[recall >= point].max(initial=0) for point in np.linspace(0, 1, 101)]
    assert scores.metrics["ap50"] == pytest.approx(np.mean(points), abs=1e-12)
    assert 0.2 < scores.metrics["ap50"] < 0.95
