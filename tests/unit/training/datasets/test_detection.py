"""The one door: recognising formats, parts of COCO folders, category ids, and holding pictures out."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from detection_data import coco_object, voc_object, write_coco, write_voc, write_yolo

from vision.errors import InvalidInputError
from vision.training.datasets.detection import find_parts, read_annotations, read_detection_data, recognize_format
from vision.training.datasets.split import hold_out, name_share

BOX = (5, 5, 20, 20)


def test_formats_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    coco = write_coco(tmp_path / "coco" / "x.json", [coco_object(1, BOX)])
    voc = write_voc(tmp_path / "voc", {"a": [voc_object("car", BOX)]}, train=["a"])
    yolo = write_yolo(tmp_path / "yolo", {"a": "0 .5 .5 .5 .5"}, "names: [car]")
    for path in (coco, tmp_path / "coco"):
        assert recognize_format(path) == "coco"
    for path in (voc, voc / "ImageSets" / "Main" / "train.txt"):
        assert recognize_format(path) == "voc"
    for path in (yolo, yolo / "data.yaml"):
        assert recognize_format(path) == "yolo"


def test_nothing_known_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("")
    for path in (tmp_path, tmp_path / "notes.md"):
        with pytest.raises(InvalidInputError, match=r"looked for a COCO \.json .*VOC folder .*YOLO data\.yaml"):
            read_detection_data(path)
    with pytest.raises(InvalidInputError, match=r"found none at .*absent; check the path"):
        read_detection_data(tmp_path / "absent")


def test_a_coco_folder_has_parts(tmp_path: Path) -> None:
    write_coco(tmp_path / "train.json", [coco_object(1, BOX)], pictures=3)
    write_coco(tmp_path / "val.json", [coco_object(1, BOX)], pictures=2)
    (tmp_path / "settings.json").write_text("{}")
    assert find_parts(tmp_path) == ("train", "val")
    assert len(read_detection_data(tmp_path, part="train")[0]) == 3
    assert len(read_detection_data(tmp_path, part="val")[0]) == 2
    with pytest.raises(InvalidInputError, match=r"several COCO files \(train\.json and val\.json\); give one"):
        read_detection_data(tmp_path)


def test_pictures_in_the_layout_of_coco_are_found(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "train2017.json", [coco_object(1, BOX)])
    document = json.loads(path.read_text().replace("train2017/", ""))
    path = tmp_path / "annotations" / "instances_train2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps(document))
    images, _ = read_detection_data(path)
    assert images[0].path == tmp_path / "train2017" / "1.png"
    assert images[0].path.is_file()
    (tmp_path / "train2017.json").unlink()
    assert read_detection_data(tmp_path, part="train")[0][0].path == images[0].path


@pytest.mark.parametrize("ids", [(0, 1), (1, 90), (7, 3), (0, 90)], ids=str)
def test_category_ids_may_be_any_numbers(ids: tuple[int, int], tmp_path: Path) -> None:
    rows = [coco_object(1, BOX, ids[0]), coco_object(2, BOX, ids[1])]
    path = write_coco(tmp_path / "a.json", rows, categories={ids[0]: "car", ids[1]: "bus"})
    images, names = read_detection_data(path)
    assert names == (("car", "bus") if ids[0] < ids[1] else ("bus", "car"))
    assert [names[image.labels[0]] for image in images[:2]] == ["car", "bus"]


def test_crowds_and_areas_reach_evaluation(tmp_path: Path) -> None:
    rows = [coco_object(1, BOX, area=99.5), coco_object(1, (0, 0, 50, 30), iscrowd=1), coco_object(1, BOX)]
    image = read_detection_data(write_coco(tmp_path / "a.json", rows))[0][0]
    assert image.boxes.tolist() == [[5, 5, 25, 25]] * 2
    assert image.crowd_boxes is not None
    assert image.crowd_boxes.tolist() == [[0, 0, 50, 30]]
    assert image.areas is not None
    np.testing.assert_array_equal(image.areas, [99.5, np.nan])
    assert image.unmarked


def test_faulty_rows_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        coco_object(1, BOX),
        coco_object(9, BOX),
        coco_object(2, (1, 2, 3)),
        coco_object(2, (1, 2, float("inf"), 3)),
        coco_object(3, BOX, category_id=0),
    ]
    path = write_coco(tmp_path / "a.json", rows)
    document = json.loads(path.read_text())
    document["images"] += [{"id": 8}, {"id": 1, "file_name": "again.png"}]
    path.write_text(json.dumps(document))
    codes = [finding.code for finding in read_annotations(path).findings]
    assert codes == ["bad-row", "duplicate-id", "bad-row", "bad-row", "unknown-category", "no-such-image"]
    with caplog.at_level(logging.WARNING):
        images, _ = read_detection_data(path)
    assert [len(image.boxes) for image in images] == [1, 0, 0]
    assert [image.unmarked for image in images] == [False, True, True]
    assert "and 2 more like it" in caplog.text
    assert "they seem to count from 0, the categories from 1" in caplog.text


def test_held_out_pictures_are_chosen_by_name_alone() -> None:
    paths = [Path(f"somewhere/{number}.jpg") for number in range(500)]
    train, val = hold_out(paths, 0.2, lambda path: path)
    assert sorted(train + val) == sorted(paths)
    assert 70 <= len(val) <= 130
    moved = [Path("elsewhere") / path.name for path in paths[::2]]
    assert {path.name for path in hold_out(moved, 0.2, lambda path: path)[1]} == {path.name for path in val} & {
        path.name for path in moved
    }
    assert all((name_share(path.name) < 0.2) == (path in val) for path in paths)


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_neither_side_is_empty(fraction: float) -> None:
    paths = [Path(folder) / "image.jpg" for folder in "abc"]
    train, val = hold_out(paths, fraction, lambda path: path)
    assert train
    assert val
    with pytest.raises(InvalidInputError, match="at least 2, got 1"):
        hold_out(paths[:1], fraction, lambda path: path)
