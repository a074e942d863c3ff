"""``stride32 models bench`` as a user runs it, on a small model."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vision.bench.subjects import STATISTICS, backbone_subjects, count_parameters, model_subjects, patch_picture
from vision.card import read_card
from vision.cli.main import main
from vision.errors import ModelNotFoundError
from vision.store import find_model, load_weights

FAST = ("--engines", "torch", "--threads", "1", "--repeats", "3")


def run(*words: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of ``stride32 models bench``."""
    with pytest.raises(SystemExit) as stopped:
        main(["models", "bench", *map(str, words)])
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    """Return a copy of the shipped embedder, whose card may be written."""
    return Path(shutil.copytree(find_model("reid-lite").folder, tmp_path / "crops"))


def test_table_and_files(tmp_path: Path, embedder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench"
    words = [embedder, "--backbones", "mobilenet_v3_small", "--sizes", "64", *FAST, "--out", out]
    code, stdout, stderr = run(*words, capsys=capsys)
    assert code == 0, stderr
    assert "rank-1 0.9" in stdout
    assert "mobilenet_v3_small" in stdout
    assert "measuring mobilenet_v3_small 64 in torch:cpu" in stderr
    first, second = csv.DictReader((out / "bench.csv").read_text().splitlines())
    assert (first["kind"], first["size"], first["source"]) == ("embedder", "128x64", "card")
    assert (second["kind"], second["size"], second["file_bytes"]) == ("backbone", "64", "")
    document: dict[str, Any] = json.loads((out / "bench.json").read_text())
    assert [row["threads"] for row in document["rows"]] == [1, 1]
    assert document["machine"]["cores"] >= 1
    assert cv2.imread(str(out / "bench.png")) is not None
    code, _, stderr = run(*words, capsys=capsys)
    assert code == 1
    assert "bench.csv exists already; pass --overwrite" in stderr


def test_results_go_into_the_card(embedder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_card(embedder)
    for _ in range(2):
        code, stdout, stderr = run(embedder, *FAST, "--write-cards", capsys=capsys)
        assert code == 0, stderr
        assert f"wrote {embedder / 'card.toml'}" in stdout
    card = read_card(embedder)
    (measured,) = (item for item in card.latency if item["engine"] == "torch:cpu" and item["repeats"] == 3)
    assert measured["fastest_ms"] <= measured["latency_ms"]
    assert (card.metrics, card.sha256) == (before.metrics, before.sha256)
    with pytest.raises(SystemExit):
        main(["models", "show", str(embedder)])
    assert "[[latency]]" in capsys.readouterr().out


def test_a_picture_of_the_user(tmp_path: Path, embedder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "mine.png"), np.zeros((90, 120, 3), np.uint8))
    code, stdout, stderr = run(embedder, *FAST, "--picture", tmp_path / "mine.png", capsys=capsys)
    assert code == 0, stderr
    assert "mine.png, 120 x 90" in stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--sizes", "320,x"], 2, "--sizes must be numbers of pixels >= 32, got '320,x'"),
        (["--sizes", "8"], 2, "--sizes must be numbers of pixels >= 32"),
        (["--engines", "onxx"], 2, "--engines must be of onnx, torch, got 'onxx' (did you mean 'onnx'?)"),
        (["person-lite0", "reid-lite", "--data", "val.json"], 2, "write detector=val.json"),
        (["--data", "detektor=val.json"], 2, "got 'detektor' (did you mean 'detector'?)"),
        (["person-lite9"], 1, "unknown model 'person-lite9' (did you mean 'person-lite0'?)"),
        (["--backbones", "resnet19", *FAST], 1, "unknown backbone 'resnet19'"),
    ],
)
def test_mistakes(words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, stdout, stderr = run(*words, capsys=capsys)
    assert (found, stdout) == (code, "")
    assert message in stderr


def test_parameters_are_those_of_the_network() -> None:
    card = find_model("reid-lite")
    tensors = load_weights(card)
    expected = sum(value.numel() for name, value in tensors.items() if not name.endswith(STATISTICS))
    assert count_parameters(card.weights_path) == expected


def test_a_detector_is_measured_at_each_size_and_knows_its_own() -> None:
    picture = patch_picture(64)
    card = find_model("person-lite0")
    own = str(card.preprocess["long_side"])
    (alone,) = model_subjects(card, [], picture)
    assert (alone.size, alone.own_size) == (own, True)
    found = list(model_subjects(card, [96, int(own)], picture))
    assert [(item.size, item.own_size) for item in found] == [("96", False), (own, True)]
    (crops,) = model_subjects(find_model("reid-lite"), [96], picture)
    assert crops.size == "128x64"


def test_the_picture_is_the_same_in_every_run() -> None:
    assert patch_picture(100).shape == (100, 100, 3)
    np.testing.assert_array_equal(patch_picture(100), patch_picture(100))


def test_an_unknown_backbone() -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean 'resnet18'"):
        list(backbone_subjects("resnet_18", [], patch_picture(64)))
