"""Training a segmenter: stages, resuming within them, the grid of the loss, and batches without a known pixel."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from tiny_run import DisturbanceError, assert_same_state, checkpoint

from vision.errors import ConfigError
from vision.training.datasets.masks import MaskFormat
from vision.training.datasets.segmentation_data import SegmentationData
from vision.training.fit_segmenter import SEGMENTER, _weights, prepare_segmenter
from vision.training.probe import run_steps
from vision.training.run import train
from vision.training.segmenter_config import SegmenterTrainingConfig
from vision.training.tasks.segmenter import SegmenterTask, at_stride, waiting_strides

UNEXPORTED = dataclasses.replace(SEGMENTER, export=lambda config, parts: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures whose upper half is bright."""
    folder, rng = tmp_path_factory.mktemp("halves"), np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number in range(8):
        labels = np.zeros((32, 32), np.uint8)
        labels[int(rng.integers(8, 24)) :] = 1
        picture = np.where(labels[..., None], 60, 200) + rng.normal(scale=10, size=(32, 32, 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{number}.bmp")
        Image.fromarray(labels).save(folder / "masks" / f"{number}.png")
    return folder


def settings(data: Path, out: Path, **changes: Any) -> SegmenterTrainingConfig:
    values = {
        "backbone": "lenet5_rgb",
        "pretrained": False,
        "stride": 2,
        "crop_hw": (32, 32),
        "loss_stride": 2,
        "batch_size": 3,
        "epochs": 4,
        "eval_every": 4,
        "lr": 0.01,
        "warmup_steps": 1,
        "ema_decay": 0.9,
        "threads": 1,
        "device": "cpu",
        "classes": ("up", "down"),
        **changes,
    }
    return SegmenterTrainingConfig(data=data, out=out, **values)


class ScoreSizes(Callback):
    """Keeps the largest weight of each score after every step."""

    def __init__(self) -> None:
        self.sizes: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        scores = module.network.score
        self.sizes.append({name: float(score.weight.detach().abs().max()) for name, score in scores.items()})


def sizes_of(data: Path, tmp_path: Path, steps: int, **changes: Any) -> list[dict[str, float]]:
    config, seen = settings(data, tmp_path, **changes), ScoreSizes()
    torch.manual_seed(0)
    run_steps(config, prepare_segmenter(config)(config), steps, [seen])
    return seen.sizes


@pytest.mark.parametrize("optimizer", ["adamw", "momentum"])
def test_finer_scores_stay_zero_until_their_stage(data: Path, tmp_path: Path, optimizer: str) -> None:
    sizes = sizes_of(data, tmp_path, 6, staged=True, optimizer=optimizer)
    assert [size["2"] > 0 for size in sizes] == [False] * 3 + [True] * 3
    coarse = [size["4"] for size in sizes]
    assert len(set(coarse)) == 6  # the coarser ones go on learning


def test_without_stages_all_learn_at_once(data: Path, tmp_path: Path) -> None:
    assert all(size["2"] > 0 for size in sizes_of(data, tmp_path, 3))


def test_stages_change_nothing_where_there_is_one_score(data: Path, tmp_path: Path) -> None:
    staged, plain = (sizes_of(data, tmp_path, 3, staged=value, stride=4) for value in (True, False))
    assert staged == plain


@pytest.mark.parametrize(
    ("step", "waiting"), [(0, (16, 8)), (29, (16, 8)), (30, (8,)), (59, (8,)), (60, ()), (90, ()), (200, ())]
)
def test_stages_take_equal_shares(step: int, waiting: tuple[int, ...]) -> None:
    assert waiting_strides((32, 16, 8), step, 90) == waiting


def test_stages_of_other_pyramids() -> None:
    assert waiting_strides((32,), 0, 10) == ()
    assert waiting_strides((32, 16), 4, 10) == (16,)
    assert waiting_strides((32, 16), 5, 10) == ()
    # A run that is shorter than its stages begins them as soon as their share does.
    assert [waiting_strides((32, 16, 8), step, 2) for step in range(2)] == [(16, 8), (8,)]


@pytest.mark.parametrize("fail_step", [4, 7])
def test_a_staged_run_resumes_exactly(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_step: int
) -> None:
    """Twelve steps, of which the finer score learns the last six; interrupted before and after its stage begins."""
    whole = train(UNEXPORTED, settings(data, tmp_path / "whole", staged=True))
    config = settings(data, tmp_path / "part", staged=True, checkpoint_steps=1)
    real = SegmenterTask.training_step

    def fail(task: SegmenterTask, batch: Any, index: int) -> torch.Tensor:
        if task.global_step == fail_step:
            raise DisturbanceError
        return real(task, batch, index)

    monkeypatch.setattr(SegmenterTask, "training_step", fail)
    with pytest.raises(DisturbanceError):
        train(UNEXPORTED, config)
    found = checkpoint(tmp_path / "part" / "last.ckpt")
    assert found["global_step"] == fail_step
    # The averaged weights move with the others.
    assert bool(found["state_dict"]["network.score.2.weight"].any()) == (fail_step > 6)
    monkeypatch.undo()
    train(UNEXPORTED, config)
    assert_same_state(tmp_path / "part" / "last.ckpt", whole / "last.ckpt")


def test_an_ignored_class_has_no_share_in_the_weights(data: Path, tmp_path: Path) -> None:
    """Of three classes the first is ignored: the others weigh what they would without it."""
    form = MaskFormat(("void", "up", "down"), ignore=0)
    for kind, counts, expected in (
        ("balanced", [0, 300, 100], [1, 2 / 3, 2]),
        ("median", [0, 300, 100], [1, 1 / 3, 1]),
    ):
        weights = _weights(SegmentationData((), (), form, np.array(counts)), kind)
        assert weights.tolist() == pytest.approx(expected)


def test_upsampling_that_learns_learns(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path, learnable=True)
    parts = prepare_segmenter(config)(config)
    before = {name: value.clone() for name, value in parts.task.named_parameters()}
    run_steps(config, parts, 3)
    still = [name for name, value in parts.task.named_parameters() if torch.equal(value, before[name])]
    assert still == []


@pytest.mark.parametrize("changes", [{}, {"class_weights": "median", "dice_weight": 1.0, "focal_gamma": 2.0}], ids=str)
def test_a_batch_of_ignored_pixels_teaches_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    config = settings(data, tmp_path, label_smoothing=0.1, **changes)
    task = SegmenterTask(config, MaskFormat(("up", "down")), (), torch.tensor([1.0, 2.0]))
    logged: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(task, "log_dict", lambda values, **_: logged.update(values))
    loss = task.training_step((torch.rand(2, 3, 32, 32), torch.full((2, 32, 32), 255)), 0)
    loss.backward()
    assert loss.item() == 0
    assert all(not value.grad.any() for value in task.parameters() if value.grad is not None)
    assert "accuracy" not in logged
    assert all(torch.isfinite(value) for value in logged.values())


def test_logits_and_labels_meet_on_one_grid() -> None:
    labels = torch.arange(64).reshape(1, 8, 8)
    logits = torch.rand(1, 3, 2, 2)
    same, at = at_stride(logits, labels, 4)
    assert same is logits
    assert at.tolist() == [[[18, 22], [50, 54]]]  # the pixel just behind the middle of each cell
    finer, at = at_stride(logits, labels, 1)
    assert finer.shape == (1, 3, 8, 8)
    assert torch.equal(at, labels)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_logits_of_the_input_size_are_taken_at_the_pixels_of_the_labels(stride: int) -> None:
    labels = torch.arange(64).reshape(1, 8, 8)
    logits = torch.arange(64.0).reshape(1, 1, 8, 8).repeat(1, 3, 1, 1)
    taken, at = at_stride(logits, labels, stride)
    assert taken.shape == (1, 3, 8 // stride, 8 // stride)
    assert torch.equal(taken[:, 1].long(), at)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_stride": 3}, "loss_stride must divide the sides of crop_hw, 32 and 32, got 3; 1 always does"),
        ({"crop_hw": (30, 32)}, r"crop_hw must be >= 32"),
        (
            {"class_weights": "some"},
            "class_weights must be one of none, balanced, median, got 'some'; none is the default",
        ),
        ({"ignore": 256}, r"ignore must be in \[0, 255\], got 256; 255 is the default"),
        ({"scale_range": (2.0, 1.0)}, "scale_range must be two numbers"),
        ({"val_fraction": 0.0}, r"val_fraction must be in \(0, 1\), got 0.0; 0.2 is the default"),
        ({"val_fraction": 1.0}, r"val_fraction must be in \(0, 1\), got 1.0"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0; 0.0 is the default"),
        ({"colour": 1.5}, r"colour must be in \[0, 1\], got 1.5; 0.5 is the default"),
        ({"dice_weight": -1.0}, "dice_weight must be >= 0, got -1.0; 0.0 is the default"),
        ({"focal_gamma": float("nan")}, "focal_gamma must be >= 0, got nan"),
        ({"classes": ("a", "a")}, "classes must differ"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(tmp_path, tmp_path, **changes)


def test_the_crop_must_suit_the_backbone(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path, crop_hw=(34, 34))
    with pytest.raises(ConfigError, match="crop_hw must be multiples of 4, the last stride of lenet5_rgb, got"):
        prepare_segmenter(config)(config)
