"""A short training run of a single-pass embedder on painted people: the run folder, the exported model and its card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from vision.backbones.registry import build_backbone
from vision.build import build_embedder
from vision.card import ModelCard, read_card, write_card
from vision.cli.main import app
from vision.detection.anchors import AnchorConfig
from vision.detection.fpn_lite import build_fpn_lite
from vision.evaluation.reid import evaluate_reid
from vision.reid.config import EmbedderConfig
from vision.runtime.config import RuntimeConfig
from vision.store import MODELS_VARIABLE, file_sha256
from vision.training.export_embedder import CARD_METRICS
from vision.training.fit_roi_embedder import train_roi_embedder
from vision.training.roi_embedder_config import RoiEmbedderTrainingConfig
from vision.training.run import read_metrics

PEOPLE, HELD_OUT = 10, 4
BACKBONE = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten people in shirts and trousers of their own colours, two noisy crops by each of two cameras."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for person in range(PEOPLE):
        (folder / f"{person:04d}").mkdir()
        shirt, trousers = rng.integers(0, 256, (2, 3))
        for number in range(4):
            image = np.concatenate([np.full((32, 32, 3), shirt), np.full((32, 32, 3), trousers)])
            image = np.clip(image + rng.normal(scale=10, size=image.shape), 0, 255).astype(np.uint8)
            name = f"{person:04d}_c{number % 2}s1_{number:06d}_01.png"
            cv2.imwrite(str(folder / f"{person:04d}" / name), image)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a detector of random weights; its statistics are set by a few batches, so that maps carry colour."""
    store = tmp_path_factory.mktemp("store")
    torch.manual_seed(0)
    anchors = AnchorConfig()
    network = build_fpn_lite(build_backbone(BACKBONE), num_classes=1, anchors=anchors, channels=16, head_depth=1)
    with torch.no_grad():
        for _ in range(8):
            network.train()(torch.randn(2, 3, 64, 64))
    (store / "finder").mkdir()
    save_file(network.state_dict(), store / "finder" / "weights.safetensors")
    card = ModelCard(
        name="finder",
        kind="detector",
        summary="",
        folder=store / "finder",
        architecture={"backbone": BACKBONE, "channels": 16, "head_depth": 1, "anchors": asdict(anchors)},
        preprocess={"long_side": 128, "mean": [127, 127, 127], "std": [128, 128, 128]},
        sha256=file_sha256(store / "finder" / "weights.safetensors"),
        licence="Apache-2.0",
        labels=("person",),
        data=({"name": "noise", "terms": "none"},),
    )
    write_card(store / "finder", card)
    return store


@pytest.fixture(scope="module")
def config(people: Path, tmp_path_factory: pytest.TempPathFactory) -> RoiEmbedderTrainingConfig:
    return RoiEmbedderTrainingConfig(
        data=people,
        out=tmp_path_factory.mktemp("run"),
        name="tiny",
        detector="finder",
        strides=(4, 8),
        dim=8,
        width=16,
        depth=1,
        holdout_people=HELD_OUT,
        epochs=2,
        eval_every=1,
        people=3,
        crops=2,
        variants=2,
        canvas=128,
        heights=(32, 64),
        val_height=64,
        circle_weight=0.5,
        threads=1,
        device="cpu",
        data_terms="painted",
    )


@pytest.fixture(scope="module")
def run_folder(config: RoiEmbedderTrainingConfig, store: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MODELS_VARIABLE, str(store))
        return train_roi_embedder(config)


def test_run_folder_is_complete(run_folder: Path, config: RoiEmbedderTrainingConfig) -> None:
    assert run_folder == config.out
    names = {path.name for path in run_folder.iterdir()}
    assert {"config.toml", "best.ckpt", "last.ckpt", "metrics.json", "report.html", "tiny", "validation"} <= names


def test_the_card_names_the_detector_and_the_way_here(run_folder: Path, store: Path) -> None:
    card, detector = read_card(run_folder / "tiny"), read_card(store / "finder")
    assert card.kind == "roi-embedder"
    assert card.architecture == {
        "detector": "finder",
        "detector_sha256": detector.sha256,
        "strides": [4, 8],
        "channels": [24, 40],
        "dim": 8,
        "width": 16,
        "depth": 1,
    }
    assert [row["name"] for row in card.data][1:] == ["through finder: noise"]
    command = card.training["command"]
    assert command.startswith("stride32 train roi-embedder --data DIR --out DIR --set name=tiny")
    assert "--set detector=finder --set 'strides=[4,8]' --set dim=8" in command
    assert card.metrics[0]["command"] == "stride32 eval embedder tiny --data DIR --holdout 4 --height 64"
    assert card.weights_path.stat().st_size < 200_000


def test_exported_model_gives_the_metrics_of_its_card(
    run_folder: Path, people: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(store))
    settings = EmbedderConfig(model=str(run_folder / "tiny"), crop_height=64)
    embedder = build_embedder(settings, RuntimeConfig(device="cpu", engine="torch", threads=1))
    assert embedder is not None
    metrics = evaluate_reid(embedder, people, holdout=HELD_OUT)
    stated = {row["name"]: row["value"] for row in read_card(run_folder / "tiny").metrics}
    assert stated == pytest.approx({name: metrics[name] for name in CARD_METRICS}, abs=1e-2)
    assert read_metrics(run_folder)["queries"] == HELD_OUT * 4
    assert metrics["mAP"] > 0.5


def test_the_command_line_measures_it(
    run_folder: Path, people: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(store))
    words = ["eval", "embedder", str(run_folder / "tiny"), "--data", str(people), "--holdout", "4", "--height", "64"]
    result = CliRunner().invoke(app, [*words, "--json", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert '"rank1"' in result.output


def test_a_finished_run_resumes_to_the_same_metrics(
    run_folder: Path, config: RoiEmbedderTrainingConfig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(store))
    before = read_metrics(run_folder)
    train_roi_embedder(config)
    assert read_metrics(run_folder) == before
