"""The detector on a stand-in engine: grouping, class filter, limits; and loading from cards."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.backbones.registry import build_backbone
from vision.card import ModelCard, write_card
from vision.detection.anchors import AnchorConfig, make_anchors
from vision.detection.config import DetectorConfig
from vision.detection.detector import AnchorDetector, load_anchor_detector
from vision.detection.fpn_lite import build_fpn_lite
from vision.errors import ConfigError, ModelError, WeightsError
from vision.runtime.config import RuntimeConfig
from vision.store import file_sha256
from vision.types import Frame

NAMES = ("person", "bicycle", "car")
TORCH = RuntimeConfig(device="cpu", engine="torch")


class BrightnessEngine:
    """Fires one anchor of each class in the middle of the input; the score tells the mean of the picture."""

    name = "stand-in"

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        self.batches.append(batch.shape)
        counts = make_anchors(AnchorConfig(), batch.shape[2:]).counts
        logits = np.full((len(batch), sum(counts), len(NAMES)), -30, np.float32)
        for label in range(len(NAMES)):
            logits[:, sum(counts[:2]) + label, label] = batch.mean(axis=(1, 2, 3)) - 0.1 * label
        return [logits, np.zeros((len(batch), sum(counts), 4), np.float32)]


def make_detector(**config: Any) -> AnchorDetector:
    return AnchorDetector(
        BrightnessEngine(),
        anchors=AnchorConfig(),
        multiple=64,
        class_names=NAMES,
        normalization=TENSORFLOW_NORMALIZATION,
        long_side=128,
        config=DetectorConfig(conf=0.01, **config),
    )


def flat(size_hw: tuple[int, int], value: int) -> Frame:
    return Frame(np.full((*size_hw, 3), value, np.uint8))


def test_no_frames() -> None:
    assert make_detector().detect([]) == []


def test_frames_of_different_sizes_come_back_in_order() -> None:
    frames = [flat((96, 128), 250), flat((300, 100), 127), flat((48, 64), 5), flat((128, 128), 200)]
    detector = make_detector()
    together = detector.detect(frames)
    # One batch for each shape of network input: two pictures of 4:3, one upright, one square (4:3 pads to a square).
    assert sorted(shape[0] for shape in detector.engine.batches) == [1, 3]
    for frame, found in zip(frames, together, strict=True):
        (alone,) = make_detector().detect([frame])
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        np.testing.assert_array_equal(found.scores, alone.scores)
        height, width = frame.size_hw
        assert (found.boxes <= (width, height, width, height)).all()
    best = [found.scores.max() for found in together]
    assert best[0] > best[3] > best[1] > best[2]


def test_long_side_of_the_configuration_wins() -> None:
    detector = make_detector(long_side=256)
    detector.detect([flat((96, 128), 100)])
    assert detector.engine.batches == [(1, 3, 192, 256)]


@pytest.mark.parametrize(
    ("classes", "labels"), [((), {0, 1, 2}), (("car",), {2}), (("car", "person"), {0, 2}), (NAMES, {0, 1, 2})]
)
def test_only_the_wanted_classes(classes: tuple[str, ...], labels: set[int]) -> None:
    (found,) = make_detector(classes=classes).detect([flat((128, 128), 200)])
    assert set(found.labels.tolist()) == labels


def test_an_unknown_class_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"person, bicycle, car, got 'persn' \(did you mean 'person'\?\)"):
        make_detector(classes=("persn",))


def test_max_det() -> None:
    (found,) = make_detector(max_det=1).detect([flat((128, 128), 200)])
    assert found.labels.tolist() == [0]


def test_a_wanted_class_is_not_crowded_out_by_the_others() -> None:
    (found,) = make_detector(max_det=1, classes=("car",)).detect([flat((128, 128), 200)])
    assert found.labels.tolist() == [2]


# --- cards ---


def write_model(folder: Path, **changes: Any) -> ModelCard:
    torch.manual_seed(0)
    network = build_fpn_lite(
        build_backbone("resnet18"), num_classes=2, anchors=AnchorConfig(), channels=8, head_depth=1
    )
    folder.mkdir()
    weights = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, weights)
    card = ModelCard(
        name=folder.name,
        kind="detector",
        summary="random",
        folder=folder,
        architecture={
            "backbone": "resnet18",
            "channels": 8,
            "head_depth": 1,
            "anchors": dataclasses.asdict(AnchorConfig()),
        },
        preprocess={"long_side": 64, "mean": [1.0, 2, 3], "std": [4.0, 5, 6], "multiple": 64},
        labels=("person", "car"),
        sha256=file_sha256(weights),
        licence="Apache-2.0",
    )
    card = dataclasses.replace(card, **changes)
    write_card(folder, card)
    return card


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    return write_model(tmp_path / "tiny")


def test_a_card_makes_a_detector(card: ModelCard) -> None:
    detector = load_anchor_detector(card, DetectorConfig(conf=0, max_det=7), TORCH)
    assert detector.class_names == ("person", "car")
    assert (detector.long_side, detector.multiple) == (64, 64)
    assert detector.normalization.std == (4.0, 5, 6)
    (found,) = detector.detect([flat((60, 80), 90)])
    assert len(found) == 7
    assert set(found.labels.tolist()) <= {0, 1}


@pytest.mark.parametrize(("place", "key"), [("architecture", "channels"), ("preprocess", "long_side")])
def test_a_card_without_a_key(card: ModelCard, place: str, key: str) -> None:
    table = {name: value for name, value in getattr(card, place).items() if name != key}
    with pytest.raises(ModelError, match=rf"must have {place}\.{key}"):
        load_anchor_detector(dataclasses.replace(card, **{place: table}), DetectorConfig(), TORCH)


def test_weights_of_another_architecture_name_both_sides(card: ModelCard) -> None:
    wide = dataclasses.replace(card, labels=("person", "car", "dog"))
    with pytest.raises(WeightsError, match=r"expected class_head.*\(3,\).*found class_head.*\(2,\)"):
        load_anchor_detector(wide, DetectorConfig(), TORCH)


def test_a_missing_tensor_is_named(card: ModelCard) -> None:
    tensors = load_file(card.weights_path)
    del tensors["box_head.predict.bias"]
    save_file(tensors, card.weights_path)
    with pytest.raises(WeightsError, match=r"expected box_head\.predict\.bias, found nothing \(1 missing"):
        load_anchor_detector(dataclasses.replace(card, sha256=file_sha256(card.weights_path)), DetectorConfig(), TORCH)
