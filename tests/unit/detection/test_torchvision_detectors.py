"""torchvision's detectors behind our protocol: parity with calling them directly, labels, limits, weights files, cards.

SSDLite stands for all where the kind does not matter: it is the quickest. Weights are random, so scores are low and
thresholds near 0.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from vision import remote
from vision.build import build_detector
from vision.card import ModelCard, write_card
from vision.detection.config import DetectorConfig
from vision.detection.registry import load_detector, resolve_thresholds
from vision.detection.torchvision_detectors import (
    CARD_DETECTORS,
    COCO_DETECTORS,
    TorchvisionDetector,
    build_torchvision,
    published_name,
)
from vision.errors import ConfigError, ModelError, ModelNotFoundError, WeightsError
from vision.runtime.config import RuntimeConfig
from vision.store import file_sha256
from vision.types import Detections, Frame

CPU = RuntimeConfig(device="cpu")
LITE = "ssdlite320_mobilenet_v3_large"
NAMES = ("car", "truck")
CONF = 0.3


def make_network(name: str, outputs: int = 91, **limits: Any) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=outputs, **limits
    )
    if name == LITE:
        _wake(network)
    return network.eval()


@torch.no_grad()
def _wake(network: Any) -> None:
    """Give SSDLite scores that differ: fresh batch norms pass on next to nothing, and every class would score alike."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    features = list(network.train().backbone(torch.rand(2, 3, 320, 320)).values())
    network.head(features)
    for level in network.head.classification_head.module_list:
        nn.init.normal_(level[1].weight, std=0.1)


def frame(size_hw: tuple[int, int] = (60, 80), seed: int = 0) -> Frame:
    return Frame(np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8))


@pytest.fixture(scope="module")
def lite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "ssdlite.pth"
    torch.save(make_network(LITE).state_dict(), path)
    return path


@torch.inference_mode()
def run_directly(network: nn.Module, frame: Frame) -> dict[str, torch.Tensor]:
    image = torch.tensor(frame.image).permute(2, 0, 1) / 255
    (output,) = network([image])
    assert isinstance(output, dict)
    return output


def assert_same(found: Detections, output: dict[str, torch.Tensor], category_of: dict[int, int]) -> None:
    """Compare with the rows of a direct call whose class is known, the best 300 of them, which must be some."""
    known = [row for row, label in enumerate(output["labels"].tolist()) if label in category_of][:300]
    assert known
    assert len(found) == len(known)
    np.testing.assert_allclose(found.boxes, output["boxes"][known].numpy(), atol=1e-4)
    np.testing.assert_allclose(found.scores, output["scores"][known].numpy(), atol=1e-6)
    assert found.labels.tolist() == [category_of[output["labels"][row].item()] for row in known]


# --- the published detectors ---


@pytest.mark.parametrize("name", COCO_DETECTORS)
def test_thresholds_are_those_of_the_publisher(name: str) -> None:
    """Our table of NMS overlaps is what torchvision itself builds with."""
    with torch.device("meta"):
        network: Any = build_torchvision(name, 91, DetectorConfig())
    owner = getattr(network, "roi_heads", network)
    assert owner.nms_thresh == COCO_DETECTORS[name].nms_iou
    assert owner.score_thresh == DetectorConfig().score_floor
    assert resolve_thresholds(DetectorConfig(model=name)).iou == COCO_DETECTORS[name].nms_iou
    assert resolve_thresholds(DetectorConfig(model=name, iou=0.3)).iou == 0.3


