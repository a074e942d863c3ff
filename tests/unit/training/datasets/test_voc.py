"""Reading Pascal VOC: coordinates, lists, pictures found by name, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from detection_data import voc_object, voc_xml, write_picture, write_voc

from vision.errors import InvalidInputError
from vision.training.datasets.detection import read_detection_data
from vision.training.datasets.voc import MAX_XML_BYTES, read_voc_annotations


def test_pixels_are_counted_from_1_and_the_last_one_belongs_to_the_box(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [voc_object("car", (1, 1, 60, 40)), voc_object("bus", (11, 21, 30, 40))]})
    data = read_voc_annotations(tmp_path)
    assert data.pictures[0].boxes.tolist() == [[0, 0, 60, 40], [10, 20, 30, 40]]
    assert data.class_names == ("bus", "car")
    assert data.pictures[0].labels.tolist() == [1, 0]
    assert data.pictures[0].declared_wh == (60, 40)


def test_a_set_that_counts_from_0_is_known_by_a_coordinate_of_0(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [voc_object("car", (0, 5, 60, 40))], "b": [voc_object("car", (10, 20, 30, 40))]})
    data = read_voc_annotations(tmp_path)
    assert [picture.boxes.tolist() for picture in data.pictures] == [[[0, 5, 60, 40]], [[10, 20, 30, 40]]]
    assert [finding.code for finding in data.findings] == ["voc-from-zero"]
    assert data.findings[0].file.name == "a.xml"


def test_flags(tmp_path: Path) -> None:
    box = (5, 5, 20, 20)
    rows = [voc_object("car", box, difficult=1, truncated=1), voc_object("car", box, difficult=1, iscrowd=1)]
    write_voc(tmp_path, {"a": [*rows, voc_object("car", box)]})
    (picture,) = read_voc_annotations(tmp_path).pictures
    assert [(row.difficult, row.truncated, row.crowd) for row in picture.rows] == [
        (True, True, False),
        (False, False, True),
        (False, False, False),
    ]
    (image,), _ = read_detection_data(tmp_path)
    assert len(image.boxes) == 2
    assert image.difficult is not None
    assert image.difficult.tolist() == [True, False]
    assert image.unmarked


def test_lists_choose_pictures_and_classes_are_those_of_all(tmp_path: Path) -> None:
    car, bus = [voc_object("car", (5, 5, 9, 9))], [voc_object("bus", (5, 5, 9, 9))]
    write_voc(tmp_path, {"a": car, "b": bus, "c": car}, train=["a  1"], val=["b", "c"], test=["c"])
    train, names = read_detection_data(tmp_path, part="train")
    assert [image.path.stem for image in train] == ["a"]
    assert names == ("bus", "car")
    assert [image.path.stem for image in read_detection_data(tmp_path, part="val")[0]] == ["b", "c"]
    assert len(read_detection_data(tmp_path)[0]) == 3
    listed = tmp_path / "ImageSets" / "Main" / "test.txt"
    assert [image.path.stem for image in read_detection_data(listed)[0]] == ["c"]


def test_names_of_a_list_without_annotations_are_reported(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [voc_object("car", (5, 5, 9, 9))]}, train=["a", "z"], val=["y"])
    (finding,) = read_voc_annotations(tmp_path, "train").findings
    assert (finding.code, finding.file.name) == ("missing-annotation", "train.txt")
    assert "first: z" in finding.found
    with pytest.raises(InvalidInputError, match=r"val\.txt must list names of annotation files"):
        read_voc_annotations(tmp_path, "val")


def test_xml_beside_pictures_and_names_that_tools_get_wrong(tmp_path: Path) -> None:
    for stem, stated in (("a", "a"), ("b", "C:\\photos\\b.png"), ("c", "other.jpg")):
        write_picture(tmp_path / f"{stem}.png")
        (tmp_path / f"{stem}.xml").write_text(voc_xml(stated, voc_object("car", (5, 5, 9, 9))))
    data = read_voc_annotations(tmp_path)
    assert [picture.path for picture in data.pictures] == [tmp_path / f"{stem}.png" for stem in "abc"]
    assert [picture.name for picture in data.pictures] == ["a.png", "b.png", "c.png"]


BAD_XML = {
    "cut short": "<annotation><object>",
    "another root": "<html></html>",
    "empty": "",
    "entity": '<!DOCTYPE a [<!ENTITY x "x">]><annotation><filename>&x;</filename></annotation>',
    "outside entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
}


@pytest.mark.parametrize("text", BAD_XML.values(), ids=BAD_XML.keys())
def test_a_bad_file_is_reported_and_the_others_are_read(text: str, tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [voc_object("car", (5, 5, 9, 9))], "b": []})
    (tmp_path / "Annotations" / "b.xml").write_text(text)
    data = read_voc_annotations(tmp_path)
    assert [picture.path.stem for picture in data.pictures] == ["a"]
    assert [(finding.code, finding.file.name) for finding in data.findings] == [("bad-xml", "b.xml")]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [voc_object("car", (5, 5, 9, 9))]})
    with (tmp_path / "Annotations" / "a.xml").open("r+b") as file:
        file.truncate(MAX_XML_BYTES + 1)
    with pytest.raises(InvalidInputError, match=rf"none of 1 XML files .*at most {MAX_XML_BYTES} bytes"):
        read_voc_annotations(tmp_path)


BAD_OBJECTS = {
    "no name": "<object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>",
    "no box": "<object><name>car</name></object>",
    "no corner": "<object><name>car</name><bndbox><xmin>1</xmin></bndbox></object>",
    "a word": voc_object("car", ("left", 1, 2, 3)),  # type: ignore[list-item]
    "no number": voc_object("car", (float("nan"), 1, 2, 3)),
}


@pytest.mark.parametrize("text", BAD_OBJECTS.values(), ids=BAD_OBJECTS.keys())
def test_a_bad_object_is_reported_and_makes_the_picture_no_background(text: str, tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [voc_object("car", (5, 5, 9, 9)), text], "b": [text]})
    data = read_voc_annotations(tmp_path)
    assert [finding.code for finding in data.findings] == ["bad-row", "bad-row"]
    assert "object 2 cannot be read" in data.findings[0].found
    assert [picture.unusable for picture in data.pictures] == [1, 1]
    images, _ = read_detection_data(tmp_path)
    assert images[1].unmarked


def test_a_class_that_occurs_nowhere(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [voc_object("car", (5, 5, 9, 9))]})
    with pytest.raises(InvalidInputError, match=r"lacks 'cat' \(did you mean 'car'\?\); it has car"):
        read_detection_data(tmp_path, ("cat",))
    # A part of a set need not show each of its classes.
    assert read_detection_data(tmp_path, ("bus", "car"))[1] == ("bus", "car")
