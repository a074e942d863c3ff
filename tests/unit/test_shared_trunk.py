"""Detector and segmenter on one trunk: the same answers as apart, and only where the stages are the same."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vision.backbones.registry import build_backbone
from vision.build import build_pipeline, build_segmenter
from vision.card import ModelCard, write_card
from vision.config import PipelineConfig
from vision.detection.anchors import AnchorConfig
from vision.detection.config import DetectorConfig
from vision.detection.detector import AnchorDetector
from vision.detection.fpn_lite import build_fpn_lite
from vision.errors import ConfigError, InvalidInputError, StateError
from vision.reid.config import EmbedderConfig
from vision.reid.roi_network import RoiEmbeddingNetwork, pooled_channels
from vision.runtime.config import RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.fcn import FCN
from vision.segmentation.from_maps import FCNFromMap, MapSegmenter
from vision.segmentation.segmenter import EngineSegmenter
from vision.shared_trunk import find_common_stages
from vision.single_pass import SinglePassDetector
from vision.store import MODELS_VARIABLE, file_sha256
from vision.tracking.config import TrackerConfig
from vision.types import Detections, Frame

TORCH = RuntimeConfig(device="cpu", engine="torch")
BACKBONE = "tf_efficientnet_lite0"
CLASSES = ("road", "pavement", "pedestrian")


def save_model(store: Path, name: str, network: torch.nn.Module, **fields: Any) -> str:
    (store / name).mkdir()
    path = store / name / "weights.safetensors"
    save_file(network.state_dict(), path)
    fields["preprocess"] = {"mean": [127, 127, 127], "std": [128, 128, 128], **fields.get("preprocess", {})}
    digest = file_sha256(path)
    card = ModelCard(name=name, folder=store / name, summary="noise", sha256=digest, licence="Apache-2.0", **fields)
    write_card(store / name, card)
    return digest


def segmenter(backbone: Any, *, stride: int = 8, learnable: bool = False, seed: int = 3) -> FCN:
    torch.manual_seed(seed)
    network = FCN(backbone, len(CLASSES), stride=stride, width=8, learnable=learnable)
    for score in network.score.values():
        torch.nn.init.normal_(score.weight, std=0.1)  # type: ignore[arg-type]
    return network


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector, segmenters on its stages up to a stride, one with others, and a single-pass embedder."""
    folder = tmp_path_factory.mktemp("store")
    torch.manual_seed(0)
    backbone = build_backbone(BACKBONE)
    detector = build_fpn_lite(backbone, num_classes=1, anchors=AnchorConfig(), channels=16, head_depth=1)
    architecture = {"backbone": BACKBONE, "channels": 16, "head_depth": 1, "anchors": asdict(AnchorConfig())}
    digest = save_model(
        folder, "mine", detector, kind="detector", labels=("person",), preprocess={"long_side": 128, "multiple": 64},
        architecture=architecture,
    )  # fmt: skip
    torch.manual_seed(1)
    for name, common, stride, learnable in (
        ("streets", 2, 8, False),
        ("coarse", 3, 32, True),
        ("strange", 0, 8, False),
    ):
        own = build_backbone(BACKBONE)
        for index in range(common):
            own.stages[index].load_state_dict(backbone.stages[index].state_dict())
        save_model(
            folder, name, segmenter(own, stride=stride, learnable=learnable), kind="segmenter", labels=CLASSES,
            preprocess={"long_side": 128, "multiple": 64},
            architecture={
                "family": "fcn", "backbone": BACKBONE, "stride": stride, "width": 8, "learnable": learnable
            },
        )  # fmt: skip
    head = RoiEmbeddingNetwork(pooled_channels((40, 112), (8, 16)), dim=8, width=16, depth=0)
    architecture = {"detector": "mine", "detector_sha256": digest, "strides": [8, 16]}
    save_model(
        folder, "head", head, kind="roi-embedder",
        architecture={**architecture, "channels": [40, 112], "dim": 8, "width": 16, "depth": 0},
    )  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def use_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(store))


def config(model: str = "streets", embedder: str = "none", **segmentation: Any) -> PipelineConfig:
    return PipelineConfig(
        detection=DetectorConfig(model="mine", conf=0.0, max_det=5),
        segmentation=SegmenterConfig(model=model, **segmentation),
        embedding=EmbedderConfig(model=embedder),
        tracking=TrackerConfig(high_conf=0.0),
        runtime=TORCH,
    )


