"""The torch and the ONNX engine give the same detections, on any shape of picture and in any batch.

The graph is exported for free height, width and batch; this test guards the export (docs/decisions/onnx-export.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment

from vision.backbones.registry import build_backbone
from vision.card import ModelCard
from vision.detection.anchors import AnchorConfig
from vision.detection.config import DetectorConfig
from vision.detection.detector import load_anchor_detector
from vision.detection.fpn_lite import build_fpn_lite
from vision.errors import ModelNotFoundError
from vision.geometry.iou import pairwise_iou
from vision.runtime.config import RuntimeConfig
from vision.store import file_sha256, find_model
from vision.types import Detections, Frame

BOX_TOLERANCE = 0.05  # pixels
SCORE_TOLERANCE = 1e-3
SIZES = [(256, 256), (240, 320), (320, 180), (97, 301), (64, 64)]


@pytest.fixture(scope="session")
def random_card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    """Return a detector of seeded weights, its batch statistics taken from noise so that no layer dies out."""
    torch.manual_seed(3)
    network = build_fpn_lite(
        build_backbone("tf_efficientnet_lite0"), num_classes=2, anchors=AnchorConfig(), channels=24, head_depth=1
    )
    for head in (network.class_head, network.box_head):
        torch.nn.init.normal_(head.predict.weight, std=0.1)
    with torch.no_grad():
        for _ in range(30):
            network.train()(torch.randn(2, 3, 64, 64))
    folder = tmp_path_factory.mktemp("random")
    weights = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, weights)
    return ModelCard(
        name="random",
        kind="detector",
        summary="seeded noise",
        folder=folder,
        architecture={
            "backbone": "tf_efficientnet_lite0",
            "channels": 24,
            "head_depth": 1,
            "anchors": dataclasses.asdict(AnchorConfig()),
        },
        preprocess={"long_side": 192, "mean": [127.0] * 3, "std": [128.0] * 3, "multiple": 64},
        labels=("a", "b"),
        sha256=file_sha256(weights),
        licence="Apache-2.0",
    )


def installed_card() -> ModelCard:
    try:
        card = find_model("person-lite0", kind="detector")
    except ModelNotFoundError:
        pytest.skip("needs the default weights person-lite0 in the model store")
    if not card.weights_path.is_file():
        pytest.skip(f"needs the weights file of {card.name}, which is not beside its card")
    return card


@pytest.fixture(scope="module", params=["random weights", "person-lite0"])
def card(request: pytest.FixtureRequest) -> ModelCard:
    if request.param == "person-lite0":
        return installed_card()
    found: ModelCard = request.getfixturevalue("random_card")
    return found


Detect = Callable[[list[Frame]], list[Detections]]


@pytest.fixture(scope="module")
def engines(card: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> tuple[Detect, Detect]:
    # A low threshold gives both engines many boxes to agree on.
    config = DetectorConfig(conf=0.02, iou=0.5, max_det=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRIDE32_CACHE", str(tmp_path_factory.mktemp("cache")))
        torch_detector, onnx_detector = (
            load_anchor_detector(card, config, RuntimeConfig(device="cpu", engine=engine))
            for engine in ("torch", "onnx")
        )
    assert (torch_detector.engine.name, onnx_detector.engine.name) == ("torch:cpu", "onnx:cpu")
    return torch_detector.detect, onnx_detector.detect


def picture(size_hw: tuple[int, int]) -> Frame:
    """Return noise with some flat rectangles, the same for the same size."""
    rng = np.random.default_rng(size_hw)
    image = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    for _ in range(6):
        y, x = rng.integers(0, size_hw[0] - 20), rng.integers(0, size_hw[1] - 20)
        image[y : y + rng.integers(10, 80), x : x + rng.integers(10, 60)] = rng.integers(0, 256, 3)
    return Frame(image)


def assert_agree(one: Detections, other: Detections) -> None:
    """Assert that every detection has a partner of its class within the tolerances, one to one."""
    assert len(one) == len(other)
    same = one.labels[:, None] == other.labels[None]
    rows, columns = linear_sum_assignment(-pairwise_iou(one.boxes, other.boxes) * same)
    assert (one.labels[rows] == other.labels[columns]).all()
    np.testing.assert_allclose(one.boxes[rows], other.boxes[columns], rtol=0, atol=BOX_TOLERANCE)
    np.testing.assert_allclose(one.scores[rows], other.scores[columns], rtol=0, atol=SCORE_TOLERANCE)


@pytest.mark.parametrize("size_hw", SIZES)
def test_engines_agree(engines: tuple[Detect, Detect], size_hw: tuple[int, int]) -> None:
    (one,), (other,) = (detect([picture(size_hw)]) for detect in engines)
    assert len(one) >= 5
    assert_agree(one, other)


@pytest.mark.parametrize("engine", [0, 1], ids=["torch", "onnx"])
def test_batch_of_n_equals_n_singles(engines: tuple[Detect, Detect], engine: int) -> None:
    detect = engines[engine]
    frames = [picture(size_hw) for size_hw in (*SIZES, *SIZES[:2])]
    frames[-1] = Frame(frames[-1].image[::-1].copy())
    for found, frame in zip(detect(frames), frames, strict=True):
        (alone,) = detect([frame])
        assert_agree(found, alone)


def test_random_weights_find_different_things_in_different_pictures(random_card: ModelCard) -> None:
    """Agreement would mean little if the network ignored its input."""
    detector = load_anchor_detector(random_card, DetectorConfig(conf=0.02), RuntimeConfig(device="cpu", engine="torch"))
    image = picture((256, 256)).image
    one, other = detector.detect([Frame(image), Frame(255 - image)])
    assert np.abs(one.scores[:5] - other.scores[:5]).max() > 10 * SCORE_TOLERANCE
