"""A short training run on painted people: the run folder, the exported model and its card, resuming."""

import dataclasses
import json
import logging

import cv2
import numpy as np
import pytest
import torch

from vision.card import read_card
from vision.cli.main import main
from vision.errors import InvalidInputError, ModelNotFoundError, WeightsError
from vision.evaluation.reid import evaluate_reid
from vision.reid.embedder import load_embedder
from vision.runtime.config import RuntimeConfig
from vision.store import load_weights
from vision.training.embedder_config import EmbedderTrainingConfig
from vision.training.export_embedder import CARD_METRICS
from vision.training.fit_embedder import train_embedder
from vision.training.report.measure import measure_run
from vision.training.run import read_metrics

PEOPLE, HELD_OUT = 12, 4
TORCH = RuntimeConfig(device="cpu", engine="torch", threads=1)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Twelve people in shirts and trousers of their own colours, two noisy crops by each of two cameras."""
    return paint_people(tmp_path_factory.mktemp("people"), cameras=(1, 2))


def paint_people(folder, cameras):
    rng = np.random.default_rng(0)
    for person in range(PEOPLE):
        (folder / f"{person:04d}").mkdir()
        shirt, trousers = rng.integers(0, 256, (2, 3))
        for camera in cameras:
            for number in range(2):
                image = np.concatenate([np.full((32, 32, 3), shirt), np.full((32, 32, 3), trousers)])
                image = np.clip(image + rng.normal(scale=10, size=image.shape), 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f"{person:04d}" / f"{person:04d}_c{camera}s1_{number:06d}_01.png"), image)
    return folder


@pytest.fixture(scope="module")
def config(people, tmp_path_factory):
    return EmbedderTrainingConfig(
        data=people,
        out=tmp_path_factory.mktemp("run"),
        name="tiny",
        pretrained=False,
        dim=16,
        size_hw=(64, 32),
        holdout_people=HELD_OUT,
        epochs=2,
        people=4,
        crops=2,
        freeze_stride=0,
        eval_every=1,
        threads=1,
        device="cpu",
        data_terms="painted",
    )


@pytest.fixture(scope="module")
def run_folder(config):
    return train_embedder(config)


def test_run_folder_is_complete(run_folder, config):
    assert run_folder == config.out
    names = {path.name for path in run_folder.iterdir()}
    assert {"config.toml", "best.ckpt", "last.ckpt", "metrics", "metrics.json", "tiny"} <= names
    rows = (run_folder / "metrics" / "version_0" / "metrics.csv").read_text()
    assert "val_rank1" in rows.splitlines()[0]


def test_exported_model_gives_the_metrics_of_its_card(run_folder, people):
    card = read_card(run_folder / "tiny")
    assert card.kind == "embedder"
    assert card.architecture == {"backbone": "tf_efficientnet_lite0", "stride": 16, "dim": 16}
    assert card.data == ({"name": people.name, "terms": "painted"},)
    metrics = evaluate_reid(load_embedder(card, TORCH), people, holdout=HELD_OUT)
    assert {row["name"]: row["value"] for row in card.metrics} == pytest.approx(
        {name: metrics[name] for name in CARD_METRICS}, abs=1e-3
    )
    scores = read_metrics(run_folder)
    assert scores["queries"] == HELD_OUT * 4
    assert scores["mAP"] > 0.9


def test_weights_are_half_precision_of_the_cut_network(run_folder):
    card = read_card(run_folder / "tiny")
    assert card.weights_path.stat().st_size < 12e6
    assert not any(name.startswith("backbone.stages.3") for name in load_weights(card))


def test_a_finished_run_resumes_to_the_same_metrics(run_folder, config):
    before = read_metrics(run_folder)
    train_embedder(config)
    assert read_metrics(run_folder) == before


def test_card_tells_how_to_train_and_measure_again(run_folder, config):
    card = read_card(run_folder / "tiny")
    command = card.training["command"]
    assert command.startswith("stride32 train embedder --data DIR --out DIR --set name=tiny --set pretrained=false")
    assert "size_hw=[64,32]" in command
    assert str(config.data) not in command
    assert card.metrics[0]["command"] == "stride32 eval embedder tiny --data DIR --holdout 4"


def test_too_few_people_are_refused_before_training(people, tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    config = EmbedderTrainingConfig(data=people, out=tmp_path, holdout_people=PEOPLE)
    with pytest.raises(InvalidInputError, match="lower holdout_people"):
        train_embedder(config)


def test_a_run_on_some_cameras_is_measured_on_the_others(config, tmp_path):
    """Stripes, the other losses and all augmentation on, other cameras and people than those measured."""
    data = tmp_path / "crops"
    data.mkdir()
    paint_people(data, cameras=(1, 2, 3))
    changed = dataclasses.replace(
        config,
        data=data,
        out=tmp_path / "run",
        cameras=(2,),
        holdout_people=3,
        exclude_people=2,
        export_checkpoint="last",
        epochs=1,
        stripes=2,
        circle_weight=0.5,
        classifier_margin=0.1,
        freeze_stride=8,
        box_jitter=0.1,
        grey=0.2,
        low_resolution=0.5,
    )
    out = train_embedder(changed)
    card = read_card(out / "tiny")
    assert card.architecture["stripes"] == 2
    (row, *_) = card.metrics
    assert row["command"] == "stride32 eval embedder tiny --data DIR --holdout 3 --exclude 2 --cameras 1,3"
    assert "last 3 people by id before the last 2, cameras 1, 3" in row["dataset"]
    assert row["dataset"].endswith("no part in training")
    metrics = evaluate_reid(load_embedder(card, TORCH), data, holdout=3, exclude=2, cameras=(1, 3))
    assert metrics["queries"] == 3 * 4
    assert row["value"] == pytest.approx(metrics["rank1"], abs=1e-3)
    measure_run(out, data)
    assert read_metrics(out)["queries"] == 3 * 4


def test_a_second_round_starts_from_the_first_and_learns_from_it(run_folder, config, tmp_path):
    teacher = str(run_folder / "tiny")
    # A rate of nearly nothing: what comes out is what went in.
    changed = dataclasses.replace(
        config, out=tmp_path / "run", init=teacher, teachers=(teacher,), epochs=1, lr=1e-9, weight_decay=0.0
    )
    out = train_embedder(changed)
    first, second = load_weights(read_card(run_folder / "tiny")), load_weights(read_card(out / "tiny"))
    for name, tensor in first.items():
        if "running" not in name and tensor.is_floating_point():
            assert torch.allclose(tensor, second[name], atol=1e-3), name


def test_unknown_teachers_are_named_before_training(config, tmp_path):
    with pytest.raises(ModelNotFoundError, match="no-such"):
        train_embedder(dataclasses.replace(config, out=tmp_path, teachers=("no-such",)))


def test_another_architecture_is_no_start(run_folder, config, tmp_path):
    changed = dataclasses.replace(config, out=tmp_path, init=str(run_folder / "tiny"), dim=32)
    with pytest.raises(WeightsError, match="must have the architecture of this run"):
        train_embedder(changed)


def test_the_average_of_two_models_is_measured_into_its_card(run_folder, people, tmp_path, capsys):
    model = run_folder / "tiny"
    # Twice the same model: the mean is the model itself.
    arguments = ["models", "average", model, model, "--out", tmp_path, "--name", "mean", "--data", people]
    code, out, err = run_cli(capsys, *arguments)
    assert code == 1
    assert "holding out 100 people" in err
    code, out, err = run_cli(capsys, *arguments, "--holdout", HELD_OUT)
    assert code == 0
    assert "mAP" in err
    measured = read_card(tmp_path / "mean").metrics
    assert [row["value"] for row in measured] == [row["value"] for row in read_card(model).metrics]
    assert measured[0]["command"] == "stride32 eval embedder mean --data DIR --holdout 4"
    assert "last 4 people by id" in measured[0]["dataset"]
    assert "may have chosen" in measured[0]["dataset"]
    arguments = arguments[:-2]
    code, out, _ = run_cli(capsys, *arguments)
    assert code == 0
    assert out.strip() == str(tmp_path / "mean")
    card = read_card(tmp_path / "mean")
    assert card.name == "mean"
    assert [part["name"] for part in card.training["parts"]] == ["tiny", "tiny"]
    assert card.metrics == ()
    first, mean = load_weights(read_card(model)), load_weights(card)
    assert all(torch.equal(first[name], mean[name]) for name in first)
    code, _, err = run_cli(capsys, "models", "average", model, "--out", tmp_path)
    assert code == 1
    assert "needs two models or more, got 1" in err


def test_held_out_people_of_one_camera_are_refused_before_training(config, tmp_path):
    changed = dataclasses.replace(config, out=tmp_path, cameras=(1,))
    with pytest.raises(InvalidInputError, match="seen by two cameras, got 4 people by cameras 2"):
        train_embedder(changed)


def run_cli(capsys, *args):
    """Run the command line in this process; returns exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    return end.value.code or 0, *capsys.readouterr()


def test_eval_takes_people_and_cameras(run_folder, people, capsys):
    arguments = ["eval", "embedder", run_folder / "tiny", "--data", people, "--holdout", 3, "--exclude", 2, "--json"]
    code, out, _ = run_cli(capsys, *arguments, "--cameras", "1,2")
    assert code == 0
    assert json.loads(out)["queries"] == 3 * 4


@pytest.mark.parametrize(
    ("cameras", "expected", "message"),
    [
        ("1;2", 2, "--cameras must be numbers joined by commas, got '1;2'; write 4,5,6"),
        ("9", 1, "cameras must be among [1, 2], got [9]"),
    ],
)
def test_wrong_cameras_are_refused(run_folder, people, capsys, cameras, expected, message):
    arguments = ["eval", "embedder", run_folder / "tiny", "--data", people, "--holdout", 3, "--cameras", cameras]
    code, _, err = run_cli(capsys, *arguments)
    assert code == expected
    assert message in err