@pytest.fixture(scope="module")
def frame() -> Frame:
    return Frame(np.random.default_rng(0).integers(0, 256, (100, 128, 3), np.uint8), index=0)


@pytest.mark.parametrize(("model", "stride"), [("streets", 8), ("coarse", 16)])
def test_one_pass_answers_as_two(frame: Frame, model: str, stride: int) -> None:
    pipeline = build_pipeline(config(model, scores=True), segment=True)
    assert isinstance(pipeline.segmenter, MapSegmenter)
    assert pipeline.segmenter.stride == stride
    assert isinstance(pipeline.detector, AnchorDetector)
    result = pipeline.process(frame)
    assert set(result.timings_ms) == {"detect", "track", "segment", "regions"}

    alone = build_pipeline(config(), track=False).process(frame)
    assert result.detections is not None
    assert alone.detections is not None
    np.testing.assert_allclose(result.detections.boxes, alone.detections.boxes, atol=1e-3)
    # 100 x 128 pixels fill the detector's padded input as they fill the segmenter's, so nothing at all differs.
    expected = build_segmenter(config(model, scores=True).segmentation, TORCH).segment([frame])[0]
    assert result.segmentation is not None
    assert result.segmentation.scores is not None
    assert (result.segmentation.labels == expected.labels).mean() > 0.999
    np.testing.assert_allclose(result.segmentation.scores, expected.scores, atol=1e-3)
    assert len(np.unique(expected.labels)) > 1


def test_a_single_pass_embedder_shares_it_too(frame: Frame) -> None:
    pipeline = build_pipeline(config(embedder="head"), segment=True)
    assert isinstance(pipeline.detector, SinglePassDetector)
    result = pipeline.process(frame)
    plain = build_pipeline(config(embedder="head")).process(frame)
    assert result.segmentation is not None
    assert result.detections is not None
    assert plain.detections is not None
    assert plain.detections.embeddings is not None
    np.testing.assert_allclose(result.detections.embeddings, plain.detections.embeddings, atol=1e-5)


def test_frames_with_given_detections_are_segmented_alike(frame: Frame) -> None:
    pipeline = build_pipeline(config(), track=False, segment=True)
    given = pipeline.process(frame, Detections.empty()).segmentation
    own = pipeline.process(frame).segmentation
    assert given is not None
    assert own is not None
    np.testing.assert_array_equal(given.labels, own.labels)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (config("strange"), "first stages have different weights"),
        (config(long_side=256), r"128 and 256 pixels; set segmentation.long_side=128 to share"),
        (config(tile=64), "tiles are cut"),
        (config("lraspp_mobilenet_v3_large"), "no backbone of ours"),
        (replace(config(), detection=DetectorConfig(model="mine", tile=64)), "tiles are cut"),
    ],
)
def test_nothing_is_shared_where_the_stages_differ(
    settings: PipelineConfig, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="vision"):
        assert find_common_stages(settings.detection, settings.segmentation) is None
    assert words.split(";")[0] in caplog.text


def test_apart_they_still_make_a_pipeline(frame: Frame) -> None:
    pipeline = build_pipeline(config("strange"), segment=True)
    assert isinstance(pipeline.segmenter, EngineSegmenter)
    assert pipeline.process(frame).regions is not None
    pipeline.close()
    with pytest.raises(StateError, match="closed"):
        pipeline.process(frame)


def test_maps_of_other_weights_are_refused(frame: Frame) -> None:
    pipeline = build_pipeline(config(), segment=True)
    assert pipeline.trunk is not None
    _, maps = pipeline.trunk.detect(frame)
    with pytest.raises(InvalidInputError, match="got 012345; segment the frame itself"):
        pipeline.trunk.segment(replace(maps, digest="012345"))
    pipeline.trunk.segmenter.close()
    with pytest.raises(StateError, match="this one was closed"):
        pipeline.trunk.segment(maps)


def test_an_fcn_goes_on_from_maps_that_it_still_needs() -> None:
    network = segmenter(build_backbone(BACKBONE))
    with pytest.raises(ConfigError, match=r"up to 8, .* got stride 16"):
        FCNFromMap(network, 16)
    with pytest.raises(ConfigError, match="got stride 5"):
        FCNFromMap(network, 5)
