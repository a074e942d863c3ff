"""Round trips through the formats, what each has no place for, and outputs that exist."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from detection_data import coco_object, voc_object, write_coco, write_picture, write_voc, write_yolo

from vision.errors import InvalidInputError, OutputExistsError
from vision.training.convert.conversion import ConversionSummary, convert_data
from vision.training.convert.placement import relative_path
from vision.training.datasets.annotations import DetectionAnnotations, Format
from vision.training.datasets.detection import find_parts, read_annotations, read_detection_data

FORMATS: tuple[Format, ...] = ("coco", "voc", "yolo")
OBJECTS = [
    coco_object(1, (0, 0, 60, 40)),
    coco_object(1, (3.25, 4.125, 10.5, 7.75), 2),
    coco_object(2, (59, 39, 1, 1), 2, difficult=1),
    coco_object(2, (10, 10, 20, 20), 1, truncated=1),
]
# What each format can hold: VOC and COCO write 0.001 pixel, YOLO 1e-7 of 60 pixels.
TOLERANCE = 0.002


def parts_of(path: Path) -> dict[str, DetectionAnnotations]:
    parts = find_parts(path)
    return (
        {part: read_annotations(path, part) for part in parts} if len(parts) > 1 else {"data": read_annotations(path)}
    )


def convert(path: Path, target: Path, kind: Format, **options: object) -> ConversionSummary:
    return convert_data(parts_of(path), target, kind, **options)  # type: ignore[arg-type]


def contents(path: Path) -> dict[str, list[tuple[str, list[float]]]]:
    """Return class name and box of each object by the stem of the picture."""
    data = read_annotations(path)
    return {
        picture.path.stem: sorted((data.class_names[row.label], list(row.box)) for row in picture.rows)
        for picture in data.pictures
    }


def assert_equal(
    found: dict[str, list[tuple[str, list[float]]]], expected: dict[str, list[tuple[str, list[float]]]]
) -> None:
    assert found.keys() == expected.keys()
    for stem, rows in expected.items():
        assert [name for name, _ in found[stem]] == [name for name, _ in rows]
        np.testing.assert_allclose([box for _, box in found[stem]], [box for _, box in rows], atol=TOLERANCE)


@pytest.mark.parametrize("copy", [False, True], ids=["linked", "copied"])
@pytest.mark.parametrize("second", FORMATS)
@pytest.mark.parametrize("first", FORMATS)
def test_there_and_back(first: Format, second: Format, copy: bool, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    source = write_coco(tmp_path / "set" / "a.json", OBJECTS)
    expected = contents(source)
    one = convert(source, tmp_path / "deep" / "one", first, copy=copy).entry
    two = convert(one, tmp_path / "two", second, copy=copy).entry
    assert_equal(contents(one), expected)
    assert_equal(contents(two), expected)
    back = convert(two, tmp_path / "back", "coco", copy=copy).entry
    assert_equal(contents(back), expected)
    assert all(picture.path.is_file() for picture in read_annotations(back).pictures)
    if copy:
        assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_flags_and_crowds(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "a.json", [*OBJECTS, coco_object(3, (0, 0, 30, 30), iscrowd=1)])
    for kind, target in (("voc", "b"), ("coco", "c")):
        source = convert(source, tmp_path / target, kind).entry  # type: ignore[arg-type]
        rows = [row for picture in read_annotations(source).pictures for row in picture.rows]
        assert [row.crowd for row in rows] == [False] * 4 + [True]
        assert [row.difficult for row in rows] == [False, False, True, False, False]
        assert [row.truncated for row in rows] == [False, False, False, True, False]
    summary = convert(source, tmp_path / "d", "yolo")
    assert summary.left_out == {
        "crowd regions, for which YOLO has no place": 1,
        "flags difficult and truncated, for which YOLO has no place": 2,
    }
    assert "left out: 1 crowd regions, for which YOLO has no place" in list(summary.lines())
    assert summary.objects == {"data": 4}


def test_coco_keeps_its_own_fields(tmp_path: Path) -> None:
    outline = [[5, 5, 20, 5, 20, 20]]
    rows = [coco_object(1, (5, 5, 15, 15), 90, segmentation=outline, area=112.5)]
    path = write_coco(tmp_path / "a.json", rows, categories={0: "car", 90: "bus"})
    document = json.loads(path.read_text())
    document["info"] = {"year": 2024}
    document["images"][0] |= {"license": 3, "id": 77}
    document["annotations"][0]["image_id"] = 77
    path.write_text(json.dumps(document))
    written = json.loads(convert(path, tmp_path / "b", "coco").entry.read_text())
    assert written["info"] == {"year": 2024}
    assert written["categories"] == [{"id": 0, "name": "car"}, {"id": 90, "name": "bus"}]
    assert written["images"][0]["license"] == 3
    assert written["images"][0]["file_name"] == "../a/1.png"
    (row,) = written["annotations"]
    assert (row["image_id"], row["category_id"], row["area"], row["segmentation"]) == (77, 90, 112.5, outline)


def test_boxes_are_cut_where_the_format_asks_for_it(tmp_path: Path) -> None:
    rows = [coco_object(1, (-5, -5, 20, 20)), coco_object(1, (70, 5, 5, 5)), coco_object(1, (5, 5, 0, 5))]
    source = write_coco(tmp_path / "a.json", rows)
    for kind in ("voc", "yolo"):
        summary = convert(source, tmp_path / kind, kind)  # type: ignore[arg-type]
        image = read_detection_data(summary.entry)[0][0]
        np.testing.assert_allclose(image.boxes, [[0, 0, 15, 15]], atol=TOLERANCE)
        assert summary.left_out["boxes outside the picture"] == 1
        assert summary.left_out["boxes without area"] == 1
    kept = read_detection_data(convert(source, tmp_path / "coco", "coco").entry)[0][0]
    assert kept.boxes.tolist() == [[-5, -5, 15, 15], [70, 5, 75, 10]]


@pytest.mark.parametrize("kind", FORMATS)
def test_parts_are_kept_or_made(kind: Format, tmp_path: Path) -> None:
    box = [voc_object("car", (5, 5, 20, 20))]
    write_voc(tmp_path / "voc", {name: box for name in "abcdefgh"}, train=list("abcdef"), val=list("gh"))
    kept = convert(tmp_path / "voc", tmp_path / "kept", kind)
    assert kept.pictures == {"train": 6, "val": 2}
    folder = kept.entry.parent if kind == "coco" else kept.entry
    assert find_parts(folder) == ("train", "val")
    assert {image.path.stem for image in read_detection_data(folder, part="val")[0]} == {"g", "h"}
    made = convert(tmp_path / "voc", tmp_path / "made", kind, val_fraction=0.5)
    assert sum(made.pictures.values()) == 8
    assert min(made.pictures.values()) >= 1


def test_pictures_of_one_name(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "set", {"a/1": "0 .5 .5 .5 .5", "b/1": "0 .5 .5 .1 .1", "b/1 x": ""}, "names: [car]")
    for kind in FORMATS:
        entry = convert(root, tmp_path / kind, kind, copy=True).entry
        images, _ = read_detection_data(entry)
        assert sorted(image.path.name for image in images) == ["1.png", "1_x.png", "b_1.png"]
        widths = {image.path.stem: (image.boxes[:, 2] - image.boxes[:, 0]).round().tolist() for image in images}
        assert widths == {"1": [30], "b_1": [6], "1_x": []}


def test_turned_pictures_keep_their_boxes(tmp_path: Path) -> None:
    write_yolo(tmp_path / "yolo", {"a": "0 .5 .25 .5 .5", "b": ""}, "names: [car]", suffix=".jpg")
    write_picture(tmp_path / "yolo" / "images" / "a.jpg", orientation=6)
    entry = convert(tmp_path / "yolo", tmp_path / "coco", "coco").entry
    row = json.loads(entry.read_text())["images"][0]
    assert (row["width"], row["height"]) == (40, 60)
    assert read_detection_data(entry)[0][0].boxes.tolist() == [[10, 0, 30, 30]]


def test_unreadable_pictures_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_coco(tmp_path / "a.json", OBJECTS)
    (tmp_path / "a" / "2.png").write_bytes(b"text")
    with caplog.at_level(logging.WARNING):
        summary = convert(source, tmp_path / "b", "yolo")
    assert (summary.skipped, summary.pictures) == (1, {"data": 2})
    assert "a/2.png must be a JPEG" in caplog.text
    for number in (1, 3):
        (tmp_path / "a" / f"{number}.png").unlink()
    with pytest.raises(InvalidInputError, match="none of the pictures"):
        convert(source, tmp_path / "c", "yolo")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".c", "c"))]


def test_outputs_that_exist_are_refused(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "a.json", OBJECTS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for target in (tmp_path / "full", source):
        with pytest.raises(OutputExistsError, match="must be new, it exists already"):
            convert(source, target, "voc")
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert convert(source, tmp_path / "empty", "voc").pictures == {"data": 3}


def test_relative_paths_go_through_links(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    (tmp_path / "real" / "deep" / "a.png").touch()
    assert relative_path(tmp_path / "link" / "a.png", tmp_path / "link") == "a.png"
    assert relative_path(tmp_path / "link" / "a.png", tmp_path) == "real/deep/a.png"
