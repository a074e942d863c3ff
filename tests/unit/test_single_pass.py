"""Detector and embedder joined: embeddings come with the detections, and only the right detector is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vision.backbones.registry import build_backbone
from vision.build import build_embedder, build_pipeline
from vision.card import ModelCard, write_card
from vision.config import PipelineConfig
from vision.detection.anchors import AnchorConfig
from vision.detection.config import DetectorConfig
from vision.detection.detector import AnchorDetector
from vision.detection.fpn_lite import build_fpn_lite
from vision.errors import ConfigError, ModelError
from vision.reid.config import EmbedderConfig
from vision.reid.roi import RoiEmbedder
from vision.reid.roi_network import RoiEmbeddingNetwork, pooled_channels
from vision.runtime.config import RuntimeConfig
from vision.single_pass import SinglePassDetector
from vision.store import MODELS_VARIABLE, file_sha256
from vision.tracking.config import TrackerConfig
from vision.types import Detections, Frame

TORCH = RuntimeConfig(device="cpu", engine="torch")
STRIDES = (8, 16)
BACKBONE = "tf_efficientnet_lite0"


def save_model(store: Path, name: str, network: torch.nn.Module, **fields: Any) -> str:
    (store / name).mkdir()
    path = store / name / "weights.safetensors"
    save_file(network.state_dict(), path)
    constants = {"mean": [127, 127, 127], "std": [128, 128, 128]}
    fields["preprocess"] = {**constants, **fields.get("preprocess", {})}
    digest = file_sha256(path)
    card = ModelCard(name=name, folder=store / name, summary="noise", sha256=digest, licence="Apache-2.0", **fields)
    write_card(store / name, card)
    return digest


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two detectors of random weights and the head of the first."""
    folder = tmp_path_factory.mktemp("store")
    digests = []
    for seed, name in enumerate(("mine", "another")):
        torch.manual_seed(seed)
        network = build_fpn_lite(
            build_backbone(BACKBONE), num_classes=1, anchors=AnchorConfig(), channels=16, head_depth=1
        )
        architecture = {"backbone": BACKBONE, "channels": 16, "head_depth": 1, "anchors": asdict(AnchorConfig())}
        digests.append(
            save_model(
                folder,
                name,
                network,
                kind="detector",
                labels=("person",),
                preprocess={"long_side": 128},
                architecture=architecture,
            )
        )
    head = RoiEmbeddingNetwork(pooled_channels((40, 112), STRIDES), dim=8, width=16, depth=0)
    architecture = {"detector": "mine", "detector_sha256": digests[0], "strides": list(STRIDES)}
    save_model(
        folder,
        "head",
        head,
        kind="roi-embedder",
        architecture={**architecture, "channels": [40, 112], "dim": 8, "width": 16, "depth": 0},
    )
    return folder


@pytest.fixture(autouse=True)
def use_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(store))


def config(**detection: Any) -> PipelineConfig:
    return PipelineConfig(
        detection=DetectorConfig(**{"model": "mine", "conf": 0.0, "max_det": 5, **detection}),
        embedding=EmbedderConfig(model="head"),
        tracking=TrackerConfig(high_conf=0.0),
        runtime=TORCH,
    )


@pytest.fixture(scope="module")
def frames() -> Sequence[Frame]:
    rng = np.random.default_rng(0)
    return [Frame(rng.integers(0, 256, (96, 128, 3), np.uint8), index=index) for index in range(2)]


def test_the_pipeline_embeds_in_the_detection_stage(frames: Sequence[Frame]) -> None:
    pipeline = build_pipeline(config())
    assert isinstance(pipeline.detector, SinglePassDetector)
    assert pipeline.embedder is None
    assert pipeline.class_names == ("person",)
    result = pipeline.process(frames[0])
    assert result.detections is not None
    assert len(result.detections) == 5
    assert result.detections.embeddings is not None
    np.testing.assert_allclose(np.linalg.norm(result.detections.embeddings, axis=1), 1, atol=1e-5)
    assert set(result.timings_ms) == {"detect", "track"}


def test_given_boxes_get_the_same_embeddings(frames: Sequence[Frame]) -> None:
    found = build_pipeline(config()).process(frames[0]).detections
    assert found is not None
    pipeline = build_pipeline(config(), detect=False)
    assert isinstance(pipeline.embedder, RoiEmbedder)
    given = replace(found, embeddings=None)
    again = pipeline.process(frames[0], given).detections
    assert again is not None
    np.testing.assert_allclose(again.embeddings, found.embeddings, atol=1e-4)
    empty = pipeline.process(frames[1], Detections.empty()).detections
    assert empty is not None
    assert empty.embeddings is not None
    assert empty.embeddings.shape == (0, 8)


def test_without_appearance_the_graph_has_no_maps() -> None:
    settings = config()
    pipeline = build_pipeline(replace(settings, tracking=replace(settings.tracking, appearance=False)))
    assert isinstance(pipeline.detector, AnchorDetector)
    assert pipeline.detector.map_strides == ()


@pytest.mark.parametrize(
    ("detection", "words"),
    [
        ({"model": "another"}, r"head reads the feature maps of mine .* running detector is another \(sha256"),
        ({"model": "ssdlite320_mobilenet_v3_large"}, "one of torchvision's"),
        ({"tile": 64}, r"got detection\.tile=64; leave the tiles out"),
    ],
)
def test_other_detectors_are_refused(detection: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_pipeline(config(**detection))


def test_the_backbone_is_found_by_name_or_by_the_configured_detector(store: Path, tmp_path: Path) -> None:
    for name in ("another", "mine", str(store / "mine")):
        assert build_embedder(EmbedderConfig(model="head"), TORCH, DetectorConfig(model=name)) is not None


def test_a_missing_backbone_is_named(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "head").symlink_to(store / "head")
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    with pytest.raises(ModelError, match="needs the backbone of mine"):
        build_embedder(EmbedderConfig(model="head"), TORCH)


def test_detectors_are_still_no_embedders() -> None:
    with pytest.raises(ModelError, match="expected a model of kind embedder"):
        build_embedder(EmbedderConfig(model="mine"), TORCH)
