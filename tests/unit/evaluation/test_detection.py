"""COCO metrics on cases that can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vision.evaluation.detection import METRIC_NAMES, coco_metrics, evaluate_detector
from vision.training.datasets.coco import AnnotatedImage
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
    assert set(metrics) == {*METRIC_NAMES, "f1", "f1_conf"}
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
