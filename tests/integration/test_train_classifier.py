"""Classifiers trained for a moment on painted pictures: each task learns, exports, and is measured as its card says."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from vision.card import read_card
from vision.classification.classifier import load_classifier
from vision.cli.main import app
from vision.evaluation.classification import evaluate_classifier
from vision.runtime.config import RuntimeConfig
from vision.training.classifier_config import ClassifierTrainingConfig
from vision.training.fit_classifier import train_classifier
from vision.training.run import read_metrics

TORCH = RuntimeConfig(device="cpu", engine="torch", threads=1)
COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def paint(path, left, right, rng):
    """Write a noisy picture of two colours (RGB) side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.empty((24, 24, 3))
    image[:, :12], image[:, 12:] = left, right
    image = np.clip(image + rng.normal(scale=12, size=image.shape), 0, 255).astype(np.uint8)
    cv2.imwrite(str(path), image[..., ::-1])


def run(data, out, **changes):
    settings = {
        "name": "tiny",
        "backbone": "lenet5_rgb",
        "pretrained": False,
        "resize": "stretch",
        "colour": 0.0,
        "epochs": 6,
        "lr": 3e-3,
        "batch_size": 16,
        "ema_decay": 0.9,
        "threads": 1,
        "device": "cpu",
        "data_terms": "painted",
    }
    config = ClassifierTrainingConfig(data=data, out=out, **{**settings, **changes})
    return train_classifier(config)


