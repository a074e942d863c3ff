"""Plots and error pictures: what they show, and names from outside that must not break them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.evaluation.curves import Threshold
from vision.evaluation.detection import score_detections
from vision.evaluation.drawings import draw_pictures, draw_plots
from vision.evaluation.matching import match_detections
from vision.evaluation.pictures import error_sheet, false_detections, missed_objects, sample_sheet
from vision.evaluation.plots import confusion_figure, f1_figure, precision_recall_figure
from vision.figures import DARK, LIGHT, png_bytes, save_figure
from vision.training.datasets.pictures import AnnotatedImage
from vision.types import Detections

# What a user may call a class: a formula, a hidden label, markup, another script, much too long.
NAMES = ("$x_1$", "_hidden", "<b>&", "人", "a name that never seems to come to its end")


def scene(tmp_path: Path, name: str = "1") -> tuple[AnnotatedImage, dict[int, Detections]]:
    """Two objects of class 0 and one of class 1; one found, one found twice, one taken for another class."""
    boxes = np.array([[10, 10, 50, 50], [60, 10, 100, 50], [110, 10, 150, 50]], np.float32)
    path = tmp_path / f"{name}.png"
    cv2.imwrite(str(path), np.full((80, 200, 3), 90, np.uint8))
    image = AnnotatedImage(path, 1, boxes, np.array([0, 0, 1]))
    found = np.concatenate([boxes[[0, 0, 2]], [[160, 20, 190, 60], [60, 40, 100, 80]]]).astype(np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    return image, {1: Detections(found, scores, np.array([0, 0, 0, 0, 0]))}


def test_errors_are_named(tmp_path: Path) -> None:
    image, found = scene(tmp_path)
    matches = match_detections([image], found, 2)
    errors = false_detections([image], found, matches, conf=0.1)
    assert [(error.kind, round(error.score or 0, 1)) for error in errors] == [
        ("duplicate", 0.8), ("wrong class", 0.7), ("background", 0.6), ("loose box", 0.5),
    ]  # fmt: skip
    assert len(false_detections([image], found, matches, conf=0.65)) == 2
    missed = missed_objects([image], matches, conf=0.1)
    assert [(error.label, error.box[0]) for error in missed] == [(0, 60), (1, 110)]
    assert missed_objects([image], matches, conf=0.95)[0].kind == "missed"


def test_the_surest_error_of_each_picture_comes_first(tmp_path: Path) -> None:
    image, found = scene(tmp_path)
    other = replace(image, image_id=2)
    both = {1: found[1], 2: found[1][np.array([3])]}
    errors = false_detections([image, other], both, match_detections([image, other], both, 2), conf=0)
    one_row = error_sheet(errors, NAMES, count=2, columns=2)
    assert one_row is not None
    assert one_row.shape[1] > 2 * 240
    assert error_sheet([], NAMES) is None


def test_boxes_at_every_border_can_be_shown(tmp_path: Path) -> None:
    image, _ = scene(tmp_path)
    boxes = np.array([[0, 0, 200, 80], [0, 0, 4, 4], [196, 76, 200, 80], [0, 30, 200, 32]], np.float32)
    image = replace(image, boxes=boxes, labels=np.zeros(4, np.int64))
    sheet = error_sheet(missed_objects([image], match_detections([image], {}, 1), conf=0), NAMES)
    assert sheet is not None
    assert sheet.dtype == np.uint8


def test_all_drawings_with_names_of_every_kind(tmp_path: Path) -> None:
    image, found = scene(tmp_path)
    scores = score_detections([image], found, NAMES, conf=0.3)
    plots = draw_plots([image], found, NAMES, scores, DARK)
    assert set(plots) == {"precision-recall", "f1", "confusion"}
    for figure in plots.values():
        assert png_bytes(figure).startswith(b"\x89PNG")
    assert set(draw_pictures([image], found, NAMES, scores)) == {"predictions", "false", "missed"}


def test_pictures_that_are_gone_cost_the_pictures_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image, found = scene(tmp_path)
    image.path.unlink()
    assert draw_pictures([image], found, NAMES, score_detections([image], found, NAMES)) == {}
    assert "no pictures are drawn" in caplog.text


def test_empty_data_gives_empty_plots(tmp_path: Path) -> None:
    image = replace(scene(tmp_path)[0], boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64))
    for images in ([], [image]):
        scores = score_detections(images, {}, NAMES[:2])
        for figure in draw_plots(images, {}, NAMES[:2], scores).values():
            png_bytes(figure)
    assert sample_sheet([], {}, NAMES, conf=0) is None
    assert sample_sheet([image], {}, NAMES, conf=0) is not None


def test_the_curve_names_few_of_many_classes() -> None:
    names = [f"class {index}" for index in range(20)]
    boxes = np.array([[0, 0, 9, 9]], np.float32)
    images = [AnnotatedImage(Path(f"{i}.png"), i, boxes, np.array([i])) for i in range(20)]
    found = {i: Detections(boxes, np.array([0.5]), np.array([i])) for i in range(0, 20, 2)}
    matches = match_detections(images, found, 20)
    figure = precision_recall_figure(matches, names, [1.0 - i % 2 for i in range(20)])
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(texts) == 7
    assert texts[-1].startswith("mean of 20  0.500")
    f1_figure(matches, names, Threshold(0.5, 0.5))


def test_the_confusion_of_many_classes_has_no_numbers_in_its_cells() -> None:
    few = confusion_figure(np.ones((4, 4), np.int64), ["a", "b", "c"])
    assert len(few.axes[0].texts) == 15  # all but background as background
    many = confusion_figure(np.eye(40, dtype=np.int64), [str(i) for i in range(40)], background=False)
    assert not many.axes[0].texts


def test_the_confusion_of_pixels_is_written_in_percent() -> None:
    matrix = np.array([[9_000_000, 1_000_000], [4_000, 999_996_000]], np.int64)
    two = confusion_figure(matrix, ["a", "b"], background=False, counts=False)
    assert [text.get_text() for text in two.axes[0].texts] == ["90", "10", "", "100"]
    voc = confusion_figure(np.eye(21, dtype=np.int64), list("abcdefghijklmnopqrstu"), background=False, counts=False)
    assert [text.get_text() for text in voc.axes[0].texts].count("100") == 21


def test_the_same_figure_has_the_same_bytes_and_is_written_whole(tmp_path: Path) -> None:
    def draw() -> object:
        return confusion_figure(np.eye(3, dtype=np.int64), ["a", "b"], LIGHT)

    assert png_bytes(draw()) == png_bytes(draw())
    path = save_figure(draw(), tmp_path / "plots" / "confusion.png")
    assert path.read_bytes() == png_bytes(draw())
    assert [item.name for item in path.parent.iterdir()] == ["confusion.png"]
    with pytest.raises(InvalidInputError):
        save_figure(draw(), tmp_path)
