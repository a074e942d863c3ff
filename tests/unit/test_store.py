from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vision.card import CARD_FILE, read_card
from vision.cli.models import models_readme
from vision.errors import ModelError, ModelNotFoundError, WeightsError
from vision.store import ModelCard, file_sha256, find_model, list_models, load_weights, write_card

REPOSITORY = Path(__file__).parents[2]


def make_model(folder: Path, kind: str = "detector", **fields: Any) -> ModelCard:
    """Write a model of two tensors, one of them half precision, with its card."""
    folder.mkdir(parents=True)
    weights = folder / "weights.safetensors"
    save_file({"a": torch.arange(3, dtype=torch.float16), "steps": torch.tensor([7])}, weights)
    card = ModelCard(
        name=folder.name,
        kind=kind,
        summary="two tensors",
        folder=folder,
        architecture={"backbone": "tiny", "strides": [8, 16], "head": {"channels": 4}},
        preprocess={"long_side": 64, "mean": [0.5, 0.5, 0.5]},
        sha256=file_sha256(weights),
        licence="Apache-2.0",
        **{"labels": ("person",), **fields},
    )
    write_card(folder, card)
    return card


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv("STRIDE32_MODELS", str(folder))
    return folder


def test_a_card_round_trips(store: Path) -> None:
    card = make_model(
        store / "tiny",
        data=[{"name": "made up", "terms": "none"}],
        training={"command": "stride32 train detector", "seed": 1},
        metrics=[{"name": "AP50", "value": 0.5, "dataset": "made up", "command": "stride32 eval"}],
    )
    assert read_card(store / "tiny") == card
    assert find_model("tiny") == card
    assert find_model("tiny", "detector") == card
    assert find_model(str(store / "tiny")) == card
    assert card in list_models()


def test_the_first_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    make_model(first / "tiny", kind="embedder")
    make_model(second / "tiny")
    other = make_model(second / "other")
    monkeypatch.setenv("STRIDE32_MODELS", os.pathsep.join([str(first), str(tmp_path / "absent"), str(second)]))
    assert find_model("tiny").folder == first / "tiny"
    assert find_model("other") == other


def test_load_weights_widens_half_precision(store: Path) -> None:
    tensors = load_weights(make_model(store / "tiny"))
    assert tensors["a"].dtype == torch.float32
    assert tensors["a"].tolist() == [0, 1, 2]
    assert tensors["steps"].dtype == torch.int64


def test_load_weights_checks_the_digest(store: Path) -> None:
    card = make_model(store / "tiny")
    stated = "0" * 64
    with pytest.raises(WeightsError) as caught:
        load_weights(replace(card, sha256=stated))
    assert stated in str(caught.value)
    assert card.sha256 in str(caught.value)
    assert (caught.value.expected, caught.value.actual) == (stated, card.sha256)


def test_load_weights_refuses_what_is_no_safetensors(store: Path) -> None:
    card = make_model(store / "tiny")
    card.weights_path.write_bytes(b"this is no safetensors file")
    with pytest.raises(WeightsError, match="expected a safetensors file"):
        load_weights(replace(card, sha256=file_sha256(card.weights_path)))
    card.weights_path.unlink()
    with pytest.raises(WeightsError, match="found no file"):
        load_weights(card)


def test_an_unknown_name_suggests_the_closest(store: Path) -> None:
    make_model(store / "tiny-detector")
    make_model(store / "tiny-embedder", kind="embedder")
    with pytest.raises(ModelNotFoundError, match=r"unknown model 'tiny-detectr' \(did you mean 'tiny-detector'\?\)"):
        find_model("tiny-detectr")
    with pytest.raises(ModelNotFoundError, match="unknown embedder") as caught:
        find_model("tiny-embeder", "embedder")
    assert "tiny-embedder" in caught.value.known
    assert "tiny-detector" not in caught.value.known
    with pytest.raises(ModelNotFoundError):
        find_model("")


def test_the_wrong_kind_is_refused(store: Path) -> None:
    make_model(store / "tiny")
    with pytest.raises(ModelError, match="expected a model of kind embedder, got tiny, which is of kind detector"):
        find_model("tiny", "embedder")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('kind = "detector"', 'kid = "detector"', "did you mean 'kind'"),
        ('kind = "detector"', "kind = 3", "kind must be a string, got 3"),
        ('kind = "detector"\n', "", "required keys are missing: kind"),
        ('licence = "Apache-2.0"', 'licence = "Apache', "expected TOML"),
        ('file = "weights.safetensors"', 'file = "../weights.safetensors"', "inside the model's folder"),
        ('sha256 = "', 'sha256 = "x', "64 lower-case hexadecimal digits"),
        ("[weights]", "[weight]", "weights must be a table"),
        ("[weights]", "[weights]\ndigest = 1", "unknown key 'weights.digest'"),
        ('name = "tiny"', 'name = "huge"', "name must be the folder's name 'tiny', got 'huge'"),
    ],
)
def test_a_malformed_card_names_file_and_key(store: Path, before: str, after: str, words: str) -> None:
    make_model(store / "tiny")
    path = store / "tiny" / CARD_FILE
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(ModelError) as caught:
        find_model("tiny")
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(ModelNotFoundError):
        find_model("another")  # the broken card harms only itself


def test_the_models_table_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIDE32_MODELS", raising=False)
    cards = list_models()
    if not cards:
        pytest.skip("the checkout has no model cards yet")
    stored = (REPOSITORY / "models" / "README.md").read_text()
    assert stored == models_readme(cards), "run: stride32 models list --markdown > models/README.md"
