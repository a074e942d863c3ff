"""A search tries what it is told, goes on where it was left, and survives trials that fail."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tiny_run import TINY, TinyConfig, settings

from vision.config import load_config
from vision.errors import ConfigError, InvalidInputError
from vision.training import search as search_module
from vision.training.config import DetectorTrainingConfig
from vision.training.search import SearchPlan, search
from vision.training.search_space import Parameter, combinations, read_parameter


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def plan(*texts: str, **values: Any) -> SearchPlan:
    return SearchPlan(tuple(read_parameter(text, TinyConfig) for text in texts), **values)


# --- what may be searched ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=log:1e-4:1e-2", Parameter("lr", low=1e-4, high=1e-2, log=True)),
        ("lr=log:1e-4:1e-2:3", Parameter("lr", low=1e-4, high=1e-2, log=True, points=3)),
        ("head_depth=2,3,4", Parameter("head_depth", values=(2, 3, 4))),
        ("head_depth=2:4", Parameter("head_depth", low=2, high=4, whole=True)),
        ("optimizer=adam,sgd", Parameter("optimizer", values=("adam", "sgd"))),
        ("pretrained=true,false", Parameter("pretrained", values=(True, False))),
        ("anchor_ratios=[1.0],[1.0,2.0]", Parameter("anchor_ratios", values=((1.0,), (1.0, 2.0)))),
        ("mosaic=0,0.5", Parameter("mosaic", values=(0.0, 0.5))),
    ],
)
def test_parameters_are_read_by_the_type_of_the_setting(text: str, expected: Parameter) -> None:
    assert read_parameter(text, DetectorTrainingConfig) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr=1,2", "did you mean 'lr'"),
        ("out=a,b", "can be searched, got 'out'"),
        ("lr", "KEY=log:LOW:HIGH"),
        ("lr=0.1", "two values or more"),
        ("lr=1:0.1", "LOW < HIGH"),
        ("lr=log:0:0.1", "LOW > 0"),
        ("head_depth=1.5:3", "is an integer"),
        ("head_depth=2,x", "head_depth must be an integer"),
        ("optimizer=adam,adamm", "did you mean 'adam'"),
    ],
)
def test_wrong_parameters_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_parameter(text, DetectorTrainingConfig)


def test_values_out_of_range_are_refused_before_any_trial(tmp_path: Path) -> None:
    for text in ("dropout=0:1.5", "batch_size=4,8;dropout=0.1,2"):
        with pytest.raises(ConfigError, match="dropout must be in"):
            search(TINY, settings(tmp_path), plan(*text.split(";")), tmp_path / "tune")
    with pytest.raises(ConfigError, match="each setting once"):
        search(TINY, settings(tmp_path), plan("lr=1,2", "lr=2,3"), tmp_path / "tune")
    assert not (tmp_path / "tune").exists()


def test_grids() -> None:
    parameters = [
        Parameter("lr", low=1e-4, high=1e-2, log=True, points=3),
        Parameter("head_depth", low=1, high=3, whole=True, points=9),
    ]
    found = list(combinations(parameters))
    assert [labels["lr"] for labels in found] == [1e-4] * 3 + [1e-3] * 3 + [1e-2] * 3
    assert [labels["head_depth"] for labels in found[:3]] == [1, 2, 3]
    with pytest.raises(ConfigError, match=r"write lr=log:0\.0001:0\.01:5"):
        Parameter("lr", low=1e-4, high=1e-2, log=True).grid()


# --- searches ---


def test_a_random_search_with_its_results(tmp_path: Path) -> None:
    folder = tmp_path / "tune"
    config = settings(tmp_path / "run", epochs=2)
    best = search(TINY, config, plan("lr=log:1e-4:1e-1", "optimizer=adam,sgd", trials=5), folder)
    rows = rows_of(folder)
    assert len(rows) == 5
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert len({row["lr"] for row in rows}) == 5
    for name in ("importance.png", "parallel.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    chosen = load_config(best, TinyConfig)
    top = max((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["val_fit"]))
    assert (chosen.lr, chosen.optimizer) == (float(top["lr"]), top["optimizer"])
    assert chosen.out == tmp_path / "run"  # ready for training
    assert not (tmp_path / "run").exists()  # trials write nothing


def test_a_search_goes_on_where_it_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(tmp_path, epochs=1)
    space = plan("lr=log:1e-4:1e-1", trials=4)
    real = search_module.run_trainer
    calls: list[float] = []

    def interrupted(config: Any, *arguments: Any, **options: Any) -> None:
        calls.append(config.lr)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(config, *arguments, **options)

    monkeypatch.setattr(search_module, "run_trainer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(TINY, config, space, tmp_path / "tune")
    assert len(rows_of(tmp_path / "tune")) == 3  # what there is, is written
    search(TINY, config, space, tmp_path / "tune")
    assert calls[3] == calls[2]  # the interrupted trial is done again
    done = [row for row in rows_of(tmp_path / "tune") if row["state"] == "complete"]
    assert len(done) == 4
    assert len({row["lr"] for row in done}) == 4
    search(TINY, config, space, tmp_path / "tune")
    assert len(calls) == 5  # nothing is left to do


def test_another_space_is_refused(tmp_path: Path) -> None:
    config = settings(tmp_path, epochs=1)
    search(TINY, config, plan("lr=0.1,0.2", trials=1), tmp_path / "tune")
    with pytest.raises(ConfigError, match="holds a search of"):
        search(TINY, config, plan("lr=0.1,0.3", trials=1), tmp_path / "tune")
    with pytest.raises(ConfigError, match="holds a search of"):
        search(TINY, config, plan("lr=0.1,0.2", trials=1, minimize=True), tmp_path / "tune")


def test_a_grid_tries_every_combination_once(tmp_path: Path) -> None:
    space = plan("lr=0.1,0.01", "betas=[0.9,0.99],[0.8,0.99]", method="grid", prune=False)
    best = search(TINY, settings(tmp_path, epochs=1), space, tmp_path / "tune")
    tried = {(row["lr"], row["betas"]) for row in rows_of(tmp_path / "tune")}
    assert len(tried) == len(rows_of(tmp_path / "tune")) == 4
    assert tuple(tomllib.loads(best.read_text())["betas"]) in ((0.9, 0.99), (0.8, 0.99))


def test_failed_trials_are_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two of the settings do not go together."""
    config = settings(tmp_path, epochs=1, clip_norm=0.0)
    space = plan("optimizer=adam,momentum", "nesterov=true,false", method="grid")
    # nesterov=true by itself is refused for adamw, so the base has the optimizer that takes it.
    config = settings(tmp_path, epochs=1, optimizer="momentum")
    with pytest.raises(ConfigError, match="nesterov needs"):
        search(TINY, settings(tmp_path, epochs=1), space, tmp_path / "tune")
    search(TINY, config, space, tmp_path / "tune")
    rows = {(row["optimizer"], row["nesterov"]): row for row in rows_of(tmp_path / "tune")}
    assert rows["adam", "True"]["state"] == "fail"
    assert "nesterov needs" in rows["adam", "True"]["error"]
    assert sum(row["state"] == "complete" for row in rows.values()) == 3


def test_no_trial_that_ends_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_NAN_STEP", "1")
    with pytest.raises(InvalidInputError, match="got none of 2; first failure: DivergenceError: the loss"):
        search(TINY, settings(tmp_path, epochs=1), plan("lr=0.1,0.2", trials=2), tmp_path / "tune")


def test_an_unknown_metric_ends_the_search(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"got 'val_app'; known: .*val_fit"):
        search(TINY, settings(tmp_path, epochs=1), plan("lr=0.1,0.2", metric="val_app"), tmp_path / "tune")


def test_hopeless_trials_are_cut_short(tmp_path: Path) -> None:
    """Six trials with a good rate, then one that cannot learn."""
    config = settings(tmp_path, epochs=6, dropout=0.0)
    space = plan("lr=0.02,0.021,0.022,0.023,0.024,0.025,1e-9", method="grid")
    search(TINY, config, space, tmp_path / "tune")
    last = rows_of(tmp_path / "tune")[-1]
    assert (last["lr"], last["state"]) == ("1e-09", "pruned")
    assert int(last["epoch"]) < 6
