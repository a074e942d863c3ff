"""Laws of the classifier: order kept, a result is the same in any company, cards and names decide what loads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vision.backbones.registry import build_classifier
from vision.card import ModelCard, write_card
from vision.classification import imagenet
from vision.classification.classifier import load_classifier
from vision.classification.config import ClassifierConfig
from vision.classification.registry import load_named_classifier, with_card_threshold
from vision.errors import ConfigError, ModelError, ModelNotFoundError, StateError
from vision.runtime.config import RuntimeConfig
from vision.store import file_sha256
from vision.types import Classification, Frame, FrameResult

TORCH = RuntimeConfig(device="cpu", engine="torch", threads=1)
NAMES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    """A model folder with an untrained LeNet-5 of seven labels."""
    folder = tmp_path_factory.mktemp("store") / "seven"
    folder.mkdir()
    torch.manual_seed(0)
    path = folder / "weights.safetensors"
    save_file(build_classifier("lenet5", len(NAMES)).state_dict(), path)
    made = ModelCard(
        name="seven",
        kind="classifier",
        summary="",
        folder=folder,
        architecture={"backbone": "lenet5", "task": "multilabel", "threshold": 0.45},
        preprocess={"size_hw": [32, 32], "resize": "stretch", "mean": [127.5] * 3, "std": [127.5] * 3},
        labels=NAMES,
        sha256=file_sha256(path),
        licence="Apache-2.0",
    )
    write_card(folder, made)
    return made


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    return [Frame(rng.integers(0, 256, (20 + 7 * i, 30, 3), dtype=np.uint8), index=i) for i in range(5)]


def test_batches_give_what_single_frames_give(card, frames):
    many = load_classifier(card, ClassifierConfig(top=0, max_batch=2), TORCH)
    assert many.outputs(frames).shape == (5, 7)
    for frame, result in zip(frames, many.classify(frames), strict=True):
        alone = many.classify([frame])[0]
        assert alone.scores == pytest.approx(result.scores, abs=1e-6)
        assert alone.labels.tolist() == result.labels.tolist()
        assert len(result) == 7
        assert (np.diff(result.scores) <= 0).all()


def test_top_cuts_and_all_engines_agree(card, frames):
    onnx = load_classifier(card, ClassifierConfig(top=2), RuntimeConfig(device="cpu", engine="onnx", threads=1))
    torch_results = load_classifier(card, ClassifierConfig(top=2), TORCH).classify(frames)
    for ours, theirs in zip(onnx.classify(frames), torch_results, strict=True):
        assert len(ours) == 2
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)
        assert ours.assigned <= 2


def test_threshold_is_the_card_s_unless_given(card, frames):
    assert with_card_threshold(ClassifierConfig(model=str(card.folder))).threshold == 0.45
    assert with_card_threshold(ClassifierConfig(model=str(card.folder), threshold=0.1)).threshold == 0.1
    strict = load_named_classifier(ClassifierConfig(model=str(card.folder), threshold=1.0), TORCH)
    assert strict.classify(frames[:1])[0].assigned == 0
    lax = load_named_classifier(ClassifierConfig(model=str(card.folder), threshold=0.0), TORCH)
    assert lax.classify(frames[:1])[0].assigned == 5


def test_no_frames_give_no_results(card):
    assert load_classifier(card, runtime=TORCH).classify([]) == []


def test_a_closed_classifier_refuses(card, frames):
    classifier = load_classifier(card, runtime=TORCH)
    classifier.close()
    classifier.close()
    with pytest.raises(StateError, match="closed"):
        classifier.classify(frames)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "detector"}, "must be a classifier"),
        ({"preprocess": {"size_hw": [32, 32]}}, r"preprocess\.resize"),
        ({"architecture": {"backbone": "lenet5"}}, r"architecture\.task"),
        ({"architecture": {"task": "multiclass"}}, r"architecture\.backbone"),
    ],
)
def test_cards_that_lack_something_are_refused(card, change, message):
    with pytest.raises(ModelError, match=message):
        load_classifier(replace(card, **change), runtime=TORCH)


def test_an_unknown_name_lists_models_and_backbones(monkeypatch, card):
    monkeypatch.setenv("STRIDE32_MODELS", str(card.folder.parent))
    with pytest.raises(ModelNotFoundError, match="resnet50") as caught:
        load_named_classifier(ClassifierConfig(model="resnet5"), TORCH)
    assert "seven" in caught.value.known
    with pytest.raises(ModelNotFoundError):
        load_named_classifier(ClassifierConfig(model="lenet5"), TORCH)


def test_published_weights_make_an_imagenet_classifier(monkeypatch, tmp_path, frames):
    weights = tmp_path / "resnet18.pth"
    torch.save(imagenet.CLASSIFIERS["resnet18"].make().state_dict(), weights)
    monkeypatch.setattr(imagenet, "pretrained_path", lambda name, recipe: weights)
    monkeypatch.setenv("STRIDE32_MODELS", "")
    classifier = load_named_classifier(ClassifierConfig(model="resnet18", top=3), TORCH)
    assert len(classifier.class_names) == 1000
    assert classifier.spec.crop_share == pytest.approx(224 / 256)
    assert classifier.spec.size_hw == (224, 224)
    result = classifier.classify(frames[:1])[0]
    assert len(result) == 3
    assert result.names[0] == classifier.class_names[result.labels[0]]


def test_results_round_trip_through_json():
    classes = Classification(np.array([2, 0]), np.float32([0.75, 0.25]), ("cat", "ant"), assigned=1)
    value = Classification(np.zeros(0, np.int64), np.zeros(0, np.float32), value=3.25, unit="mm")
    for given in (classes, value):
        restored = FrameResult.from_dict(FrameResult(0, classification=given).to_dict()).classification
        assert restored.names == given.names
        assert restored.labels.tolist() == given.labels.tolist()
        assert restored.scores.tolist() == given.scores.tolist()
        assert (restored.assigned, restored.value, restored.unit) == (given.assigned, given.value, given.unit)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [0.5, 0.1], ("a",)), "one entry a name"),
        (([0, 1], [0.1, 0.5], ("a", "b")), "must be finite and fall"),
        (([0], [np.nan], ("a",)), "must be finite and fall"),
        (([0], [0.5], ("a",), 2), "can assign 0 to 1"),
        (([], [], (), 0, float("inf")), "must be finite"),
    ],
)
def test_impossible_results_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Classification(*arguments)


@pytest.mark.parametrize("change", [{"top": -1}, {"max_batch": 0}, {"threshold": 1.5}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=f"classification.{next(iter(change))}|max_batch"):
        ClassifierConfig(**change)
