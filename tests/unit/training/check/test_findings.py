"""Each kind of finding is found where it is, and only there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detection_data import (
    HEIGHT,
    WIDTH,
    coco_object,
    voc_object,
    voc_xml,
    write_coco,
    write_picture,
    write_voc,
    write_yolo,
)
from PIL import Image

from vision.training.check.report import CheckReport, check_data, count_pictures, format_report
from vision.training.check.sheet import write_sheet
from vision.training.datasets.annotations import DetectionAnnotations
from vision.training.datasets.detection import find_parts, read_annotations

BOX = (5, 5, 20, 20)
# Enough of each class, with a box that is no duplicate of another.
GOOD = [coco_object(number, (5 + number, 5, 20, 20), 1 + number % 2) for number in range(1, 4)] + [
    coco_object(1, (2 * column, 25, 10, 10), 1 + column % 2) for column in range(1, 22)
]


def check(path: Path, val: Path | None = None) -> CheckReport:
    parts: dict[str, DetectionAnnotations] = (
        {"data": read_annotations(path)} if val is None and not find_parts(path) else {}
    )
    if val is not None:
        parts = {"train": read_annotations(path), "val": read_annotations(val)}
    elif not parts:
        parts = {part: read_annotations(path, part) for part in find_parts(path)}
    return check_data(parts, threads=1)


def codes(report: CheckReport) -> set[str]:
    return {finding.code for finding in report.findings}


def test_good_data_has_no_findings(tmp_path: Path) -> None:
    report = check(write_coco(tmp_path / "a.json", GOOD))
    assert report.findings == ()
    assert report.counts == {"error": 0, "warning": 0, "note": 0}
    statistics = report.statistics["data"]
    assert (statistics.pictures, statistics.background, statistics.objects) == (3, 0, 24)
    assert sum(row.objects for row in statistics.classes) == 24
    assert list(format_report(report))[-1] == "0 errors, 0 warnings, 0 notes"


def with_object(*bbox: float, category: int = 1, **fields: int) -> Callable[[Path], Path]:
    return lambda folder: write_coco(folder / "a.json", [*GOOD, coco_object(2, bbox, category, **fields)])


def edited(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Return good data of which the second picture's file was changed."""

    def make(folder: Path) -> Path:
        path = write_coco(folder / "a.json", GOOD)
        change(folder / "a" / "2.png")
        return path

    return make


