"""What environment.json says of a run, and what it does not say."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from vision.training.config import DetectorTrainingConfig
from vision.training.report.environment import (
    ENVIRONMENT_FILE,
    changed_settings,
    git_revision,
    read_starts,
    record_start,
)


def config(**changes: object) -> DetectorTrainingConfig:
    values = {"train_data": Path("/home/alice/secret/street/train.json"), "val_data": Path("val.json"), **changes}
    return DetectorTrainingConfig(**values)  # type: ignore[arg-type]


def test_only_changed_settings_are_named_and_no_folder_of_the_user() -> None:
    changed = changed_settings(config(classes=("bike",), epochs=3, lr=1e-3, init="/home/alice/runs/a/model"))
    assert changed == {
        "train_data": "street/train.json",
        "val_data": "val.json",
        "classes": ["bike"],
        "epochs": 3,
        "init": "a/model",
    }


def test_each_start_adds_an_entry(tmp_path: Path) -> None:
    record_start(tmp_path, config())
    record_start(tmp_path, config(epochs=5))
    first, second = read_starts(tmp_path)
    assert second["changed"]["epochs"] == 5
    assert first["time"] <= second["time"]
    assert first["packages"]["torch"]
    assert first["machine"]["cores"] >= 1
    assert "alice" not in (tmp_path / ENVIRONMENT_FILE).read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"starts": 3}', '{"starts": ["a"]}'])
def test_a_broken_file_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / ENVIRONMENT_FILE).write_text(text)
    assert read_starts(tmp_path) == []
    record_start(tmp_path, config())
    assert len(read_starts(tmp_path)) == 1
    json.loads((tmp_path / ENVIRONMENT_FILE).read_text())


def test_revision_and_dirt_of_a_checkout(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    assert git_revision(tmp_path) is None
    git("init")
    assert git_revision(tmp_path) is None
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    found = git_revision(tmp_path)
    assert found is not None
    assert len(found["revision"]) == 40
    assert found["dirty"] is False
    (tmp_path / "b").write_text("an untracked file changes nothing")
    assert git_revision(tmp_path) == found
    (tmp_path / "a").write_text("2")
    assert git_revision(tmp_path) == {**found, "dirty": True}
