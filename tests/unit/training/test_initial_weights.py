"""Starting from a trained detector or segmenter: what fits is copied, what depends on the classes starts anew."""

from pathlib import Path

import pytest
import torch

from vision.card import ModelCard, write_card
from vision.errors import ModelError, ModelNotFoundError, WeightsError
from vision.segmentation.upsampling import bilinear_kernel
from vision.store import file_sha256, find_model, load_weights
from vision.training.config import DetectorTrainingConfig
from vision.training.export import write_weights
from vision.training.segmenter_config import SegmenterTrainingConfig
from vision.training.tasks.detector import build_network
from vision.training.tasks.segmenter import build_network as build_segmenter_network


def config(**changes: object) -> DetectorTrainingConfig:
    values = {"pretrained": False, "init": "person-lite0", **changes}
    return DetectorTrainingConfig(train_data=Path("a"), val_data=Path("b"), **values)  # type: ignore[arg-type]


def test_the_same_classes_copy_everything() -> None:
    own = build_network(config(), 1).state_dict()
    for name, value in load_weights(find_model("person-lite0")).items():
        assert torch.equal(own[name], value), name


def test_other_classes_start_with_a_fresh_last_layer() -> None:
    weights = load_weights(find_model("person-lite0"))
    own = build_network(config(), 3).state_dict()
    assert own["class_head.predict.weight"].shape[0] == 3
    assert own["class_head.predict.weight"].std() == pytest.approx(0.01, rel=0.2)
    assert torch.equal(own["box_head.predict.weight"], weights["box_head.predict.weight"])
    assert torch.equal(own["neck.lateral.0.0.weight"], weights["neck.lateral.0.0.weight"])


def test_another_architecture_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"must have the architecture of this run.*set the same backbone"):
        build_network(config(channels=64), 1)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ModelNotFoundError, match="person-lite0"):
        build_network(config(init="person-lite"), 1)


SEGMENTER_CLASSES = ("a", "b", "c")


def segmenter_config(**changes: object) -> SegmenterTrainingConfig:
    values = {"data": Path("a"), "pretrained": False, "backbone": "lenet5_rgb", "stride": 2, **changes}
    return SegmenterTrainingConfig(**values)  # type: ignore[arg-type]


def segmenter_model(folder: Path, **changes: object) -> dict[str, torch.Tensor]:
    """Write a model folder of a random FCN, and return its weights as they come back from it."""
    config = segmenter_config(**changes)
    network = build_segmenter_network(config, len(SEGMENTER_CLASSES))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    write_weights(network.state_dict(), folder)
    card = ModelCard(
        name=folder.name,
        kind="segmenter",
        summary="random",
        folder=folder,
        architecture={"family": "fcn", "backbone": config.backbone, "stride": config.stride},
        preprocess={},
        labels=SEGMENTER_CLASSES,
        sha256=file_sha256(folder / "weights.safetensors"),
        licence="Apache-2.0",
    )
    write_card(folder, card)
    return dict(load_weights(card))


def test_a_finer_segmenter_starts_as_the_coarser_one(tmp_path: Path) -> None:
    weights = segmenter_model(tmp_path / "coarse", stride=4)
    network = build_segmenter_network(segmenter_config(init=str(tmp_path / "coarse")), 3).eval()
    own = network.state_dict()
    assert all(torch.equal(own[name], value) for name, value in weights.items())
    assert not any(own[f"score.2.{name}"].any() for name in ("weight", "bias"))
    coarse = build_segmenter_network(segmenter_config(stride=4, init=str(tmp_path / "coarse")), 3).eval()
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(network.coarse(images), network.fuse[0](coarse.coarse(images)))


def test_upsampling_that_learns_starts_bilinear_where_the_coarser_one_has_none(tmp_path: Path) -> None:
    weights = segmenter_model(tmp_path / "coarse", stride=4, learnable=True)
    own = build_segmenter_network(segmenter_config(init=str(tmp_path / "coarse"), learnable=True), 3).state_dict()
    assert torch.equal(own["score.4.weight"], weights["score.4.weight"])
    assert torch.equal(own["fuse.0.weight"][0, 0], bilinear_kernel(2))
    assert torch.equal(own["enlarge.weight"][0, 0], bilinear_kernel(2))


def test_other_classes_give_a_segmenter_fresh_scores(tmp_path: Path) -> None:
    weights = segmenter_model(tmp_path / "three")
    own = build_segmenter_network(segmenter_config(init=str(tmp_path / "three")), 5).state_dict()
    assert own["score.4.weight"].shape[0] == 5
    assert not own["score.2.weight"].any()
    name = next(key for key in weights if key.startswith("backbone."))
    assert torch.equal(own[name], weights[name])


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ({}, {"stride": 4}),
        ({"learnable": True}, {}),
        ({"width": 8}, {}),
        ({}, {"width": 8}),
        ({}, {"backbone": "lenet5"}),
    ],
    ids=["finer", "learnt upsampling", "a head", "no head", "another backbone"],
)
def test_a_segmenter_that_would_lose_weights_is_refused(
    tmp_path: Path, there: dict[str, object], here: dict[str, object]
) -> None:
    segmenter_model(tmp_path / "other", **there)
    with pytest.raises(
        WeightsError, match=r"tensors differ, first .*; set the same backbone and width, a stride as fine"
    ):
        build_segmenter_network(segmenter_config(init=str(tmp_path / "other"), **here), 3)


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(ModelError, match="expected a model of kind segmenter, got person-lite0"):
        build_segmenter_network(segmenter_config(init="person-lite0"), 3)
