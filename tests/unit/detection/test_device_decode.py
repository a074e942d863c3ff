"""Decoding a batch at fixed shapes against ``decode_detections`` and torchvision's NMS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from vision.detection.anchors import AnchorConfig, make_anchors
from vision.detection.classes import relabel, wanted_labels
from vision.detection.config import DetectorConfig
from vision.detection.decode import decode_detections
from vision.detection.device_decode import (
    Effort,
    decode_batch,
    needed_effort,
    needed_width,
    read_result,
    settings_row,
    suppress,
)
from vision.detection.device_effort import PATIENCE, EffortMemory
from vision.geometry.letterbox import Letterbox
from vision.types import Detections

CLASSES = ("a", "b", "c")
ANCHORS = make_anchors(AnchorConfig(), (128, 192)).boxes
LETTERBOXES = (
    Letterbox((256, 360), (128, 180), (128, 192)),
    Letterbox((64, 96), (128, 192), (128, 192)),
    Letterbox((100, 150), (128, 192), (128, 192)),
)
WIDE = Effort(4096, rounds=4096)


def outputs(batch: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((batch, len(ANCHORS), len(CLASSES)), generator=generator) * 2 - 2
    return logits, torch.randn((batch, len(ANCHORS), 4), generator=generator) * 0.4


def decode(
    logits: torch.Tensor, deltas: torch.Tensor, configs: list[DetectorConfig], effort: Effort = WIDE
) -> list[np.ndarray]:
    settings = [
        settings_row(config, letterbox, wanted_labels(config.classes, CLASSES), len(CLASSES))
        for config, letterbox in zip(configs, LETTERBOXES, strict=False)
    ]
    return list(decode_batch(logits, deltas, ANCHORS, torch.from_numpy(np.stack(settings)), effort).numpy())


def expected(logits: torch.Tensor, deltas: torch.Tensor, letterbox: Letterbox, config: DetectorConfig) -> Detections:
    """Return what AnchorDetector makes of one picture's outputs."""
    wanted = wanted_labels(config.classes, CLASSES)
    own = logits if wanted is None else logits[:, wanted]
    return relabel(decode_detections(own, deltas, ANCHORS, letterbox, config), wanted)


def assert_equal(found: Detections, wanted: Detections) -> None:
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"conf": 0.4},
        {"conf": 0.02, "iou": 0.3},
        {"conf": 0.0, "iou": 1.0},
        {"conf": 1.0},
        {"conf": 0.3, "iou": 0.1, "class_agnostic": True},
        {"conf": 0.2, "max_det": 3},
        {"conf": 0.05, "pre_nms": 50},
        {"conf": 0.05, "pre_nms": 50, "classes": ("c", "a")},
        {"conf": 0.0, "classes": ("b",), "max_det": 10_000, "pre_nms": 10_000},
    ],
    ids=str,
)
def test_a_picture_gives_what_the_cpu_path_gives(settings: dict[str, Any]) -> None:
    config = DetectorConfig(**settings)
    logits, deltas = outputs(1)
    (result,) = decode(logits, deltas, [config])
    wanted = expected(logits[0], deltas[0], LETTERBOXES[0], config)
    assert_equal(read_result(result, config), wanted)
    assert (len(wanted) > 0) == (config.score_floor < 1)
    assert needed_effort([result], [config], WIDE) is None


def test_each_picture_of_a_batch_has_thresholds_of_its_own() -> None:
    configs = [
        DetectorConfig(conf=0.5, iou=0.2),
        DetectorConfig(conf=0.05, max_det=20, classes=("b",)),
        DetectorConfig(conf=0.2, class_agnostic=True, iou=0.7),
    ]
    logits, deltas = outputs(3)
    for row, result in enumerate(decode(logits, deltas, configs)):
        assert_equal(
            read_result(result, configs[row]), expected(logits[row], deltas[row], LETTERBOXES[row], configs[row])
        )


def test_an_unused_place_of_the_batch_finds_nothing() -> None:
    logits, deltas = outputs(2)
    rows = torch.zeros((2, len(settings_row(DetectorConfig(), LETTERBOXES[0], None, len(CLASSES)))))
    results = decode_batch(logits + 20, deltas, ANCHORS, rows, Effort(64)).numpy()
    assert np.isfinite(results).all()
    for result in results:
        assert len(read_result(result, DetectorConfig())) == 0
        assert needed_width([result], [DetectorConfig()]) == 0


def test_outputs_that_are_no_numbers_find_nothing() -> None:
    logits, deltas = outputs(1)
    config = DetectorConfig(conf=0.3)
    (result,) = decode(torch.full_like(logits, torch.nan), deltas, [config])
    assert len(read_result(result, config)) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_outputs_of_half_precision(dtype: torch.dtype) -> None:
    """Scores are computed in single precision whatever the network's is (many tie, so the order is our own)."""
    config = DetectorConfig(conf=0.6)
    logits, deltas = (part.to(dtype) for part in outputs(1))
    (result,), (single,) = decode(logits, deltas, [config]), decode(logits.float(), deltas.float(), [config])
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, single)


