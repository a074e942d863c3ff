"""torchvision's segmenters behind our protocol: parity with calling them, checkpoint files, names. LR-ASPP stands for
all where the kind does not matter: it is the quickest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from vision import remote
from vision.build import build_segmenter
from vision.errors import ConfigError, ModelError, WeightsError
from vision.runtime.config import RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.torchvision_segmenters import VOC_SEGMENTERS, build_torchvision, published_name, voc_names
from vision.training.datasets.palettes import VOC_NAMES
from vision.types import Frame

TORCH = RuntimeConfig(device="cpu", engine="torch")
LITE = "lraspp_mobilenet_v3_large"
DEEP = "deeplabv3_mobilenet_v3_large"


def make_network(name: str) -> nn.Module:
    """Return torchvision's own network as its published checkpoints are: with the auxiliary classifier, if any."""
    torch.manual_seed(0)
    aux = {"aux_loss": True} if VOC_SEGMENTERS[name] else {}
    network: nn.Module = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=21, **aux)
    return network.eval()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("published")
    for name in (LITE, DEEP):
        torch.save(make_network(name).state_dict(), folder / f"{name}.pth")
    return {name: folder / f"{name}.pth" for name in (LITE, DEEP)}


@pytest.mark.parametrize("name", [LITE, DEEP])
def test_logits_equal_a_direct_call(name: str, checkpoints: dict[str, Path]) -> None:
    picture = Frame(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    image = (torch.tensor(picture.image).permute(2, 0, 1) / 255 - mean) / std
    with torch.inference_mode():
        direct = make_network(name)(image[None])["out"][0].permute(1, 2, 0).numpy()
    config = SegmenterConfig(model=name, weights=str(checkpoints[name]), long_side=96)
    segmenter = build_segmenter(config, TORCH)
    (found,) = segmenter.segment([picture])
    assert segmenter.class_names == VOC_NAMES
    np.testing.assert_allclose(segmenter.logits([picture])[0], direct, atol=1e-5)  # type: ignore[attr-defined]
    assert (found.labels == direct.argmax(axis=2)).mean() > 0.999


@pytest.mark.parametrize("name", VOC_SEGMENTERS)
def test_published_checkpoints_fit(name: str) -> None:
    """Their keys are ours and those of the auxiliary classifier, which is in them exactly where our table says so."""
    with torch.device("meta"):
        ours = build_torchvision(name, 21).state_dict()
        published = make_network(name).state_dict()
    rest = {key.split(".")[0] for key in published.keys() - ours.keys()}
    assert rest == ({"aux_classifier"} if VOC_SEGMENTERS[name] else set())
    assert {key: value.shape for key, value in ours.items()} == {key: published[key].shape for key in ours}


def test_every_segmenter_can_be_pulled_and_has_the_classes_of_voc() -> None:
    assert {name for name, (kind, _, _) in remote.TORCHVISION.items() if kind == "segmenter"} == set(VOC_SEGMENTERS)
    for name in VOC_SEGMENTERS:
        known = remote.known_weights(name)
        categories = torchvision.models.get_model_weights(name)["COCO_WITH_VOC_LABELS_V1"].meta["categories"]
        assert (known.kind, tuple(categories[1:])) == ("segmenter", voc_names()[1:])
        assert known.file_name.startswith(name)
        assert "COCO" in known.terms
    assert published_name(LITE) == LITE
    assert published_name("street-fcn8s") is None


def test_the_picture_is_scaled_as_torchvision_evaluates(checkpoints: dict[str, Path]) -> None:
    segmenter = build_segmenter(SegmenterConfig(model=LITE, weights=str(checkpoints[LITE])), TORCH)
    letterbox = segmenter.letterbox(Frame(np.zeros((375, 500, 3), np.uint8)))  # type: ignore[attr-defined]
    assert letterbox.scaled_hw == (520, 693)


def test_classes_are_kept_by_name(checkpoints: dict[str, Path]) -> None:
    config = SegmenterConfig(model=LITE, weights=str(checkpoints[LITE]), classes=("person", "car"), long_side=64)
    assert build_segmenter(config, TORCH).class_names == ("other", "person", "car")


def test_where_weights_are_looked_for(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=f"run: stride32 models pull {DEEP}"):
        build_segmenter(SegmenterConfig(model=DEEP), TORCH)
    monkeypatch.setattr(remote, "require", checkpoints.__getitem__)
    assert len(build_segmenter(SegmenterConfig(model=LITE), TORCH).class_names) == 21


def test_what_does_not_fit_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        build_segmenter(SegmenterConfig(model=LITE, weights=str(checkpoints[DEEP])), TORCH)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError, match=r"text\.pth"):
        build_segmenter(SegmenterConfig(model=LITE, weights=str(tmp_path / "text.pth")), TORCH)
    with pytest.raises(ConfigError, match="did you mean 'person'"):
        build_segmenter(SegmenterConfig(model=LITE, weights=str(checkpoints[LITE]), classes=("persn",)), TORCH)
