"""Laws of the single-pass embedder: one row a box, place and company do not matter, every box gives a unit vector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.backbones.registry import build_backbone
from vision.build import build_embedder
from vision.card import ModelCard
from vision.detection.feature_maps import BackboneMaps, MapExtractor, map_channels
from vision.errors import ConfigError, InvalidInputError, ModelError, StateError, WeightsError
from vision.evaluation.reid import evaluate_reid
from vision.reid.config import EmbedderConfig
from vision.reid.roi import RoiEmbedder, load_roi_embedder
from vision.reid.roi_network import RoiEmbeddingNetwork, grid_factor, pool_boxes, pooled_channels, stripe_means
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import EngineInput
from vision.runtime.onnx_engine import OnnxEngine, export
from vision.runtime.torch_engine import TorchEngine
from vision.store import file_sha256
from vision.types import Frame

DIM, STRIDES, DIGEST = 16, (4, 8, 16), "d" * 64
CPU = torch.device("cpu")
BOXES = np.float32([[10, 10, 50, 90], [60, 5, 100, 110], [0, 0, 200, 120], [150.5, 20.25, 180.75, 100]])


@pytest.fixture(scope="module")
def source() -> MapExtractor:
    torch.manual_seed(0)
    backbone = build_backbone("tf_efficientnet_lite0")
    return MapExtractor(
        TorchEngine(BackboneMaps(backbone, STRIDES).eval(), CPU, "fp32"),
        strides=STRIDES,
        multiple=64,
        normalization=TENSORFLOW_NORMALIZATION,
        long_side=256,
        digest=DIGEST,
    )


@pytest.fixture(scope="module")
def network() -> RoiEmbeddingNetwork:
    torch.manual_seed(0)
    channels = map_channels(build_backbone("tf_efficientnet_lite0"), STRIDES)
    return RoiEmbeddingNetwork(pooled_channels(channels, STRIDES), dim=DIM, width=24, depth=1).eval()


@pytest.fixture
def embedder(source: MapExtractor, network: RoiEmbeddingNetwork) -> RoiEmbedder:
    return make_embedder(TorchEngine(network, CPU, "fp32"), maps=source)


def make_embedder(engine: Any, **changes: Any) -> RoiEmbedder:
    fields: dict[str, Any] = {"dim": DIM, "strides": STRIDES, "detector": "mine", "detector_digest": DIGEST}
    return RoiEmbedder(engine, **{**fields, "max_batch": 3, "crop_height": 64, **changes})


@pytest.fixture(scope="module")
def frame() -> Frame:
    return Frame(np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8))


def test_embeddings_have_unit_norm_and_frames_equal_maps(
    embedder: RoiEmbedder, source: MapExtractor, frame: Frame
) -> None:
    embeddings = embedder.embed(frame, BOXES)
    assert embeddings.shape == (4, DIM)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    (maps,) = source.extract([frame])
    np.testing.assert_array_equal(embedder.embed_maps(maps, BOXES), embeddings)


def test_batch_of_n_equals_n_singles_in_any_order(embedder: RoiEmbedder, frame: Frame) -> None:
    embeddings = embedder.embed(frame, BOXES)
    singles = np.concatenate([embedder.embed(frame, box[None]) for box in BOXES])
    np.testing.assert_allclose(embeddings, singles, atol=1e-5)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(embedder.embed(frame, BOXES[order]), embeddings[order], atol=1e-5)


def test_no_boxes_run_nothing(embedder: RoiEmbedder, frame: Frame, source: MapExtractor) -> None:
    none = np.zeros((0, 4), np.float32)
    assert make_embedder(object(), maps=None).embed(frame, none).shape == (0, DIM)
    assert embedder.embed_maps(source.extract([frame])[0], none).shape == (0, DIM)
    assert embedder.embed_crops([]).shape == (0, DIM)


@pytest.mark.parametrize(
    "box",
    [
        (50, 50, 50, 50),
        (50, 10, 50, 90),
        (50.2, 50.2, 50.3, 50.3),
        (0, 0, 0, 0),
        (200, 120, 200, 120),
        (-40, -30, -10, -5),
        (300, 200, 400, 260),
        (-1e30, -1e30, 1e30, 1e30),
    ],
)
def test_degenerate_boxes_give_unit_vectors(embedder: RoiEmbedder, frame: Frame, box: tuple[float, ...]) -> None:
    embeddings = embedder.embed(frame, np.float32([box]))
    assert np.isfinite(embeddings).all()
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_a_box_partly_outside_shows_its_inside(embedder: RoiEmbedder, frame: Frame) -> None:
    reaching, inside = np.float32([[-30, -20, 60, 70]]), np.float32([[0, 0, 60, 70]])
    np.testing.assert_array_equal(embedder.embed(frame, reaching), embedder.embed(frame, inside))


def test_the_same_person_at_two_places_is_nearly_the_same(embedder: RoiEmbedder) -> None:
    """The second place is whole cells of every map away, and both lie far from the border and from each other."""
    rng = np.random.default_rng(1)
    person, other = rng.integers(0, 256, (2, 4, 2, 3), np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    picture = np.full((256, 256, 3), 127, np.uint8)
    places = [(32, 32), (32, 160), (160, 32)]
    for (y, x), shown in zip(places, (person, person, other), strict=True):
        picture[y : y + 64, x : x + 32] = shown
    boxes = np.float32([[x, y, x + 32, y + 64] for y, x in places])
    first, second, different = embedder.embed(Frame(picture), boxes)
    assert first @ second > 0.97
    assert first @ different < first @ second - 0.03


def test_a_crop_does_not_depend_on_its_company(embedder: RoiEmbedder, frame: Frame) -> None:
    crops = [frame.image[10:90, 10:50], frame.image[5:60, 20:70], frame.image[:3, :3], frame.image]
    together = embedder.embed_crops(crops)
    assert together.shape == (4, DIM)
    np.testing.assert_allclose(together, np.concatenate([embedder.embed_crops([c]) for c in crops]), atol=1e-4)


@pytest.mark.parametrize("crop", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_crops_of_a_wrong_kind_are_refused(embedder: RoiEmbedder, crop: Any) -> None:
    with pytest.raises(InvalidInputError, match="index 1"):
        embedder.embed_crops([np.zeros((4, 4, 3), np.uint8), crop])


def test_maps_of_another_detector_or_other_strides_are_refused(
    embedder: RoiEmbedder, source: MapExtractor, frame: Frame
) -> None:
    (maps,) = source.extract([frame])
    with pytest.raises(InvalidInputError, match=r"those of mine .* got sha256 other"):
        embedder.embed_maps(replace(maps, digest="other"), BOXES)
    with pytest.raises(InvalidInputError, match=r"got sha256 d+, strides \(8, 16\)"):
        embedder.embed_maps(replace(maps, strides=(8, 16), maps=maps.maps[1:]), BOXES)


def test_wrong_boxes_and_settings_are_refused(embedder: RoiEmbedder, frame: Frame) -> None:
    with pytest.raises(InvalidInputError, match="finite"):
        embedder.embed(frame, np.float32([[0, 0, np.nan, 5]]))
    with pytest.raises(ConfigError, match="max_batch"):
        make_embedder(object(), max_batch=0)


def test_a_closed_embedder_refuses_work(source: MapExtractor, network: RoiEmbeddingNetwork, frame: Frame) -> None:
    embedder = make_embedder(TorchEngine(network, CPU, "fp32"), maps=source)
    embedder.close()
    embedder.close()
    for call in (lambda: embedder.embed(frame, BOXES), lambda: embedder.embed_crops([frame.image])):
        with pytest.raises(StateError, match="closed"):
            call()


def test_pictures_without_maps_need_a_backbone(network: RoiEmbeddingNetwork, frame: Frame) -> None:
    with pytest.raises(StateError, match="backbone of mine"):
        make_embedder(TorchEngine(network, CPU, "fp32")).embed(frame, BOXES)


def test_pooling_a_constant_map_gives_the_constant() -> None:
    maps = [torch.full((1, 2, 32, 32), 1.5), torch.full((1, 3, 8, 8), -2.0)]
    pooled = pool_boxes(maps, (4, 16), torch.tensor([[10.0, 8, 60, 100], [3, 3, 5, 5]]))
    assert pooled.shape == (2, 2 * 4 + 3, 8, 4)
    torch.testing.assert_close(pooled[:, :8], torch.full((2, 8, 8, 4), 1.5))
    torch.testing.assert_close(pooled[:, 8:], torch.full((2, 3, 8, 4), -2.0))


def test_pooling_reads_where_the_box_lies() -> None:
    """A map that holds its own x: the columns of the grid are at the middles of their share of the box."""
    ramp = (torch.arange(16.0) + 0.5).mul(16).expand(1, 1, 16, 16)
    pooled = pool_boxes([ramp], (16,), torch.tensor([[32.0, 32, 160, 224]]))
    torch.testing.assert_close(pooled[0, 0, 0], torch.tensor([48.0, 80, 112, 144]))


def test_coarse_maps_are_refused() -> None:
    assert [grid_factor(stride) for stride in (4, 8, 16)] == [2, 2, 1]
    with pytest.raises(ConfigError, match="finer maps"):
        grid_factor(32)


def test_stripes_keep_top_and_bottom_apart() -> None:
    features = torch.arange(1.0, 9).view(1, 1, 8, 1).expand(1, 1, 8, 4)
    stripes = stripe_means(features)
    assert stripes.shape == (1, 1, 4)
    assert (stripes.diff() > 1.5).all()
    torch.testing.assert_close(stripe_means(torch.full((2, 3, 8, 4), 2.5)), torch.full((2, 3, 4), 2.5))


@pytest.mark.parametrize("changes", [{"dim": 0}, {"width": 0}, {"depth": -1}])
def test_wrong_sizes_of_the_head_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="defaults"):
        RoiEmbeddingNetwork(8, **changes)


def test_exported_head_gives_the_same_embeddings_for_any_batch(network: RoiEmbeddingNetwork) -> None:
    spec = EngineInput(example_hw=(8, 4), dynamic_hw=False, digest="", channels=network.channels)
    engine = OnnxEngine(export(network, spec), threads=1)
    for count in (1, 5):
        pooled = np.random.default_rng(count).normal(size=(count, network.channels, 8, 4)).astype(np.float32)
        (embeddings,) = engine.run(pooled)
        with torch.inference_mode():
            np.testing.assert_allclose(embeddings, network(torch.from_numpy(pooled)).numpy(), atol=1e-4)


@pytest.fixture
def card(tmp_path: Path, network: RoiEmbeddingNetwork) -> ModelCard:
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return ModelCard(
        name="tiny",
        kind="roi-embedder",
        summary="",
        folder=tmp_path,
        architecture={
            "detector": "mine",
            "detector_sha256": DIGEST,
            "strides": list(STRIDES),
            "channels": [24, 40, 112],
            "dim": DIM,
            "width": 24,
            "depth": 1,
        },
        preprocess={"mean": [127, 127, 127], "std": [128, 128, 128]},
        sha256=file_sha256(tmp_path / "weights.safetensors"),
        licence="Apache-2.0",
    )


def test_loaded_embedder_equals_the_one_that_was_saved(
    card: ModelCard, embedder: RoiEmbedder, source: MapExtractor, frame: Frame
) -> None:
    loaded = load_roi_embedder(card, RuntimeConfig(device="cpu", engine="torch"), maps=source)
    assert (loaded.dim, loaded.strides, loaded.detector) == (DIM, STRIDES, "mine")
    np.testing.assert_allclose(loaded.embed(frame, BOXES), embedder.embed(frame, BOXES), atol=1e-5)


def test_cards_that_do_not_describe_one_are_refused(card: ModelCard) -> None:
    with pytest.raises(ModelError, match="card says embedder"):
        load_roi_embedder(replace(card, kind="embedder"))
    without = {key: value for key, value in card.architecture.items() if key != "width"}
    with pytest.raises(ModelError, match=r"architecture\.width"):
        load_roi_embedder(replace(card, architecture=without))
    with pytest.raises(WeightsError, match=r"neck\.bias"):
        load_roi_embedder(replace(card, architecture={**card.architecture, "dim": 8}))


@pytest.mark.data
def test_shipped_model_finds_held_out_people(data_dir: Path) -> None:
    """On a fifth of them, for time: fewer people are easier to tell apart than the card's hundred."""
    folder = data_dir / "market1501"
    people = sorted(path.name for path in folder.iterdir() if path.is_dir())[-20:]
    shipped = build_embedder(EmbedderConfig(model="person-roi"), RuntimeConfig(device="cpu", threads=1))
    assert shipped is not None
    metrics = evaluate_reid(shipped, folder, people)
    assert metrics["rank1"] >= 0.75
    assert metrics["mAP"] >= 0.6