@pytest.fixture(scope="module")
def colour_folders(tmp_path_factory):
    """Three classes: pictures of one colour each; one file is damaged."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for number in range(20):
            paint(folder / name / f"{name}{number:02d}.png", colour, colour, rng)
    (folder / "red" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def multiclass_run(colour_folders, tmp_path_factory):
    return run(colour_folders, tmp_path_factory.mktemp("multiclass"))


def metrics_of(folder, data, **options):
    return evaluate_classifier(load_classifier(read_card(folder), runtime=TORCH), data, **options)


def card_values(card):
    return {row["name"]: row["value"] for row in card.metrics}


def test_multiclass_learns_and_its_card_is_true(multiclass_run, colour_folders):
    card = read_card(multiclass_run / "tiny")
    assert (card.kind, card.labels) == ("classifier", ("blue", "green", "red"))
    assert card.architecture == {"backbone": "lenet5_rgb", "task": "multiclass"}
    assert card.preprocess["resize"] == "stretch"
    scores = metrics_of(multiclass_run / "tiny", colour_folders, holdout=0.2)
    assert scores.metrics["accuracy"] > 0.9
    assert card_values(card) == pytest.approx(
        {name: scores.metrics[name] for name in ("accuracy", "top5", "macro_f1")}, abs=1e-4
    )
    assert read_metrics(multiclass_run) == pytest.approx(scores.metrics, abs=1e-6)
    assert "--holdout 0.2" in card.metrics[0]["command"]
    assert str(colour_folders) not in card.training["command"]
    with (multiclass_run / "confusion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == ["blue", "green", "red"]
    assert [[int(cell) for cell in row[1:]] for row in rows[1:]] == scores.confusion.tolist()


def test_a_finished_run_started_again_gives_the_same_model(multiclass_run, colour_folders):
    before = read_card(multiclass_run / "tiny")
    run(colour_folders, multiclass_run)
    assert read_card(multiclass_run / "tiny").sha256 == before.sha256


def test_eval_prints_the_numbers_of_the_card(multiclass_run, colour_folders):
    arguments = ["eval", "classifier", str(multiclass_run / "tiny"), "--data", str(colour_folders), "--holdout", "0.2"]
    done = CliRunner().invoke(app, [*arguments, "--confusion", "--json", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    for name, value in card_values(read_card(multiclass_run / "tiny")).items():
        assert printed[name] == pytest.approx(value, abs=1e-4)
    assert np.trace(printed["confusion"]) == round(printed["accuracy"] * printed["pictures"])


def test_classify_writes_every_output(multiclass_run, colour_folders, tmp_path):
    outputs = {"--jsonl": tmp_path / "o.jsonl", "--csv": tmp_path / "o.csv", "--save-images": tmp_path / "drawn"}
    outputs["--heat"] = tmp_path / "heat"
    arguments = ["classify", str(colour_folders / "red"), "--model", str(multiclass_run / "tiny"), "--top", "2"]
    words = [str(word) for pair in outputs.items() for word in pair]
    done = CliRunner().invoke(app, [*arguments, *words, "--device", "cpu"], standalone_mode=False)
    assert done.return_value == 3, done.output  # the damaged picture
    lines = [json.loads(line) for line in outputs["--jsonl"].read_text().splitlines()]
    assert lines[0]["class_names"] == ["blue", "green", "red"]
    assert len(lines) == 21
    assert all(len(line["classification"]["labels"]) == 2 for line in lines[1:])
    assert sum(line["classification"]["names"][0] == "red" for line in lines[1:]) >= 18
    with outputs["--csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert [row["assigned"] for row in rows[:2]] == ["1", "0"]
    assert len(list(outputs["--save-images"].glob("*.png"))) == 20
    assert len(list(outputs["--heat"].glob("*.png"))) == 20
    refused = CliRunner().invoke(app, [*arguments, *words], standalone_mode=False)
    assert "exists already" in str(refused.exception)
    alone = CliRunner().invoke(app, [*arguments, "--heat-class", "red"], standalone_mode=False)
    assert "pass --heat DIR" in str(alone.exception)


def test_multilabel_learns_labels_that_do_not_exclude_each_other(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for number in range(60):
        shown = [name for name in COLOURS if rng.uniform() < 0.5][:2]
        sides = [COLOURS[name] for name in shown] + [(0, 0, 0)] * (2 - len(shown))
        paint(tmp_path / "pictures" / f"{number}.png", *sides, rng)
        rows.append(f"pictures/{number}.png,{';'.join(shown)}")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["file,labels", *rows]) + "\n")
    out = run(table, tmp_path / "run", task="multilabel", class_weights="balanced", epochs=12)
    card = read_card(out / "tiny")
    assert card.labels == ("blue", "green", "red")
    assert 0 < card.architecture["threshold"] < 1
    scores = metrics_of(out / "tiny", table, holdout=0.2)
    assert card_values(card) == pytest.approx(
        {name: scores.metrics[name] for name in ("mAP", "f1", "macro_f1")}, abs=1e-3
    )
    assert scores.metrics["mAP"] > 0.8


def test_regression_learns_a_value_in_its_unit(tmp_path):
    rng = np.random.default_rng(2)
    for part, count in (("train", 60), ("val", 12)):
        rows = []
        for number in range(count):
            brightness = rng.uniform(20, 220)
            paint(tmp_path / f"{part}{number}.png", (brightness,) * 3, (brightness,) * 3, rng)
            rows.append(f"{part}{number}.png,{brightness / 10 + 100:.3f}")
        (tmp_path / f"{part}.csv").write_text("\n".join(["file,value", *rows]) + "\n")
    out = run(tmp_path, tmp_path / "run", task="regression", unit="cd", epochs=10, backbone="lenet5")
    card = read_card(out / "tiny")
    assert card.labels == ()
    assert card.architecture["unit"] == "cd"
    assert 105 < card.architecture["value_mean"] < 120
    scores = metrics_of(out / "tiny", tmp_path)
    assert card_values(card) == pytest.approx({name: scores.metrics[name] for name in ("mae", "rmse", "r2")}, abs=1e-3)
    assert scores.metrics["r2"] > 0.8
    csv_path = tmp_path / "values.csv"
    arguments = ["classify", str(tmp_path / "val3.png"), "--model", str(out / "tiny"), "--csv", str(csv_path)]
    done = CliRunner().invoke(app, [*arguments, "--device", "cpu"], standalone_mode=False)
    assert done.return_value == 0, done.output
    with csv_path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["unit"] == "cd"
    assert 100 < float(row["value"]) < 125


def test_print_config_shows_the_settings():
    arguments = ["train", "classifier", "--data", "d", "--task", "multilabel", "--set", "epochs=3", "--print-config"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert 'task = "multilabel"' in done.stdout
    assert "epochs = 3" in done.stdout
