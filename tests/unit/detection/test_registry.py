"""Detectors by name and family, and the thresholds that a card decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from vision.build import resolve_config
from vision.card import ModelCard, write_card
from vision.cli.options import pipeline_config
from vision.config import PipelineConfig, apply_overrides, from_dict, to_dict
from vision.detection.architecture import FAMILIES
from vision.detection.config import FALLBACK_CONF, DetectorConfig, DetectorFamily
from vision.detection.registry import LOADERS, load_detector, open_detector, resolve_thresholds, with_card_thresholds
from vision.errors import ConfigError, ModelError, ModelNotFoundError
from vision.runtime.config import RuntimeConfig


def make_card(folder: Path = Path("mine"), **fields: Any) -> ModelCard:
    values = {"architecture": {}, "metrics": (), **fields}
    return ModelCard(
        name=folder.name,
        kind="detector",
        summary="",
        folder=folder,
        preprocess={},
        labels=("person",),
        sha256="0" * 64,
        licence="Apache-2.0",
        **values,
    )


def measured(value: object) -> dict[str, Any]:
    return {"metrics": ({"name": "ap", "value": 0.9}, {"name": "f1_conf", "value": value})}


@pytest.mark.parametrize(
    ("given", "card", "conf"),
    [
        ("auto", measured(0.41), 0.41),
        ("auto", measured(1), 1.0),
        ("auto", {}, FALLBACK_CONF),
        ("auto", measured(0.0), FALLBACK_CONF),  # the detector found nothing
        ("auto", measured("high"), FALLBACK_CONF),
        (0.7, measured(0.41), 0.7),
        (0.0, measured(0.41), 0.0),
    ],
)
def test_the_score_threshold(given: Any, card: dict[str, Any], conf: float) -> None:
    resolved = with_card_thresholds(DetectorConfig(conf=given), make_card(**card))
    assert (resolved.conf, resolved.iou) == (conf, 0.5)
    assert resolved.score_floor == conf


def test_resolving_twice_changes_nothing(tmp_path: Path) -> None:
    write_card(tmp_path, make_card(tmp_path, **measured(0.3)))
    once = resolve_thresholds(DetectorConfig(model=str(tmp_path), iou=0.6))
    assert (once.conf, once.iou) == (0.3, 0.6)
    assert resolve_thresholds(once) == once


def test_the_pipeline_s_record_has_numbers_and_can_be_read_again(tmp_path: Path) -> None:
    write_card(tmp_path, make_card(tmp_path, **measured(0.3)))
    config = apply_overrides(PipelineConfig(), [f'detection.model="{tmp_path}"'])
    assert to_dict(config)["detection"]["conf"] == "auto"
    resolved = resolve_config(config)
    assert to_dict(resolved)["detection"]["conf"] == 0.3
    for each in (config, resolved):
        assert from_dict(PipelineConfig, to_dict(each)) == each


def test_every_anchor_family_has_a_loader_and_a_name() -> None:
    assert set(get_args(DetectorFamily)) == set(FAMILIES)
    assert set(FAMILIES) < set(LOADERS)


def test_an_unknown_family_is_refused() -> None:
    card = make_card(architecture={"family": "retinaned"})
    with pytest.raises(ModelError, match=r"must be one of .*, got 'retinaned' \(did you mean 'retinanet'\?\)"):
        load_detector(card, DetectorConfig(), RuntimeConfig(device="cpu"))


def test_an_unknown_name_offers_torchvision_s_detectors() -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean 'fcos_resnet50_fpn'"):
        open_detector(DetectorConfig(model="fcos_resnet50"), RuntimeConfig(device="cpu"))


@pytest.mark.parametrize("fields", [{"conf": 1.5}, {"conf": -0.1}, {"iou": 0.0}, {"iou": 1.2}, {"max_det": 0}])
def test_values_out_of_range(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="detection"):
        DetectorConfig(**fields)


# --- the command line's options ---


def test_options_win_over_the_file_and_set_wins_over_both(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[detection]\nconf = 0.2\niou = 0.3\nmax_det = 7\nclasses = ["car"]\n')
    config = pipeline_config(
        tmp_path / "settings.toml",
        ["detection.max_det=9"],
        model="1.5",  # a folder may be called so; it is a text all the same
        weights=tmp_path / "a b.pth",
        conf=0.4,
        iou=None,
        max_det=8,
        classes="person,traffic light",
        class_agnostic=True,
    ).detection
    assert (config.conf, config.iou, config.max_det) == (0.4, 0.3, 9)
    assert config.classes == ("person", "traffic light")
    assert (config.model, config.weights, config.class_agnostic) == ("1.5", str(tmp_path / "a b.pth"), True)


def test_options_that_are_not_given_change_nothing() -> None:
    assert pipeline_config(None, None, conf=None, classes=None, class_agnostic=None).detection == DetectorConfig()
