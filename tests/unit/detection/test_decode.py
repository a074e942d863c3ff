"""Decoding against plain numpy: thresholds, top-k, NMS, clipping, limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vision.detection.anchors import AnchorConfig, encode_boxes, make_anchors
from vision.detection.config import DetectorConfig
from vision.detection.decode import decode_detections
from vision.errors import ConfigError
from vision.geometry.iou import pairwise_iou
from vision.geometry.letterbox import Letterbox
from vision.types import Detections

SAME = Letterbox.fit((128, 192), long_side=192, multiple=64)
ANCHORS = make_anchors(AnchorConfig(), (128, 192)).boxes


def decode(
    boxes: Any, scores: Any, labels: Any, *, classes: int = 3, letterbox: Letterbox = SAME, **config: Any
) -> Detections:
    """Decode a network output made so that row i predicts box i with that score for that label."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    anchors = ANCHORS[torch.arange(len(boxes)) % len(ANCHORS)]
    logits = torch.full((len(boxes), classes), -30.0)
    logits[torch.arange(len(boxes)), torch.as_tensor(labels)] = torch.logit(
        torch.as_tensor(scores, dtype=torch.float32)
    )
    return decode_detections(logits, encode_boxes(boxes, anchors), anchors, letterbox, DetectorConfig(**config))


def crowd(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes that overlap a lot, scores without ties, labels."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, (150, 90), (count, 2)), rng.uniform(20, 40, (count, 2))
    boxes = np.concatenate([corner, np.minimum(corner + size, (192, 128))], axis=1).astype(np.float32)
    return boxes, rng.permutation(np.linspace(0.05, 0.95, count)).astype(np.float32), rng.integers(0, 3, count)


def plain_nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, limit: float) -> list[int]:
    """Greedy NMS as in a textbook: keep the best, drop what overlaps it by more than the limit, repeat."""
    iou = pairwise_iou(boxes, boxes) * (labels[:, None] == labels[None])
    kept: list[int] = []
    for row in np.argsort(-scores):
        if all(iou[row, other] <= limit for other in kept):
            kept.append(int(row))
    return kept


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_nms_equals_a_plain_implementation(seed: int, limit: float, class_agnostic: bool) -> None:
    boxes, scores, labels = crowd(80, seed)
    found = decode(boxes, scores, labels, conf=0.01, iou=limit, class_agnostic=class_agnostic)
    kept = plain_nms(boxes, scores, np.zeros(80) if class_agnostic else labels, limit)
    np.testing.assert_allclose(found.scores, scores[kept], atol=1e-5)
    np.testing.assert_allclose(found.boxes, boxes[kept], atol=1e-3)
    assert found.labels.tolist() == labels[kept].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_nms_is_idempotent_and_leaves_no_pair_above_the_limit(seed: int) -> None:
    once = decode(*crowd(120, seed), conf=0.01, iou=0.4)
    again = decode(once.boxes, once.scores, once.labels, conf=0.01, iou=0.4)
    np.testing.assert_allclose(again.boxes, once.boxes, atol=1e-3)
    assert again.labels.tolist() == once.labels.tolist()
    overlap = pairwise_iou(once.boxes, once.boxes) * (once.labels[:, None] == once.labels[None])
    assert (overlap[~np.eye(len(once), dtype=bool)] <= 0.4).all()


def test_order_of_anchors_changes_nothing() -> None:
    boxes, scores, labels = crowd(60, 1)
    order = np.random.default_rng(0).permutation(60)
    one, other = decode(boxes, scores, labels), decode(boxes[order], scores[order], labels[order])
    np.testing.assert_allclose(other.boxes, one.boxes, atol=1e-3)
    np.testing.assert_allclose(other.scores, one.scores, atol=1e-6)


APART = np.array([[10 + 30 * i, 10, 30 + 30 * i, 60] for i in range(5)], np.float32)
SCORES = np.array([0.1, 0.9, 0.3, 0.7, 0.5], np.float32)
ZEROS = np.zeros(5, np.int64)


