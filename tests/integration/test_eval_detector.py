"""``stride32 eval detector`` on a results file, which needs no model: numbers, tables, plots and refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]


def evaluate(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vision.cli", "eval", "detector", *map(str, args)]
    variables = {key: value for key, value in os.environ.items() if not key.startswith("STRIDE32_")}
    return subprocess.run(
        command, cwd=cwd, env={**variables, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures with a dog and a cat each; all dogs are found, every other cat, and one box is false."""
    folder = tmp_path_factory.mktemp("data")
    images, annotations, results = [], [], []
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((100, 200, 3), 90, np.uint8))
        images.append({"id": number + 1, "file_name": f"{number}.png"})
        for key, box in ((5, [10, 10, 40, 40]), (9, [100, 20, 50, 60])):
            annotations.append({"id": len(annotations) + 1, "image_id": number + 1, "category_id": key, "bbox": box})
            if key == 5 or number % 2:
                results.append({"image_id": number + 1, "category_id": key, "bbox": box, "score": 0.5 + number / 10})
    results.append({"image_id": 1, "category_id": 5, "bbox": [150, 50, 20, 20], "score": 0.4})
    categories = [{"id": 5, "name": "dog"}, {"id": 9, "name": "cat"}]
    (folder / "gt.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_everything_at_once(data: Path, tmp_path: Path) -> None:
    options = [
        "--per-class",
        "--voc",
        "--json",
        "--plots",
        tmp_path / "plots",
        "--save-predictions",
        tmp_path / "p.json",
    ]
    done = evaluate("--gt", "gt.json", "--results", "results.json", *options, cwd=data)
    assert done.returncode == 0, done.stderr
    scores: dict[str, Any] = json.loads(done.stdout)
    dog, cat = scores["classes"]
    assert (dog["name"], dog["objects"], dog["ap50"], dog["voc_area"]) == ("dog", 4, pytest.approx(1), 1)
    assert (cat["recall"], cat["ap50"], cat["voc_area"]) == (0.5, pytest.approx(51 / 101), 0.5)
    assert cat["voc_ap11"] == pytest.approx(6 / 11)
    assert scores["voc_area"] == 0.75
    assert scores["ap50"] == pytest.approx((1 + 51 / 101) / 2)
    assert scores["f1_conf"] == pytest.approx(0.5)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "precision-recall.png", "f1.png", "confusion.png", "predictions.png", "missed.png",
    }  # fmt: skip
    assert {row["category_id"] for row in json.loads((tmp_path / "p.json").read_text())} == {5, 9}


def test_lines_and_the_table_of_classes(data: Path) -> None:
    done = evaluate("--gt", "gt.json", "--results", "results.json", "--per-class", "--conf", "0.65", cwd=data)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["ap", "0.7525"]
    assert "score 0.6500" in done.stdout
    assert lines[-1].split()[:2] == ["cat", "4"]
    limited = evaluate("--gt", "gt.json", "--results", "results.json", "--limit", "1", "--json", cwd=data)
    assert json.loads(limited.stdout)["ar100"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--gt", "gt.json"), 2, ("either MODEL or --results", "neither")),
        (("person-lite0", "--gt", "gt.json", "--results", "results.json"), 2, ("both",)),
        (("--gt", "gt.json", "--results", "gt.json"), 1, ("ground truth belongs to --gt",)),
        (("--gt", "gt.json", "--results", "absent.json"), 1, ("absent.json", "check the path")),
        (("--gt", "gt.json", "--results", "results.json", "--save-predictions", "gt.json"), 1, ("--overwrite",)),
        (("--gt", "gt.json", "--results", "results.json", "--plots", "."), 1, ("holds files", "--overwrite")),
        (("--gt", "absent.json", "--results", "results.json"), 1, ("absent.json",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_refusals_are_one_line(data: Path, args: tuple[str, ...], code: int, words: tuple[str, ...]) -> None:
    done = evaluate(*args, cwd=data)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
