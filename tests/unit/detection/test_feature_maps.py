"""Maps of a detector's backbone: the same detections with and without them, the same maps without detecting."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.backbones.registry import build_backbone
from vision.detection.anchors import AnchorConfig
from vision.detection.config import DetectorConfig
from vision.detection.detector import AnchorDetector
from vision.detection.feature_maps import BackboneMaps, DetectorWithMaps, MapExtractor, map_channels
from vision.detection.fpn_lite import build_fpn_lite
from vision.detection.network import AnchorDetectorNetwork
from vision.errors import ConfigError, InvalidInputError
from vision.geometry.letterbox import Letterbox
from vision.runtime.engine import EngineInput
from vision.runtime.feature_maps import FeatureMaps
from vision.runtime.onnx_engine import OnnxEngine, cache_key, export
from vision.runtime.torch_engine import TorchEngine
from vision.types import Frame

STRIDES = (8, 16)
SPEC = EngineInput(example_hw=(128, 128), dynamic_hw=True, digest="weights")
FRAMES = [Frame(np.random.default_rng(i).integers(0, 256, (60 + 20 * i, 100, 3), np.uint8)) for i in range(3)]


@pytest.fixture(scope="module")
def network() -> AnchorDetectorNetwork:
    torch.manual_seed(0)
    backbone = build_backbone("tf_efficientnet_lite0")
    network = build_fpn_lite(backbone, num_classes=1, anchors=AnchorConfig(), channels=16, head_depth=1)
    # Scores around one half, so that there is something to compare.
    torch.nn.init.normal_(network.class_head.predict.weight, std=1.0)  # type: ignore[union-attr, arg-type]
    torch.nn.init.zeros_(network.class_head.predict.bias)  # type: ignore[union-attr, arg-type]
    return network.eval().requires_grad_(False)


def make_detector(network: AnchorDetectorNetwork, strides: tuple[int, ...]) -> AnchorDetector:
    module = DetectorWithMaps(network, strides) if strides else network
    return AnchorDetector(
        TorchEngine(module, torch.device("cpu"), "fp32"),
        anchors=network.anchors,
        multiple=network.multiple,
        class_names=("person",),
        normalization=TENSORFLOW_NORMALIZATION,
        long_side=128,
        config=DetectorConfig(conf=0.5, max_det=20),
        map_strides=strides,
        digest="weights",
    )


def make_extractor(network: AnchorDetectorNetwork) -> MapExtractor:
    return MapExtractor(
        TorchEngine(BackboneMaps(network.backbone, STRIDES), torch.device("cpu"), "fp32"),
        strides=STRIDES,
        multiple=network.multiple,
        normalization=TENSORFLOW_NORMALIZATION,
        long_side=128,
        digest="weights",
    )


def test_detections_are_the_same_with_maps(network: AnchorDetectorNetwork) -> None:
    plain = make_detector(network, ()).detect(FRAMES)
    assert sum(map(len, plain)) > 0
    for expected, (found, maps) in zip(plain, make_detector(network, STRIDES).detect_with_maps(FRAMES), strict=True):
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert maps.digest == "weights"


def test_a_detector_without_strides_hands_out_no_maps(network: AnchorDetectorNetwork) -> None:
    (_, maps), *_ = make_detector(network, ()).detect_with_maps(FRAMES[:1])
    assert maps.maps == maps.strides == ()


def test_extracted_maps_are_those_of_the_detector(network: AnchorDetectorNetwork) -> None:
    extracted = make_extractor(network).extract(FRAMES)
    for (_, maps), alone in zip(make_detector(network, STRIDES).detect_with_maps(FRAMES), extracted, strict=True):
        assert alone.letterbox == maps.letterbox
        assert [feature.shape[0] for feature in alone.maps] == list(map_channels(network.backbone, STRIDES))
        for mine, its in zip(alone.maps, maps.maps, strict=True):
            np.testing.assert_allclose(mine, its, atol=1e-4)


def test_another_long_side_scales_the_input(network: AnchorDetectorNetwork) -> None:
    (maps,) = make_extractor(network).extract([Frame(np.zeros((64, 64, 3), np.uint8))], long_side=64)
    assert maps.letterbox.padded_hw == (64, 64)
    assert [feature.shape[1:] for feature in maps.maps] == [(8, 8), (4, 4)]


def test_exported_graphs_agree_and_do_not_share_a_cache_entry(network: AnchorDetectorNetwork) -> None:
    modules = [network, DetectorWithMaps(network, (8,)), DetectorWithMaps(network, (8, 16))]
    modules += [BackboneMaps(network.backbone, (8,)), BackboneMaps(network.backbone, (4, 8))]
    assert len({cache_key(module, SPEC) for module in modules}) == len(modules)
    batch = np.random.default_rng(0).normal(size=(1, 3, 64, 128)).astype(np.float32)
    logits, deltas = OnnxEngine(export(network, SPEC), threads=1).run(batch)
    with_maps = OnnxEngine(export(DetectorWithMaps(network, (16,)), SPEC), threads=1).run(batch)
    np.testing.assert_allclose(with_maps[0], logits, atol=1e-4)
    np.testing.assert_allclose(with_maps[1], deltas, atol=1e-4)
    assert with_maps[2].shape == (1, 112, 4, 8)


@pytest.mark.parametrize("strides", [(), (2,), (8, 64)])
def test_strides_that_are_not_there_are_refused(network: AnchorDetectorNetwork, strides: tuple[int, ...]) -> None:
    for build in (lambda: DetectorWithMaps(network, strides), lambda: BackboneMaps(network.backbone, strides)):
        with pytest.raises(ConfigError, match="name one or more"):
            build()


def test_maps_of_another_size_are_refused() -> None:
    letterbox = Letterbox.fit((60, 100), long_side=128, multiple=64)
    with pytest.raises(InvalidInputError, match=r"sizes \[\(16, 16\)\], got \['float32 \(3, 8, 8\)'\]"):
        FeatureMaps(letterbox, (8,), (np.zeros((3, 8, 8), np.float32),), "")
