"""The sliding-window detector: literal crops as the reference, batches, classes, small and large pictures, cards."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vision.card import ModelCard
from vision.detection import window_pyramid
from vision.detection.config import DetectorConfig
from vision.detection.registry import load_detector
from vision.detection.window import LiteralCrops, WindowDetector
from vision.detection.window_network import WindowNetwork
from vision.errors import ConfigError, ModelError, WeightsError
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine
from vision.runtime.torch_engine import TorchEngine
from vision.store import file_sha256
from vision.types import Detections, Frame

NAMES = ("person", "dog", "car")
TORCH = RuntimeConfig(device="cpu", engine="torch")


@pytest.fixture
def engine(window_network: WindowNetwork) -> TorchEngine:
    return TorchEngine(window_network, torch.device("cpu"), "fp32")


def make_detector(network: WindowNetwork, engine: Engine, *, long_side: int = 64, **config: Any) -> WindowDetector:
    return WindowDetector(
        engine,
        geometry=network.geometry,
        class_names=NAMES,
        normalization=network.backbone.normalization,
        long_side=long_side,
        scales_per_octave=2,
        config=DetectorConfig(**{"conf": 0.3, **config}),
    )


def noise(size_hw: tuple[int, int], seed: int = 0) -> Frame:
    """Return a frame of smooth noise, which has structure at several scales."""
    image = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return Frame(np.asarray(cv2.GaussianBlur(image, (3, 3), 0), np.uint8))


def assert_same(found: Detections, expected: Detections) -> None:
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_one_run_a_level_gives_what_literal_crops_give(window_network: WindowNetwork, engine: TorchEngine) -> None:
    detector = make_detector(window_network, engine)
    literal = make_detector(window_network, LiteralCrops(engine, window_network.geometry, batch=50))
    frames = [noise((48, 64)), noise((48, 64), seed=1)]
    for level in detector.levels((48, 64)):
        for dense, cropped in zip(detector.run_level(frames, level), literal.run_level(frames, level), strict=True):
            assert dense.shape == cropped.shape
            np.testing.assert_allclose(dense, cropped, atol=1e-5)
    for found, expected in zip(detector.detect(frames), literal.detect(frames), strict=True):
        assert len(found) > 5
        assert_same(found, expected)


def test_a_window_cut_out_of_the_original_and_shrunk_is_the_window_of_the_level(
    window_network: WindowNetwork, engine: TorchEngine
) -> None:
    """Cut, then resized: at half the size, where the average of 2 x 2 pixels knows no neighbours, to the last bit."""
    detector = make_detector(window_network, engine)
    frame = noise((96, 128))
    level = detector.levels(frame.size_hw)[0]
    assert level.scaled_hw == (48, 64)
    classes, objectness, _ = detector.run_level([frame], level)
    (height, width), stride = window_network.geometry.crop_hw, window_network.geometry.stride
    for row, column in ((3, 4), (5, 7)):
        y, x = stride * row - level.offset_yx[0], stride * column - level.offset_yx[1]
        crop = cv2.resize(
            frame.image[2 * y : 2 * (y + height), 2 * x : 2 * (x + width)],
            (width, height),
            interpolation=cv2.INTER_AREA,
        )
        normalization = window_network.backbone.normalization
        planes = ((crop.astype(np.float32) - normalization.mean) / normalization.std).transpose(2, 0, 1)
        found = engine.run(planes[None].astype(np.float32))
        first = 2 * (row * level.grid_hw[1] + column)
        np.testing.assert_allclose(classes[:, first : first + 2], found[0], atol=1e-5)
        np.testing.assert_allclose(objectness[:, first : first + 2], found[1], atol=1e-5)


def test_a_frame_gives_the_same_in_any_company(window_network: WindowNetwork, engine: TorchEngine) -> None:
    detector = make_detector(window_network, engine)
    frames = [noise((48, 64)), noise((40, 30), seed=1), noise((48, 64), seed=2)]
    for frame, together in zip(frames, detector.detect(frames), strict=True):
        assert_same(together, detector.detect([frame])[0])
    assert detector.detect([]) == []


def test_strips_change_nothing(
    window_network: WindowNetwork, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = make_detector(window_network, engine)
    frame = noise((64, 48))
    expected = detector.detect([frame])[0]
    monkeypatch.setattr(window_pyramid, "MAX_CANVAS_PIXELS", 3000)
    assert_same(detector.detect([frame])[0], expected)


class RecordingEngine:
    """Passes on to an engine and keeps the sizes of the batches."""

    name = "recording"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.pixels: list[int] = []

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        self.pixels.append(batch.shape[0] * batch.shape[2] * batch.shape[3])
        return self.engine.run(batch)


def test_memory_is_bounded_however_large_picture_and_level_are(
    window_network: WindowNetwork, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_pyramid, "MAX_CANVAS_PIXELS", 20_000)
    recording = RecordingEngine(engine)
    huge = Frame(np.zeros((1500, 3000, 3), np.uint8))
    make_detector(window_network, recording).detect([huge] * 2)
    assert max(recording.pixels) <= 20_000
    recording.pixels.clear()
    make_detector(window_network, recording, long_side=400).detect([huge])
    assert max(recording.pixels) <= 20_000
    assert len(recording.pixels) > 10


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 3), (2, 300), (26, 22)])
def test_pictures_smaller_than_the_window_work(
    window_network: WindowNetwork, engine: TorchEngine, size_hw: tuple[int, int]
) -> None:
    found = make_detector(window_network, engine, conf=0.01).detect([noise(size_hw)])[0]
    assert (found.boxes[:, 2] <= size_hw[1]).all()
    assert (found.boxes[:, 3] <= size_hw[0]).all()


def test_wanted_classes_keep_their_labels(window_network: WindowNetwork, engine: TorchEngine) -> None:
    frame = noise((48, 64))
    found = make_detector(window_network, engine, conf=0.1, classes=("car", "person")).detect([frame])[0]
    assert set(found.labels.tolist()) == {0, 2}
    with pytest.raises(ConfigError, match="got 'cat'"):
        make_detector(window_network, engine, classes=("cat",))


# --- cards ---


@pytest.fixture
def card(window_network: WindowNetwork, tmp_path: Path) -> ModelCard:
    weights = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in window_network.state_dict().items()}, weights)
    return ModelCard(
        name="sliding",
        kind="detector",
        summary="seeded noise",
        folder=tmp_path,
        architecture={"family": "window", **window_network.architecture.to_dict()},
        preprocess={"long_side": 64, "scales_per_octave": 2, "mean": [127.0] * 3, "std": [128.0] * 3},
        labels=NAMES,
        sha256=file_sha256(weights),
        licence="Apache-2.0",
    )


def test_a_card_gives_the_detector(
    card: ModelCard, window_network: WindowNetwork, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path / "cache"))
    frame = noise((48, 64))
    expected = make_detector(window_network, engine).detect([frame])[0]
    for runtime in (TORCH, RuntimeConfig(device="cpu", engine="onnx", threads=1)):
        detector = load_detector(card, DetectorConfig(conf=0.3), runtime)
        assert detector.class_names == NAMES
        assert_same(detector.detect([frame])[0], expected)
    assert isinstance(detector, WindowDetector)
    larger = load_detector(card, DetectorConfig(long_side=100), TORCH)
    assert isinstance(larger, WindowDetector)
    assert (detector.long_side, larger.long_side) == (64, 100)


def test_a_card_without_a_key_or_with_other_weights_is_refused(card: ModelCard) -> None:
    for table in ("architecture", "preprocess"):
        for key in getattr(card, table):
            if key == "family":
                continue
            values = {name: value for name, value in getattr(card, table).items() if name != key}
            with pytest.raises(ModelError, match=rf"must have {table}\.{key}"):
                load_detector(dataclasses.replace(card, **{table: values}), DetectorConfig(), TORCH)
    other = dataclasses.replace(card, architecture={**card.architecture, "hidden": 9})
    with pytest.raises(WeightsError, match="of another shape"):
        load_detector(other, DetectorConfig(), TORCH)
