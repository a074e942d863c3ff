"""The segmenter stage on an untrained network: batches, sizes, engines, closing, and models that cannot be opened."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_segmenter import LABELS, make_network, write_segmenter

from vision.build import build_segmenter
from vision.card import ModelCard, write_card
from vision.errors import ConfigError, ModelError, ModelNotFoundError, StateError, WeightsError
from vision.runtime.config import RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.registry import open_segmenter
from vision.segmentation.segmenter import EngineSegmenter, load_fcn
from vision.segmentation.tiles import TiledSegmenter
from vision.types import Frame

TORCH = RuntimeConfig(device="cpu", engine="torch")


def frame(size_hw: tuple[int, int], seed: int = 0) -> Frame:
    return Frame(np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8))


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return write_segmenter(tmp_path_factory.mktemp("store") / "tiny")


@pytest.fixture(scope="module")
def segmenter(card: ModelCard) -> EngineSegmenter:
    return load_fcn(card, SegmenterConfig(max_batch=2), TORCH)


def test_a_map_is_what_the_network_says(segmenter: EngineSegmenter) -> None:
    picture = frame((64, 96))
    normalization = make_network().backbone.normalization
    image = (torch.tensor(picture.image).permute(2, 0, 1) - torch.tensor(normalization.mean).view(3, 1, 1)) / (
        torch.tensor(normalization.std).view(3, 1, 1)
    )
    with torch.inference_mode():
        direct = make_network()(image[None].float())[0].permute(1, 2, 0).numpy()
    (logits,) = segmenter.logits([picture])
    np.testing.assert_allclose(logits[8:-8, 8:-8], direct[8:-8, 8:-8], atol=1e-3)
    (found,) = segmenter.segment([picture])
    assert found.class_names == LABELS
    assert (found.labels == direct.argmax(axis=2)).mean() > 0.999
    assert len(np.unique(found.labels)) > 1


def test_company_in_the_batch_changes_nothing(segmenter: EngineSegmenter) -> None:
    frames = [frame((64, 96)), frame((33, 41), 1), frame((64, 96), 2), frame((60, 90), 3), frame((1, 50), 4)]
    together = segmenter.logits(frames)
    for each, logits in zip(frames, together, strict=True):
        assert logits.shape == (*each.size_hw, len(LABELS))
        np.testing.assert_allclose(logits, segmenter.logits([each])[0], atol=1e-4)
    assert segmenter.segment([]) == []


def test_onnx_gives_what_torch_gives(card: ModelCard, segmenter: EngineSegmenter, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path))
    onnx = load_fcn(card, SegmenterConfig(), RuntimeConfig(device="cpu", engine="onnx"))
    for picture in (frame((40, 70)), frame((97, 33), 1)):
        np.testing.assert_allclose(onnx.logits([picture])[0], segmenter.logits([picture])[0], atol=1e-3)


def test_learnt_upsampling_runs_in_the_network(tmp_path: Path) -> None:
    """It starts bilinear, so the classes are those of the fixed one away from the border."""
    learnable = load_fcn(write_segmenter(tmp_path / "a", learnable=True), SegmenterConfig(), TORCH)
    fixed = load_fcn(write_segmenter(tmp_path / "b"), SegmenterConfig(), TORCH)
    (ours,), (theirs,) = (each.logits([frame((64, 64))]) for each in (learnable, fixed))
    np.testing.assert_allclose(ours[32:-32, 32:-32], theirs[32:-32, 32:-32], atol=1e-3)


def test_the_cards_size_and_ones_own(tmp_path: Path) -> None:
    card = write_segmenter(tmp_path / "sized", long_side=64)
    assert load_fcn(card, SegmenterConfig(), TORCH).letterbox(frame((60, 120))).padded_hw == (32, 64)
    assert load_fcn(card, SegmenterConfig(long_side=96), TORCH).letterbox(frame((60, 120))).padded_hw == (64, 96)


def test_a_closed_segmenter_says_so(card: ModelCard) -> None:
    segmenter = load_fcn(card, SegmenterConfig(), TORCH)
    segmenter.close()
    segmenter.close()
    with pytest.raises(StateError, match="load it again"):
        segmenter.segment([frame((8, 8))])


def test_a_folder_opens_whole_or_on_tiles(card: ModelCard) -> None:
    config = SegmenterConfig(model=str(card.folder), classes=("sky",))
    assert build_segmenter(config, TORCH).class_names == ("other", "sky")
    tiled = open_segmenter(dataclasses.replace(config, tile=48), TORCH)
    assert isinstance(tiled, TiledSegmenter)
    assert tiled.class_names == ("other", "sky")
    assert tiled.segment([frame((60, 100))])[0].labels.shape == (60, 100)


def test_tiles_keep_their_size_whatever_the_card_says(tmp_path: Path) -> None:
    sized = write_segmenter(tmp_path / "sized", long_side=256)
    free = write_segmenter(tmp_path / "free")
    maps = [
        open_segmenter(SegmenterConfig(model=str(each.folder), tile=40), TORCH).segment([frame((40, 64))])[0].labels
        for each in (sized, free)
    ]
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"model": "fcn_resnet5"}, ModelNotFoundError, "did you mean 'fcn_resnet50'"),
        ({"model": "person-lite0"}, ModelError, "of kind segmenter, got person-lite0, which is of kind detector"),
        ({"weights": "a.pth"}, ConfigError, "has weights of its own"),
        ({"model": "fcn_resnet50", "weights": "absent.pth"}, WeightsError, "absent.pth"),
    ],
)
def test_what_cannot_be_opened(fields: dict[str, str], error: type[Exception], words: str, card: ModelCard) -> None:
    with pytest.raises(error, match=words):
        open_segmenter(SegmenterConfig(**{"model": str(card.folder), **fields}), TORCH)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"family": "unet"}, ModelError, "family must be fcn, got 'unet'"),
        ({"stride": 5}, ConfigError, "stride must be one of the feature maps"),
        ({"stride": 16}, WeightsError, "must fit"),
        ({"backbone": "resnet18"}, WeightsError, "must fit"),
    ],
)
def test_cards_that_contradict_themselves(
    changes: dict[str, object], error: type[Exception], words: str, tmp_path: Path
) -> None:
    card = write_segmenter(tmp_path / "mine")
    write_card(card.folder, dataclasses.replace(card, architecture={**card.architecture, **changes}))
    with pytest.raises(error, match=words):
        open_segmenter(SegmenterConfig(model=str(card.folder)), TORCH)
