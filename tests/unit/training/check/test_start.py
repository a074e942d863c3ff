"""Wrong data at the start of a training: each mistake names the file and the remedy."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detection_data import coco_object, voc_object, write_coco, write_picture, write_voc, write_yolo
from PIL import Image

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.errors import InvalidInputError
from vision.training.config import DetectorTrainingConfig
from vision.training.datasets.augmented import DetectionDataset
from vision.training.datasets.training_data import TrainingData, load_training_data, load_validation_images

BOX = (5, 5, 20, 20)
OBJECTS = [coco_object(number, BOX, 1 + number % 2) for number in range(1, 9)]


def load(train: Path, val: Path | None = None, **fields: Any) -> TrainingData:
    return load_training_data(DetectorTrainingConfig(train_data=train, val_data=val, **fields))


def test_without_val_data_pictures_are_held_out_and_found_again_by_the_exporter(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "a.json", OBJECTS, pictures=8)
    data = load(path)
    assert data.class_names == ("car", "bus")
    assert len(data.train) + len(data.val) == 8
    assert not {image.path for image in data.train} & {image.path for image in data.val}
    again = load_validation_images(DetectorTrainingConfig(train_data=path), data.class_names)
    assert [image.path for image in again] == [image.path for image in data.val]


def test_the_val_part_of_the_data_comes_before_holding_out(tmp_path: Path) -> None:
    rows = [voc_object("car", BOX)]
    write_voc(tmp_path, {"a": rows, "b": rows, "c": rows}, train=["a", "b"], val=["c"])
    data = load(tmp_path)
    assert [image.path.stem for image in data.train] == ["a", "b"]
    assert [image.path.stem for image in data.val] == ["c"]


def missing(folder: Path) -> Path:
    path = write_coco(folder / "a.json", OBJECTS, pictures=8)
    shutil.rmtree(folder / "a")
    return path


def zero_id(folder: Path) -> Path:
    return write_coco(folder / "a.json", [*OBJECTS, coco_object(1, BOX, category_id=0)], pictures=8)


def unit_boxes(folder: Path) -> Path:
    rows = [{**row, "bbox": [0.1, 0.1, 0.5, 0.5]} for row in OBJECTS]
    return write_coco(folder / "a.json", rows, pictures=8)


def unit_boxes_voc(folder: Path) -> Path:
    return write_voc(folder, {name: [voc_object("car", (0.1, 0.1, 0.5, 0.5))] for name in "ab"})


def pixel_boxes_yolo(folder: Path) -> Path:
    return write_yolo(folder, {"a": "0 30 20 10 10", "b": ""}, "names: [car]")


def no_annotations(folder: Path) -> Path:
    return write_coco(folder / "a.json", [], pictures=2)


def empty_labels(folder: Path) -> Path:
    return write_yolo(folder, {"a": "", "b": "\n"}, "names: [car]")


def no_pictures(folder: Path) -> Path:
    return write_coco(folder / "a.json", [], pictures=0)


def masks(folder: Path) -> Path:
    """Pictures replaced by palette masks of three values."""
    path = write_coco(folder / "a.json", OBJECTS, pictures=8)
    values = np.zeros((40, 60), np.uint8)
    values[10:30, 10:30], values[30:, :] = 1, 2
    for picture in (folder / "a").iterdir():
        mask = Image.fromarray(values)
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        mask.save(picture)
    return path


WRONG: dict[str, tuple[Callable[[Path], Path], str, str, str]] = {
    "missing pictures": (missing, "a/1.png", "none of the 8 pictures", "put the pictures there, or correct the names"),
    "category id 0": (zero_id, "a.json", "does not list: 0; listed: 1 to 2", "correct the ids of the annotations"),
    "boxes in 0..1": (unit_boxes, "a.json", "lie in 0..1", "multiply x and width by the picture's width"),
    "boxes in 0..1, VOC": (unit_boxes_voc, "a.xml", "lie in 0..1", "multiply x and width"),
    "pixels in YOLO": (pixel_boxes_yolo, "a.txt", "the numbers seem to be pixels", "divide cx and w by"),
    "empty annotations": (no_annotations, "a.json", "none of 2 pictures has an object", "annotate the pictures"),
    "empty label files": (empty_labels, "data.yaml", "none of 2 pictures has an object", "annotate the pictures"),
    "no pictures": (no_pictures, "a.json", "must list pictures", "give the file of the annotated pictures"),
    "mask palette": (masks, "a/1.png", "an index mask (3 values", "name the folder of the RGB pictures"),
}


@pytest.mark.parametrize(("make", "file", "found", "fix"), WRONG.values(), ids=WRONG.keys())
def test_data_that_cannot_be_learned_from_stops_the_training(
    make: Callable[[Path], Path], file: str, found: str, fix: str, tmp_path: Path
) -> None:
    path = make(tmp_path)
    with pytest.raises(InvalidInputError) as caught:
        load(path)
    assert caught.value.path is not None
    assert caught.value.path.as_posix().endswith(file)
    for words in (str(caught.value.path), found, fix):
        assert words in str(caught.value)


def test_the_same_mistakes_in_val_data(tmp_path: Path) -> None:
    train = write_coco(tmp_path / "train.json", OBJECTS, pictures=8)
    with pytest.raises(InvalidInputError, match="lie in 0"):
        load(train, unit_boxes(tmp_path))


def test_a_class_that_was_asked_for_has_objects(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "a.json", [coco_object(1, BOX)], pictures=2)
    with pytest.raises(InvalidInputError, match=r"objects of class 'bus', found none.*; leave it out of classes"):
        load(path, classes=("car", "bus"))


def test_single_faults_are_told_and_the_rest_is_learned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        *OBJECTS[:5],
        coco_object(6, (0.1, 0.1, 0.5, 0.5)),
        coco_object(1, (500, 0, 9, 9)),
        coco_object(2, (1, 1, 0, 9)),
    ]
    path = write_coco(tmp_path / "a.json", rows, pictures=8)
    (tmp_path / "a" / "8.png").unlink()
    (tmp_path / "a" / "7.png").write_bytes((tmp_path / "a" / "7.png").read_bytes()[:-20])
    with caplog.at_level(logging.INFO, logger="vision"):
        data = load(path)
    assert len(data.train) + len(data.val) == 6
    assert "a/8.png: not a readable picture" in caplog.text
    assert "a/7.png is cut short" in caplog.text
    for words in ("lie in 0..1", "outside the picture of 60 x 40", "without area"):
        assert f"{path}: " in caplog.text
        assert words in caplog.text
    by_name = {image.path.name: image for image in data.train + data.val}
    assert by_name["1.png"].boxes.tolist() == [[5, 5, 25, 25]]
    assert by_name["2.png"].unmarked


def damage(path: Path) -> None:
    """Overwrite bytes inside the file, whose head and end stay as they are."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(40) + data[len(data) // 2 + 40 :])


