"""``stride32 eval segmenter`` with an untrained network, whose own maps are the truth: figures, layouts, refusals."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_segmenter import LABELS, write_segmenter

from vision.cli.main import main
from vision.evaluation.segmentation import measure_segmenter
from vision.runtime.config import RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.registry import open_segmenter
from vision.training.datasets.mask_layouts import pairs_of
from vision.training.datasets.masks import MaskFormat
from vision.types import Frame

Evaluate = Callable[..., tuple[int, str, str]]
ENGINE = RuntimeConfig(device="cpu", engine="torch")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_segmenter(tmp_path_factory.mktemp("store") / "tiny").folder


@pytest.fixture(scope="module")
def data(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of five pictures whose masks are what the model finds; a row of each is ignored."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    segmenter = open_segmenter(SegmenterConfig(model=str(model)), ENGINE)
    for number in range(5):
        image = np.random.default_rng(number).integers(0, 256, (48, 64 + number, 3), np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        labels = segmenter.segment([Frame(image)])[0].labels.copy()
        labels[0] = 255
        Image.fromarray(labels).save(folder / "masks" / f"{number}.png")
    return folder


@pytest.fixture
def evaluate(model: Path, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Run the command in this process; returns the exit code and both streams."""

    def invoke(*words: object, name: object = model) -> tuple[int, str, str]:
        fixed = ("--device", "cpu", "--set", "runtime.engine=torch")
        with pytest.raises(SystemExit) as done:
            main(["eval", "segmenter", *map(str, (name, *words)), *fixed])
        streams = capsys.readouterr()
        return int(done.value.code or 0), streams.out, streams.err

    return invoke