@pytest.mark.parametrize(
    ("conf", "expected"),
    [(0.0, [0.9, 0.7, 0.5, 0.3, 0.1]), (0.29, [0.9, 0.7, 0.5, 0.3]), (0.6, [0.9, 0.7]), (0.95, []), (1.0, [])],
)
def test_threshold(conf: float, expected: list[float]) -> None:
    assert decode(APART, SCORES, ZEROS, classes=1, conf=conf).scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_score_at_the_threshold_is_kept() -> None:
    assert len(decode(APART[:1], [0.5], [0], conf=0.5)) == 1


def test_only_the_best_candidates_enter_nms() -> None:
    """Two candidates on one object: the second best elsewhere would survive NMS but does not enter."""
    boxes = np.array([[10, 10, 50, 50], [10, 10, 50, 51], [100, 10, 140, 50]], np.float32)
    found = decode(boxes, [0.9, 0.8, 0.7], [0, 0, 0], pre_nms=2)
    assert found.scores.tolist() == pytest.approx([0.9], abs=1e-6)
    assert len(decode(boxes, [0.9, 0.8, 0.7], [0, 0, 0], pre_nms=3)) == 2


def test_the_best_are_kept_up_to_the_limit() -> None:
    found = decode(APART, SCORES, ZEROS, conf=0.01, max_det=2)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7], abs=1e-6)
    np.testing.assert_allclose(found.boxes, APART[[1, 3]], atol=1e-3)


def test_one_anchor_may_give_two_classes() -> None:
    anchors = ANCHORS[200:201]
    logits = torch.tensor([[2.0, -30.0, 1.0]])
    each = decode_detections(logits, torch.zeros(1, 4), anchors, SAME, DetectorConfig(conf=0.3))
    assert each.labels.tolist() == [0, 2]
    one = decode_detections(logits, torch.zeros(1, 4), anchors, SAME, DetectorConfig(conf=0.3, class_agnostic=True))
    assert one.labels.tolist() == [0]


def test_boxes_are_clipped_and_lost_outside() -> None:
    boxes = [[-20, -10, 30, 40], [170, 100, 230, 150], [200, 10, 230, 50], [20, -50, 60, -1]]
    found = decode(boxes, [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 0])
    np.testing.assert_allclose(found.boxes, [[0, 0, 30, 40], [170, 100, 192, 128]], atol=1e-3)


def test_boxes_come_back_in_pixels_of_the_picture() -> None:
    letterbox = Letterbox.fit((64, 96), long_side=192, multiple=64)
    found = decode([[20, 40, 60, 100]], [0.9], [1], letterbox=letterbox)
    np.testing.assert_allclose(found.boxes, [[10, 20, 30, 50]], atol=1e-3)
    assert found.labels.tolist() == [1]


def test_nothing_found_is_empty() -> None:
    assert len(decode(np.zeros((0, 4)), [], np.zeros(0, np.int64))) == 0
    assert len(decode(APART, SCORES * 0.1, ZEROS)) == 0


def test_half_precision_outputs() -> None:
    anchors = ANCHORS[:4]
    for dtype in (torch.float16, torch.bfloat16):
        found = decode_detections(
            torch.full((4, 1), 2.0, dtype=dtype), torch.zeros(4, 4, dtype=dtype), anchors, SAME, DetectorConfig(iou=1.0)
        )
        assert len(found) == 4
        assert found.boxes.dtype == np.float32


@pytest.mark.parametrize(
    "fields",
    [
        *({"conf": value} for value in (-0.1, 1.1, float("nan"))),
        *({"iou": value} for value in (0.0, 1.1)),
        {"long_side": -1},
        {"max_det": 0},
        {"pre_nms": 0},
    ],
)
def test_config_ranges(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        DetectorConfig(**fields)