def test_a_picture_that_decoding_alone_shows_to_be_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = write_coco(tmp_path / "train.json", OBJECTS, pictures=4)
    val = write_coco(tmp_path / "val.json", OBJECTS[:2], pictures=2, first_seed=50)
    damage(tmp_path / "train" / "2.png")
    damage(tmp_path / "val" / "2.png")
    config = DetectorTrainingConfig(train_data=train, val_data=val, image_size=64)
    with caplog.at_level(logging.WARNING):
        data = load_training_data(config)
        assert [image.path.name for image in data.val] == ["1.png"]
        assert "val/2.png cannot be read" in caplog.text
        dataset = DetectionDataset(data.train, config, TENSORFLOW_NORMALIZATION)
        image, target = dataset[1]
        dataset[5]
    assert image.shape == (3, 64, 64)
    assert len(target.boxes) == 0
    assert caplog.text.count("train/2.png cannot be read") == 1
    damage(tmp_path / "val" / "1.png")
    with pytest.raises(InvalidInputError, match="none of 2 validation pictures can be decoded"):
        load_training_data(config)


def test_91_ids_with_gaps_are_mapped_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [coco_object(number, BOX, 1 if number % 2 else 90) for number in range(1, 5)]
    path = write_coco(tmp_path / "a.json", rows, pictures=4, categories={1: "person", 90: "toothbrush"})
    with caplog.at_level(logging.INFO, logger="vision"):
        assert load(path).class_names == ("person", "toothbrush")
    assert f"{path}: category ids go from 1 to 90 with 88 gaps and become labels 0 to 1" in caplog.text


@pytest.mark.parametrize("by", ["path", "bytes"])
def test_validation_on_training_pictures_is_told(by: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = write_coco(tmp_path / "train.json", OBJECTS, pictures=4)
    if by == "path":
        val = tmp_path / "val.json"
        document = json.loads(train.read_text())
        document["images"] = document["images"][:2]
        document["annotations"] = document["annotations"][:2]
        val.write_text(json.dumps(document))
    else:
        val = write_coco(tmp_path / "val.json", OBJECTS[:2], pictures=2)
    with caplog.at_level(logging.WARNING):
        load(train, val)
    assert "2 of 2 validation pictures are training pictures too" in caplog.text
    assert "the measured AP will be too good" in caplog.text


def test_other_pictures_of_equal_size_are_not_shared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = write_coco(tmp_path / "train.json", OBJECTS, pictures=4)
    val = write_coco(tmp_path / "val.json", OBJECTS[:2], pictures=2, first_seed=50)
    for folder in (tmp_path / "train", tmp_path / "val"):
        for path in folder.iterdir():
            Image.open(path).save(path, "BMP")
    with caplog.at_level(logging.WARNING):
        load(train, val)
    assert "training pictures too" not in caplog.text


def test_grey_pictures_are_no_masks(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "a.json", OBJECTS, pictures=4)
    for number, picture in enumerate((tmp_path / "a").iterdir()):
        write_picture(picture, number)
        Image.open(picture).convert("L").save(picture)
    assert len(load(path).train) > 0
