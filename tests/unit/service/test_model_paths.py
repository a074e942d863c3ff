from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fake_models import DETECTOR, FakeLoader, fake_settings

from service.metrics import Metrics
from service.model_paths import add_model_folders
from service.registry import ModelRegistry
from vision.store import MODELS_VARIABLE, find_model


@pytest.fixture
def cars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model folder that a training has left behind."""
    monkeypatch.setenv(MODELS_VARIABLE, "")
    folder = tmp_path / "runs" / "cars"
    shutil.copytree(find_model(DETECTOR).folder, folder)
    card = folder / "card.toml"
    card.write_text(card.read_text().replace(f'name = "{DETECTOR}"', 'name = "cars"', 1))
    return folder


def test_a_folder_becomes_a_model_of_the_store(cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cars.parent)
    settings = add_model_folders(fake_settings(tmp_path, detector="cars", preload=(str(cars), "person-window")))
    assert (settings.detector, settings.preload) == ("cars", ("cars", "person-window"))
    assert settings.embedder == "reid-lite"
    assert os.environ[MODELS_VARIABLE] == str(cars.parent)
    registry = ModelRegistry(settings, Metrics(), FakeLoader())
    registry.start()
    assert registry.resolve("detect").name == "cars"
    registry.close()


def test_names_and_what_is_no_model_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, "")
    settings = add_model_folders(fake_settings(tmp_path, segmenter="none", classifier=str(tmp_path)))
    assert (settings.detector, settings.segmenter, settings.classifier) == (DETECTOR, "none", str(tmp_path))
    assert os.environ[MODELS_VARIABLE] == ""


def test_a_broken_card_in_the_store_harms_no_other_model(
    cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = cars.parent / "broken"
    broken.mkdir()
    (broken / "card.toml").write_text("name = 3")
    registry = ModelRegistry(add_model_folders(fake_settings(tmp_path, detector=str(cars))), Metrics(), FakeLoader())
    registry.start()
    assert registry.resolve("detect").name == "cars"
    assert "broken" not in registry.entries
    registry.refresh()
    assert len([record for record in caplog.records if "broken" in record.getMessage()]) == 1
    registry.close()
