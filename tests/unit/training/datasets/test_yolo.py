"""Reading YOLO: layouts, shares of the upright picture, polygons, and lines that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detection_data import write_picture, write_yolo

from vision.errors import InvalidInputError
from vision.training.datasets.detection import find_parts, read_detection_data
from vision.training.datasets.yolo import read_yolo_annotations

NAMES = "names: [car, bus]\n"
BOX = "1 0.5 0.5 0.5 0.25\n"  # of 60 x 40: 15, 15 to 45, 25


@pytest.mark.parametrize(
    "names", ["names: [car, bus]", "names: {0: car, 1: bus}", "names:\n  1: bus\n  0: car\nnc: 2"], ids=repr
)
def test_shares_become_pixels(names: str, tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": BOX, "b": "", "c": "0 .5 .5 1 1\n\n" + BOX}, names)
    images, class_names = read_detection_data(tmp_path / "data.yaml")
    assert class_names == ("car", "bus")
    assert images[0].boxes.tolist() == [[15, 15, 45, 25]]
    assert images[0].labels.tolist() == [1]
    assert (images[1].boxes.shape, images[1].unmarked) == ((0, 4), False)
    assert images[2].boxes.tolist() == [[0, 0, 60, 40], [15, 15, 45, 25]]
    assert [image.image_id for image in images] == [1, 2, 3]


def test_shares_are_of_the_upright_picture(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": "0 .5 .5 1 1\n"}, NAMES, suffix=".jpg")
    write_picture(tmp_path / "images" / "a.jpg", orientation=6)
    assert read_detection_data(tmp_path)[0][0].boxes.tolist() == [[0, 0, 40, 60]]


LAYOUTS = {
    "folders": "train: images/train\nval: images/val\n",
    "path": "path: .\ntrain: images/train\nval: images/val\n",
    "a path of another machine": "path: /home/somebody/set\ntrain: images/train\nval: images/val\n",
    "a folder too high": "train: ../images/train\nval: ../images/val\n",
    "valid": "train: images/train\nvalid: images/val\n",
    "list files": "train: train.txt\nval: val.txt\n",
    "several": "train: [images/train]\nval: [images/val, images/absent]\n",
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_parts_of_data_yaml(text: str, tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "set", {"train/a": BOX, "train/b": "", "val/c": BOX}, NAMES + text)
    (root / "train.txt").write_text("./images/train/a.png\nimages/train/b.png\n")
    (root / "val.txt").write_text("images/val/c.png\n")
    assert find_parts(root) == ("train", "val")
    assert [image.path.stem for image in read_detection_data(root, part="train")[0]] == ["a", "b"]
    assert [image.path.stem for image in read_detection_data(root / "data.yaml", part="val")[0]] == ["c"]
    assert len(read_detection_data(root)[0]) == 3


def test_folders_without_data_yaml(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "parts", {"train/a": BOX, "val/b": BOX})
    (root / "classes.txt").write_text("car\nbus\n")
    assert find_parts(root) == ("train", "val")
    assert [image.labels.tolist() for image in read_detection_data(root, part="val")[0]] == [[1]]
    flat = tmp_path / "flat"
    write_picture(flat / "a.png")
    (flat / "a.txt").write_text(BOX)
    (flat / "classes.txt").write_text("car\nbus\n")
    assert read_detection_data(flat)[0][0].boxes.tolist() == [[15, 15, 45, 25]]
    (flat / "some.txt").write_text("a.png\n")
    assert read_detection_data(flat / "some.txt")[1] == ("car", "bus")


def test_polygons_scores_and_key_points(tmp_path: Path) -> None:
    text = "0 .25 .25 .75 .5 .5 .75\n0 .5 .5 .5 .5 .9\n"
    write_yolo(tmp_path, {"a": text}, NAMES)
    boxes = read_detection_data(tmp_path)[0][0].boxes
    np.testing.assert_allclose(boxes, [[15, 10, 45, 30], [15, 10, 45, 30]])
    write_yolo(tmp_path, {"a": "0 .5 .5 .5 .5 .1 .1 2 .2 .2 2\n"}, NAMES + "kpt_shape: [2, 3]\n")
    assert read_detection_data(tmp_path)[0][0].boxes.tolist() == [[15, 10, 45, 30]]


BAD_LINES = {
    "pixels": ("0 30 20 10 10", "not-normalized", "seem to be pixels"),
    "a class too many": ("2 .5 .5 .1 .1", "unknown-category", "none of the 2 classes of data.yaml, 0 to 1"),
    "half a class": ("0.5 .5 .5 .1 .1", "unknown-category", "none of the 2 classes"),
    "four numbers": ("0 .5 .5 .1", "bad-row", "class cx cy w h"),
    "a word": ("car .5 .5 .1 .1", "bad-row", "no number"),
    "nan": ("0 nan .5 .1 .1", "bad-row", "class cx cy w h"),
    "half a point": ("0 .1 .1 .2 .2 .3 .3 .4", "bad-row", "pairs of x and y"),
}


@pytest.mark.parametrize(("line", "code", "words"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_reported_and_the_others_are_read(line: str, code: str, words: str, tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": f"{BOX}{line}\n"}, NAMES)
    data = read_yolo_annotations(tmp_path)
    (finding,) = data.findings
    assert (finding.code, finding.file) == (code, tmp_path / "labels" / "a.txt")
    assert finding.found.startswith("line 2: ")
    assert words in finding.found
    assert (len(data.pictures[0].rows), data.pictures[0].unusable) == (1, 1)


def test_all_lines_in_pixels_are_one_mistake(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": "0 30 20 10 10\n", "b": "0 30 20 10 10\n"}, NAMES)
    with pytest.raises(InvalidInputError, match=r"labels/a\.txt: line 1: .*pixels; divide cx and w by") as caught:
        read_detection_data(tmp_path)
    assert caught.value.path == tmp_path / "labels" / "a.txt"


def test_a_picture_without_size_gives_no_boxes(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": BOX, "b": BOX}, NAMES)
    (tmp_path / "images" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    pictures = read_yolo_annotations(tmp_path).pictures
    assert [(len(picture.rows), picture.unusable) for picture in pictures] == [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("names: []", "must list class names"),
        ("names: {1: car}", "number its names from 0"),
        (NAMES + "train: images/absent", "found none in .*absent"),
        ("names: [car", "cannot parse it"),
        ("- a\n", "must list class names"),
    ],
)
def test_bad_settings(settings: str, words: str, tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": BOX}, settings)
    with pytest.raises(InvalidInputError, match=words):
        read_detection_data(tmp_path / "data.yaml")


def test_labels_without_class_names(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": BOX})
    with pytest.raises(InvalidInputError, match=r"must name the classes .*data\.yaml .*or classes\.txt"):
        read_detection_data(tmp_path)