def cut_inside(path: Path) -> None:
    """Leave the end of the file in place: only decoding shows the damage."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\x00" * 40 + data[len(data) // 2 + 40 :])


def write_masks(path: Path) -> None:
    Image.fromarray(np.repeat(np.uint8([[0], [3], [9], [255]]), 10, axis=0).repeat(WIDTH, axis=1)).save(path)


def write_exif_trap(folder: Path) -> Path:
    """The XML states the stored 60 x 40, the picture is shown as 40 x 60."""
    write_voc(folder, {name: [voc_object("car", (5, 5, 20, 20 + index))] for index, name in enumerate("abc")})
    write_picture(folder / "JPEGImages" / "b.jpg", 7, orientation=6)
    return folder


def change_json(**fields: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write_coco(folder / "a.json", GOOD)
        document = json.loads(path.read_text())
        document["images"][1].update(fields)
        path.write_text(json.dumps(document))
        return path

    return make


def two_frames(path: Path) -> None:
    noise = np.random.default_rng(5).integers(0, 255, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    first, second = (Image.fromarray(frame) for frame in noise)
    first.save(path, "GIF", save_all=True, append_images=[second])


KINDS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "outside": (with_object(500, 5, 9, 9), "a.json", "box-outside"),
    "beyond the border": (with_object(30, 5, 60, 9), "a.json", "box-beyond-border"),
    "no width": (with_object(5, 5, 0, 9), "a.json", "degenerate-box"),
    "negative height": (with_object(5, 25, 9, -3), "a.json", "degenerate-box"),
    "whole picture": (with_object(0, 0, WIDTH, HEIGHT), "a.json", "huge-box"),
    "marked twice": (with_object(7, 5, 20, 20), "a.json", "duplicate-box"),
    "two classes": (with_object(7, 5, 20, 20, category=2), "a.json", "two-classes"),
    "missing": (edited(Path.unlink), "2.png", "missing-picture"),
    "cut short": (edited(lambda path: path.write_bytes(path.read_bytes()[:-30])), "2.png", "corrupt-picture"),
    "damaged inside": (edited(cut_inside), "2.png", "corrupt-picture"),
    "text": (edited(lambda path: path.write_text("no picture")), "2.png", "corrupt-picture"),
    "mask": (edited(write_masks), "2.png", "looks-like-mask"),
    "grey": (edited(lambda path: Image.open(path).convert("L").save(path)), "2.png", "grey-picture"),
    "alpha": (edited(lambda path: Image.open(path).convert("RGBA").save(path)), "2.png", "alpha-picture"),
    "16 bits": (
        edited(lambda path: Image.fromarray(np.asarray(Image.open(path).convert("L")) * np.uint16(257)).save(path)),
        "2.png",
        "16-bit-picture",
    ),
    "two frames": (edited(two_frames), "2.png", "several-pictures"),
    "a file twice": (edited(lambda path: shutil.copy(path.with_name("1.png"), path)), "1.png", "duplicate-picture"),
    "a file saved anew": (
        edited(lambda path: Image.open(path.with_name("1.png")).resize((120, 80)).save(path, "JPEG", quality=60)),
        "1.png",
        "similar-picture",
    ),
    "an extra file": (edited(lambda path: write_picture(path.with_name("9.png"), 99)), "a", "unlisted-pictures"),
    "swapped size": (change_json(width=HEIGHT, height=WIDTH), "2.png", "swapped-size"),
    "another size": (change_json(width=600, height=400), "2.png", "wrong-size"),
    "EXIF trap": (write_exif_trap, "b.jpg", "exif-trap"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "file", "code"), KINDS.values(), ids=KINDS.keys())
def test_a_fault_is_found_in_its_file(make: Callable[[Path], Path], file: str, code: str, tmp_path: Path) -> None:
    report = check(make(tmp_path))
    found = [
        finding
        for finding in report.findings
        if finding.code not in ("rare-class", "wrong-size") or code == finding.code
    ]
    assert [finding.code for finding in found] == [code]
    assert found[0].file.name == file
    assert found[0].fix


def test_orientation_that_a_stated_size_cannot_tell(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {name: "0 .5 .5 .5 .5\n" * 1 for name in "ab"}, "names: [car]", suffix=".jpg")
    write_picture(root / "images" / "a.jpg", 5, orientation=3)
    (finding,) = [finding for finding in check(root).findings if finding.code != "rare-class"]
    assert (finding.severity, finding.code, finding.file.name) == ("warning", "exif-orientation", "a.jpg")


def test_classes(tmp_path: Path) -> None:
    categories = {0: "Car", 2: "car ", 7: "bus"}
    rows = [coco_object(1, (column, 5, 10, 10), 0) for column in range(0, 40, 4)] + [coco_object(2, BOX, 2)]
    report = check(write_coco(tmp_path / "a.json", rows, categories=categories))
    found = {finding.code: finding.found for finding in report.findings}
    assert found["category-ids"] == "category ids go from 0 to 7 with 5 gaps and become labels 0 to 2 in this order"
    assert "'Car', 'car '" in found["similar-classes"]
    assert found["empty-class"] == "class 'bus' has no object"
    assert found["rare-class"] == "class 'car ' has 1 object"
    assert found["picture-without-objects"].startswith("1 of 3 pictures")


def test_pictures_in_two_parts(tmp_path: Path) -> None:
    train = write_coco(tmp_path / "train.json", GOOD, first_seed=0)
    val = write_coco(tmp_path / "val.json", GOOD, first_seed=20)
    shutil.copy(tmp_path / "train" / "1.png", tmp_path / "val" / "1.png")
    picture = Image.open(tmp_path / "train" / "2.png")
    picture.resize((90, 60)).save(tmp_path / "val" / "2.png", "JPEG", quality=70)
    document = json.loads(val.read_text())
    document["images"][2]["file_name"] = "train/3.png"
    val.write_text(json.dumps(document))
    found = {finding.code: finding for finding in check(train, val).findings}
    assert found["duplicate-picture-across-parts"].severity == "error"
    assert found["duplicate-picture-across-parts"].file == tmp_path / "val" / "1.png"
    assert found["similar-picture-across-parts"].severity == "warning"
    assert found["similar-picture-across-parts"].file == tmp_path / "val" / "2.png"
    assert str(tmp_path / "train" / "2.png") in found["similar-picture-across-parts"].found
    assert found["shared-picture"].file == (tmp_path / "train" / "3.png").resolve()


def test_labels_without_picture_and_classes_of_val_alone(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "yolo", {"a": "0 .5 .5 .5 .5", "b": ""}, "names: [car]")
    (root / "labels" / "z.txt").write_text("0 .5 .5 .5 .5")
    assert "labels-without-picture" in codes(check(root))
    first = write_voc(tmp_path / "first", {"a": [voc_object("car", BOX)]})
    second = write_voc(tmp_path / "second", {"b": [voc_object("tram", BOX)]})
    found = {finding.code: finding.found for finding in check(first, second).findings}
    assert found["unknown-classes"] == "val has classes that train does not know: tram"


def test_report_and_sheet(tmp_path: Path) -> None:
    path = with_object(500, 5, 9, 9)(tmp_path)
    (tmp_path / "a" / "3.png").unlink()
    report = check(path)
    lines = list(format_report(report))
    assert lines[0] == f"data: COCO {path}, 2 classes"
    assert "error missing-picture: 1" in lines
    assert any(line.startswith(f"  {path}: a/2.png: 1 box (annotation 25: ") for line in lines)
    assert json.loads(json.dumps(report.to_dict()))["counts"]["error"] == 2
    assert count_pictures(report.parts) == 2
    sheet = np.asarray(Image.open(write_sheet(tmp_path / "sheet.png", report)))
    assert sheet.shape[2] == 3
    assert sheet.shape[1] > 900  # two tiles
    red = (sheet[..., 0] > 200) & (sheet[..., 1] < 110) & (sheet[..., 2] < 110)
    assert red.sum() > 50  # boxes of the first class


def test_a_sheet_needs_a_picture(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "a.json", GOOD)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(ValueError, match="found none"):
        write_sheet(tmp_path / "sheet.png", check(path))
    assert not list(tmp_path.glob("sheet*"))


def test_voc_pictures_without_size_are_not_compared(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [voc_object("car", BOX)]})
    (tmp_path / "Annotations" / "a.xml").write_text(voc_xml("a.jpg", voc_object("car", BOX), size_wh=(0, 0)))
    assert codes(check(tmp_path)) == {"rare-class"}