def scores(answer: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = answer
    assert code == 0, err
    content: dict[str, Any] = json.loads(out)
    return content


def test_the_models_own_maps_are_without_fault(evaluate: Evaluate, data: Path, tmp_path: Path) -> None:
    found = scores(evaluate("--data", data, "--json", "--per-class", "--plots", tmp_path / "plots"))
    assert found["pictures"] == 5
    assert found["mIoU"] == found["accuracy"] == found["class_accuracy"] == found["border_f1"] == 1
    assert [row["name"] for row in found["classes"]] == list(LABELS)
    assert sum(row["pixels"] for row in found["classes"]) == 47 * sum(64 + number for number in range(5))
    assert np.trace(found["confusion"]) == np.sum(found["confusion"])
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["confusion.png"]
    code, _, err = evaluate("--data", data, "--plots", tmp_path / "plots")
    assert code == 1
    assert "--overwrite" in err


def test_the_command_measures_as_the_card_is_measured(
    evaluate: Evaluate, data: Path, model: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "turned"
    shutil.copytree(data, turned)
    for path in (turned / "masks").iterdir():
        with Image.open(path) as mask:
            Image.fromarray(np.roll(np.asarray(mask), 9, axis=1)).save(path)
    meter = measure_segmenter(
        open_segmenter(SegmenterConfig(model=str(model)), ENGINE), pairs_of(turned), MaskFormat(LABELS)
    )
    expected = meter.scores()
    assert 0 < expected["mIoU"] < 1
    found = scores(evaluate("--data", turned, "--json"))
    for name in ("mIoU", "accuracy", "class_accuracy", "border_f1", "pictures"):
        assert found[name] == expected[name]
    code, out, _ = evaluate("--data", turned, "--per-class")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["mIoU", f"{expected['mIoU']:.4f}"]
    assert lines[-len(LABELS)].split()[0] == LABELS[0]
    assert float(lines[-len(LABELS)].split()[3]) == pytest.approx(expected[f"iou/{LABELS[0]}"], abs=1e-4)


def test_parts_limit_and_holdout(evaluate: Evaluate, data: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    shutil.copytree(data, parts / "train")
    for folder in ("images", "masks"):
        (parts / "val" / folder).mkdir(parents=True)
        shutil.copy(data / folder / "3.png", parts / "val" / folder / "3.png")
    assert scores(evaluate("--data", parts, "--json"))["pictures"] == 1
    assert scores(evaluate("--data", parts / "train", "--json", "--limit", 2))["pictures"] == 2
    held = scores(evaluate("--data", data, "--json", "--holdout", 0.4))["pictures"]
    assert 1 <= held < 5


def test_classes_are_matched_by_name(evaluate: Evaluate, data: Path, tmp_path: Path) -> None:
    """Masks that number the classes otherwise give the same figures, once somebody names them."""
    order = ("tree", "road", "car", "sky")
    other = tmp_path / "other"
    shutil.copytree(data, other)
    value_of = np.array([order.index(name) for name in LABELS] + [255] * 252, np.uint8)
    for path in (other / "masks").iterdir():
        with Image.open(path) as mask:
            Image.fromarray(value_of[np.asarray(mask)]).save(path)
    assert scores(evaluate("--data", other, "--json"))["mIoU"] < 0.5
    assert scores(evaluate("--data", other, "--json", "--mask-classes", ",".join(order)))["mIoU"] == 1
    (other / "classes.txt").write_text("\n".join(order))
    assert scores(evaluate("--data", other, "--json"))["mIoU"] == 1
    # With some classes kept the rest of the masks is "other".
    kept = scores(evaluate("--data", other, "--json", "--per-class", "--set", "segmentation.classes=sky,road"))
    assert kept["mIoU"] == 1
    assert [row["name"] for row in kept["classes"]] == ["other", "sky", "road"]


def test_colours_and_another_ignored_value(evaluate: Evaluate, data: Path, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    painted = tmp_path / "painted"
    shutil.copytree(data, painted)
    for path in (painted / "masks").iterdir():
        with Image.open(path) as mask:
            Image.fromarray(colours[np.asarray(mask)]).save(path)
    rows = [f"{name},{','.join(map(str, colours[label]))}" for label, name in enumerate(LABELS)]
    (tmp_path / "palette.csv").write_text("\n".join([*rows, f"nothing,{','.join(map(str, colours[255]))}"]))
    options = ("--palette", tmp_path / "palette.csv", "--json")
    # The colour "nothing" is class 4, which is ignored by its number.
    assert scores(evaluate("--data", painted, *options, "--ignore", 4))["mIoU"] == 1


def test_only_plots_need_matplotlib(
    evaluate: Evaluate, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("vision.evaluation.plots", "vision.figures"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert scores(evaluate("--data", data, "--json", "--limit", 1))["pictures"] == 1
    code, _, err = evaluate("--data", data, "--plots", tmp_path / "plots")
    assert code != 0
    assert "matplotlib" in err
    assert "eval" in err
    assert not (tmp_path / "plots").exists()


def test_tiles(evaluate: Evaluate, data: Path, model: Path) -> None:
    tiled = open_segmenter(SegmenterConfig(model=str(model), tile=32, tile_overlap=0.5), ENGINE)
    expected = measure_segmenter(tiled, pairs_of(data), MaskFormat(LABELS)).scores()
    found = scores(evaluate("--data", data, "--json", "--tile", 32, "--overlap", 0.5))
    assert found["accuracy"] == expected["accuracy"] < 1


def test_refusals_are_said_before_the_first_picture(evaluate: Evaluate, data: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(data, wrong)
    Image.fromarray(np.full((48, 65), 9, np.uint8)).save(wrong / "masks" / "1.png")
    cases: list[tuple[tuple[object, ...], int, str]] = [
        (("--data", wrong), 1, "1.png must hold the classes 0 to 3"),
        (("--data", tmp_path / "absent"), 1, "found no folder"),
        (("--data", data, "--mask-classes", "a,b,c,d"), 1, "must have classes in common"),
        (("--data", data, "--palette", "vok"), 2, "palette must be index, voc, camvid"),
        (("--data", data, "--set", "segmentation.classes=sky"), 2, "nobody names those of"),
        (("--data", data, "--set", "segmentation.classes=skyy"), 2, "did you mean 'sky'"),
        (("--data", data, "--holdout", 1.5), 2, "--holdout"),
    ]
    for words, code, expected in cases:
        found, out, err = evaluate(*words)
        assert (found, out) == (code, ""), (words, err)
        assert expected in err
    found, _, err = evaluate("--data", data, name="person-lite0")
    assert found == 1
    assert "of kind segmenter" in err