@pytest.mark.parametrize("name", CARD_DETECTORS)
def test_networks_are_those_of_the_published_checkpoints(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building as the publisher does for his weights (nothing is downloaded or loaded) gives the same tensors, but for
    counters where he froze the batch norms, and the same epsilons."""
    with torch.device("meta"):
        ours = build_torchvision(name, 91, DetectorConfig(), norm_eps=CARD_DETECTORS[name].norm_eps)
        monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda *_, **__: {})
        monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
        published: nn.Module = torchvision.models.get_model(name, weights="COCO_V1")
    shapes, expected = (
        {key: value.shape for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
        for network in (ours, published)
    )
    assert shapes == expected
    assert norm_epsilons(ours) == norm_epsilons(published)


def norm_epsilons(network: nn.Module) -> dict[str, float]:
    kinds = (nn.BatchNorm2d, torchvision.ops.FrozenBatchNorm2d)
    return {name: module.eps for name, module in network.named_modules() if isinstance(module, kinds)}


def test_every_published_detector_can_be_pulled() -> None:
    pulled = {name for name, (kind, _, _) in remote.TORCHVISION.items() if kind == "detector"}
    assert set(COCO_DETECTORS) <= pulled
    assert published_name("fcos") == "fcos_resnet50_fpn"
    assert published_name("person-lite0") is None


def test_results_equal_a_direct_call(lite_file: Path) -> None:
    detector = build_detector(DetectorConfig(model=LITE, weights=str(lite_file), conf=CONF), CPU)
    categories = torchvision.models.get_model_weights(LITE)["COCO_V1"].meta["categories"]
    assert len(detector.class_names) == 80
    assert detector.class_names[:2] == ("person", "bicycle")
    assert detector.class_names[-1] == "toothbrush"
    category_of = {categories.index(name): label for label, name in enumerate(detector.class_names)}
    direct = make_network(LITE, score_thresh=CONF, detections_per_img=1000)
    for picture in (frame(), frame((123, 45), 1)):
        (found,) = detector.detect([picture])
        assert_same(found, run_directly(direct, picture), category_of)
        assert (found.scores[:-1] >= found.scores[1:]).all()


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn_v2", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"])
def test_the_large_detectors_equal_a_direct_call(name: str) -> None:
    config = DetectorConfig(model=name, conf=0.001, long_side=64, max_det=20)
    torch.manual_seed(0)
    network = build_torchvision(name, 3, config)
    detector = TorchvisionDetector(
        network, class_names=NAMES, label_of=np.array([-1, 0, 1]), config=config, runtime=CPU
    )
    picture = frame((48, 64))
    output = run_directly(network, picture)
    (found,) = detector.detect([picture])
    rows = (output["labels"] > 0).nonzero().flatten()[:20]
    assert_same(found, {key: value[rows] for key, value in output.items()}, {1: 0, 2: 1})
    assert (found.boxes[:, 2:] <= (64, 48)).all()


def test_a_batch_of_several_sizes_equals_each_alone(lite_file: Path) -> None:
    detector = build_detector(DetectorConfig(model=LITE, weights=str(lite_file), conf=CONF), CPU)
    frames = [frame(), frame((100, 40), 1), frame(seed=2)]
    together = detector.detect(frames)
    for picture, found in zip(frames, together, strict=True):
        (alone,) = detector.detect([picture])
        # Scores of random weights are nearly equal, so rounding may swap neighbours in rank: in order of place.
        np.testing.assert_allclose(by_place(found), by_place(alone), atol=1e-3)
    assert detector.detect([]) == []


def by_place(found: Detections) -> npt.NDArray[np.float64]:
    """Return rows of label, box and score, sorted by label and rounded box."""
    rows = np.column_stack([found.labels, found.boxes, found.scores]).astype(np.float64)
    return rows[np.lexsort(rows[:, 4::-1].round(1).T)]


def test_wanted_classes_and_max_det(lite_file: Path) -> None:
    config = DetectorConfig(model=LITE, weights=str(lite_file), conf=CONF)
    (everything,) = build_detector(config, CPU).detect([frame()])
    wanted = int(everything.labels[-1])
    name = build_detector(config, CPU).class_names[wanted]
    only = build_detector(dataclasses.replace(config, classes=(name,), max_det=2), CPU)
    (found,) = only.detect([frame()])
    assert found.labels.tolist() == [wanted] * len(found)
    rows = np.flatnonzero(everything.labels == wanted)[:2]
    np.testing.assert_array_equal(found.boxes, everything.boxes[rows])


def test_class_agnostic_nms_leaves_no_overlap(lite_file: Path) -> None:
    config = DetectorConfig(model=LITE, weights=str(lite_file), conf=CONF, iou=0.4)
    counts = []
    for agnostic in (False, True):
        (found,) = build_detector(dataclasses.replace(config, class_agnostic=agnostic), CPU).detect([frame()])
        counts.append(len(found))
    overlap = torchvision.ops.box_iou(*[torch.from_numpy(found.boxes)] * 2).fill_diagonal_(0)
    assert overlap.max() <= 0.4
    assert 0 < counts[1] < counts[0]


def test_the_cache_is_where_weights_are_looked_for(
    lite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="run: stride32 models pull fcos_resnet50_fpn"):
        build_detector(DetectorConfig(model="fcos"), CPU)
    monkeypatch.setattr(remote, "require", {LITE: lite_file}.__getitem__)
    assert len(build_detector(DetectorConfig(model=LITE), CPU).class_names) == 80


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"model": "ssd300_vgg61"}, ModelNotFoundError, "did you mean 'ssd300_vgg16'"),
        ({"model": "person-lite0", "weights": "a.pth"}, ConfigError, "has weights of its own; leave it out"),
        ({"model": LITE, "weights": "absent.pth"}, WeightsError, "absent.pth"),
        ({"model": LITE, "weights": "", "long_side": 640}, ConfigError, "input of one size"),
        ({"model": LITE, "weights": "", "classes": ("persn",)}, ConfigError, "did you mean 'person'"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], error: type[Exception], words: str, lite_file: Path) -> None:
    if fields.get("weights") == "":
        fields = {**fields, "weights": str(lite_file)}
    with pytest.raises(error, match=words):
        build_detector(DetectorConfig(**fields), CPU)


def test_onnx_is_refused(lite_file: Path) -> None:
    with pytest.raises(ConfigError, match="run with torch"):
        build_detector(DetectorConfig(model=LITE, weights=str(lite_file)), RuntimeConfig(device="cpu", engine="onnx"))


# --- fine-tuned checkpoints with a card ---


def write_model(folder: Path, *, suffix: str = ".safetensors", outputs: int = 3, **tables: dict[str, Any]) -> ModelCard:
    folder.mkdir()
    weights = folder / f"weights{suffix}"
    state = make_network(LITE, outputs).state_dict()
    if suffix == ".pth":
        torch.save(state, weights)
    else:
        save_file(state, weights)
    card = ModelCard(
        name=folder.name,
        kind="detector",
        summary="fine-tuned",
        folder=folder,
        architecture={"family": "torchvision", "model": LITE, **tables.get("architecture", {})},
        preprocess=tables.get("preprocess", {}),
        labels=NAMES,
        weights_file=weights.name,
        sha256=file_sha256(weights),
        licence="Apache-2.0",
        metrics=({"name": "f1_conf", "value": 0.2},),
    )
    write_card(folder, card)
    return card


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_card_makes_a_detector(tmp_path: Path, suffix: str) -> None:
    write_model(tmp_path / "mine", suffix=suffix)
    detector = build_detector(DetectorConfig(model=str(tmp_path / "mine"), conf=0.6), CPU)
    assert detector.class_names == NAMES
    (found,) = detector.detect([frame()])
    direct = run_directly(make_network(LITE, 3, score_thresh=0.6, detections_per_img=1000), frame())
    assert_same(found, {key: value[:300] for key, value in direct.items()}, {1: 0, 2: 1})


def test_thresholds_of_a_card(tmp_path: Path) -> None:
    write_model(tmp_path / "mine")
    resolved = resolve_thresholds(DetectorConfig(model=str(tmp_path / "mine")))
    assert (resolved.conf, resolved.iou) == (0.2, 0.55)


def test_category_ids_with_gaps(tmp_path: Path) -> None:
    card = write_model(tmp_path / "mine", outputs=5, architecture={"num_classes": 5, "category_ids": [4, 1]})
    config = DetectorConfig(conf=0.5)
    (found,) = load_detector(card, config, CPU).detect([frame()])
    direct = run_directly(make_network(LITE, 5, score_thresh=0.5, detections_per_img=1000), frame())
    assert set(direct["labels"].tolist()) == {1, 2, 3, 4}
    known = {4: 0, 1: 1}
    assert found.labels.tolist() == [known[label] for label in direct["labels"].tolist() if label in known][:300]


@pytest.mark.parametrize(
    ("architecture", "error", "words"),
    [
        ({"model": "yolo"}, ModelError, "architecture.model must be one of"),
        ({"category_ids": [1]}, ModelError, "must give each of 2 labels a number below num_classes=3"),
        ({"category_ids": [1, 3]}, ModelError, r"got \[1, 3\]"),
        ({"num_classes": 1}, ModelError, "number below num_classes=1"),
        ({"num_classes": 4}, WeightsError, "must fit the card's architecture"),
    ],
)
def test_cards_that_contradict_themselves(
    architecture: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    card = write_model(tmp_path / "mine", architecture=architecture)
    with pytest.raises(error, match=words):
        load_detector(card, DetectorConfig(), CPU)
