"""The shipped sliding-window detector: one run a level equals literal crops, and it is as good as its card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vision.build import build_detector
from vision.card import ModelCard
from vision.detection.config import DetectorConfig
from vision.detection.window import LiteralCrops, WindowDetector, load_window_detector
from vision.errors import ModelNotFoundError
from vision.evaluation.detection import evaluate_detector
from vision.geometry.iou import pairwise_iou
from vision.runtime.config import RuntimeConfig
from vision.store import find_model
from vision.training.datasets.detection import read_detection_data
from vision.types import Frame

NAME = "person-window"
CPU = RuntimeConfig(device="cpu", threads=1)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    try:
        return find_model(NAME, kind="detector")
    except ModelNotFoundError:
        pytest.skip(f"needs the default weights {NAME} in the model store")


@pytest.fixture(scope="module")
def portrait() -> Frame:
    data = pytest.importorskip("skimage.data", reason="needs a photograph of scikit-image")
    return Frame(np.ascontiguousarray(data.astronaut()))


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_literal_crops_agree_on_every_level(card: ModelCard, portrait: Frame, engine: str) -> None:
    config = DetectorConfig(conf=0.02, long_side=96)
    runtime = RuntimeConfig(device="cpu", threads=1, engine=engine)  # type: ignore[arg-type]
    detector = load_window_detector(card, config, runtime)
    literal = WindowDetector(
        LiteralCrops(detector.engine, detector.geometry),
        geometry=detector.geometry,
        class_names=detector.class_names,
        normalization=detector.normalization,
        long_side=detector.long_side,
        scales_per_octave=detector.scales_per_octave,
        config=config,
    )
    levels = detector.levels(portrait.size_hw)
    assert len(levels) >= 3
    for level in levels:
        dense, cropped = detector.run_level([portrait], level), literal.run_level([portrait], level)
        for found, expected in zip(dense, cropped, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)
    found, expected = detector.detect([portrait])[0], literal.detect([portrait])[0]
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)


def test_it_finds_the_person_of_a_portrait(card: ModelCard, portrait: Frame) -> None:
    detector = build_detector(DetectorConfig(model=NAME), CPU)
    found = detector.detect([portrait])[0]
    # Head, shoulders and suit fill most of the picture.
    assert 0 < len(found) < 20
    overlap = pairwise_iou(found.boxes, np.array([[20, 0, 450, 512]], np.float32))
    assert overlap.max() > 0.5


@pytest.mark.data
@pytest.mark.slow
def test_it_reaches_the_figures_of_its_card(card: ModelCard, data_dir: Path) -> None:
    detector = build_detector(DetectorConfig(model=NAME, conf=0.01, max_det=100), RuntimeConfig(device="cpu"))
    images, names = read_detection_data(data_dir / "coco-person" / "val.json", ("person",))
    scores = evaluate_detector(detector, images, names)
    stated = {row["name"]: row["value"] for row in card.metrics}
    assert scores["ap50"] == pytest.approx(stated["ap50"], abs=0.005)
    assert scores["ap"] == pytest.approx(stated["ap"], abs=0.005)