def test_too_little_room_is_told_and_enough_is_asked_for() -> None:
    config = DetectorConfig(conf=0.05)
    logits, deltas = outputs(1)
    narrow = Effort(128, rounds=4096)
    (result,) = decode(logits, deltas, [config], narrow)
    count = int((logits.sigmoid() >= 0.05).sum())
    assert needed_width([result], [config]) == min(count, config.pre_nms) > 128
    more = needed_effort([result], [config], narrow)
    assert more is not None
    assert more.width == 1024
    (result,) = decode(logits, deltas, [config], more)
    assert needed_effort([result], [config], more) is None
    assert_equal(read_result(result, config), expected(logits[0], deltas[0], LETTERBOXES[0], config))


def test_a_frame_that_admits_few_candidates_needs_no_more() -> None:
    config = DetectorConfig(conf=0.05, pre_nms=100)
    logits, deltas = outputs(1)
    effort = Effort(128, rounds=4096)
    assert needed_effort(decode(logits, deltas, [config], effort), [config], effort) is None


# --- suppression ---


def chain(length: int) -> torch.Tensor:
    """Return boxes of which each overlaps the next alone: the worst case, settled one after another."""
    left = torch.arange(length) * 6.0
    return torch.stack([left, torch.zeros(length), left + 10, torch.ones(length)], dim=1)


def run_nms(boxes: torch.Tensor, labels: torch.Tensor, iou: float, rounds: int) -> tuple[torch.Tensor, bool]:
    apart = labels[None, :, None] != labels[None, None, :]
    valid = torch.ones((1, len(boxes)), dtype=torch.bool)
    kept, settled = suppress(boxes[None], valid, apart, torch.tensor([iou]), rounds=rounds)
    return kept[0].nonzero().flatten(), bool(settled[0])


@pytest.mark.parametrize("iou", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("spread", [30, 300], ids=["a crowd", "scattered"])
def test_it_keeps_what_torchvision_keeps(iou: float, spread: int) -> None:
    generator = torch.Generator().manual_seed(spread)
    corner = torch.rand((400, 2), generator=generator) * spread
    boxes = torch.cat([corner, corner + 5 + torch.rand((400, 2), generator=generator) * 40], dim=1)
    labels = torch.randint(0, 3, (400,), generator=generator)
    scores = torch.linspace(1, 0, 400)
    kept, settled = run_nms(boxes, labels, iou, rounds=16)
    assert settled
    np.testing.assert_array_equal(kept.numpy(), batched_nms(boxes, scores, labels, iou).numpy())


def test_a_long_chain_is_never_taken_for_settled_too_early() -> None:
    boxes, labels = chain(60), torch.zeros(60, dtype=torch.int64)
    _, settled = run_nms(boxes, labels, 0.2, rounds=16)
    assert not settled
    kept, settled = run_nms(boxes, labels, 0.2, rounds=61)
    assert settled
    assert kept.tolist() == list(range(0, 60, 2))


def test_an_unsettled_batch_asks_for_rounds_that_always_suffice() -> None:
    result = np.zeros((257, 7), np.float32)
    result[0, :2] = 10, 0
    assert needed_effort([result], [DetectorConfig()], Effort(256)) == Effort(256, rounds=256)


def test_nothing_to_suppress() -> None:
    kept, settled = run_nms(torch.zeros((0, 4)), torch.zeros(0, dtype=torch.int64), 0.5, rounds=2)
    assert settled
    assert len(kept) == 0


# --- effort ---


def test_effort_grows_when_several_are_short_and_shrinks_after_a_while() -> None:
    memory = EffortMemory()
    assert memory.current.width == 256
    for width in (700, 5000, 600):
        memory.note(width)
        assert memory.current.width == 256
    memory.note(800)
    assert memory.current.width == 1024  # what all of them needed; 5000 was one picture
    for _ in range(PATIENCE - 1):
        memory.note(3)
    assert memory.current.width == 1024
    memory.note(3)
    assert memory.current.width == 512
    for _ in range(10 * PATIENCE):
        memory.note(0)
    assert memory.current.width == 256


def test_a_full_picture_now_and_then_changes_nothing_for_the_others() -> None:
    memory = EffortMemory()
    for _ in range(100):
        memory.note(8000)
        for _ in range(4):
            memory.note(20)
        assert memory.current.width == 256


def test_a_width_in_use_does_not_shrink() -> None:
    memory = EffortMemory()
    for _ in range(3 * PATIENCE):
        memory.note(1)
        memory.note(600)
    assert memory.current.width == 1024
