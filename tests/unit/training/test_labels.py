"""Labelled pictures from folders and tables: what is read, skipped, refused with which words, and held out."""

import logging

import cv2
import numpy as np
import pytest

from vision.errors import ConfigError, InvalidInputError
from vision.training.classifier_config import ClassifierTrainingConfig
from vision.training.datasets.label_files import find_parts, read_labels
from vision.training.datasets.labels import load_labelled_data, load_measured_pictures, target_array


def picture(path, value=0):
    """Write a picture that no other one equals byte for byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng([*str(path).encode(), value]).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image)
    return path


def folders(root, **counts):
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(root / name / f"{name}{number}.png")
    return root


def table(root, text):
    for line in text.splitlines()[1:]:
        name = line.split(",")[0]
        if name and not name.startswith("gone"):
            picture(root / name)
    path = root / "labels.csv"
    path.write_text(text)
    return path


def config(data, **changes):
    return ClassifierTrainingConfig(data=data, **changes)


def load(data, **changes):
    return load_labelled_data(config(data, **changes))


# --- folders ---


def test_folders_are_classes_in_natural_order(tmp_path):
    data = load(folders(tmp_path, c10=4, c2=4))
    assert data.class_names == ("c2", "c10")
    assert len(data.train) + len(data.val) == 8
    for side in (data.train, data.val):
        assert {item.labels for item in side} == {(0,), (1,)}
        assert all(item.path.parent.name == data.class_names[item.labels[0]] for item in side)


def test_pictures_in_folders_below_a_class_belong_to_it(tmp_path):
    folders(tmp_path, a=2, b=2)
    picture(tmp_path / "a" / "day1" / "x.JPG")
    picture(tmp_path / "a" / ".thumbs" / "x.png")
    data = load(tmp_path)
    assert sum(item.labels == (0,) for item in (*data.train, *data.val)) == 3


def test_train_and_val_folders_are_taken_as_they_are(tmp_path):
    folders(tmp_path / "train", a=3, b=2)
    folders(tmp_path / "val", a=1, b=1)
    data = load(tmp_path)
    assert (len(data.train), len(data.val)) == (5, 2)
    assert all("val" in item.path.parts for item in data.val)
    assert len(load_measured_pictures(tmp_path, "multiclass", data.class_names)) == 2


def test_a_class_called_train_is_a_class(tmp_path):
    folders(tmp_path, bus=3, train=3)
    assert find_parts(tmp_path) == (tmp_path, None)
    assert load(tmp_path).class_names == ("bus", "train")


def test_classes_choose_and_order(tmp_path):
    data = load(folders(tmp_path, a=3, b=3, c=3), classes=("c", "a"))
    assert data.class_names == ("c", "a")
    assert {item.path.parent.name for item in (*data.train, *data.val)} == {"a", "c"}


def test_empty_class_folders_and_stray_pictures_are_reported(tmp_path, caplog):
    folders(tmp_path, a=3, b=3, empty=0)
    picture(tmp_path / "stray.png")
    (tmp_path / "a" / "notes.txt").write_text("x")
    assert load(tmp_path).class_names == ("a", "b")
    assert f"skipped class folder {tmp_path / 'empty'}" in caplog.text
    assert "stray.png" in caplog.text


def test_pictures_that_cannot_be_read_are_reported_and_skipped(tmp_path, caplog):
    folders(tmp_path, a=4, b=4)
    (tmp_path / "a" / "text.png").write_text("no picture")
    whole = (tmp_path / "b" / "b0.png").read_bytes()
    (tmp_path / "b" / "cut.png").write_bytes(whole[: len(whole) // 2])
    data = load(tmp_path)
    assert len(data.train) + len(data.val) == 8
    assert "text.png" in caplog.text
    assert "cut.png" in caplog.text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: folders(root, a=3), "two classes or more, got 1"),
        (lambda root: folders(root), "found none"),
        (lambda root: folders(root, a=0, b=0), "found none"),
        (lambda root: root / "gone", "found nothing at"),
        (lambda root: folders(root, a=1, b=1), "a class with two pictures"),
    ],
    ids=["one class", "no folder", "empty folders", "nothing", "one picture each"],
)
def test_folders_that_teach_nothing_are_refused(tmp_path, make, message):
    with pytest.raises(InvalidInputError, match=message):
        load(make(tmp_path))


def test_an_unknown_class_in_validation_is_refused(tmp_path):
    folders(tmp_path / "train", cat=3, dog=2)
    folders(tmp_path / "val", cat=1, dogs=1)
    with pytest.raises(InvalidInputError, match=r"val.dogs must have classes.*'dogs' \(did you mean 'dog'\?\)"):
        load(tmp_path)


def test_a_missing_wanted_class_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"lacks 'dgo' \(did you mean 'dog'"):
        load(folders(tmp_path, cat=3, dog=3), classes=("cat", "dgo"))


def test_pictures_on_both_sides_are_warned_of(tmp_path, caplog):
    folders(tmp_path / "train", a=3, b=2)
    (tmp_path / "val").mkdir()
    for name in ("a", "b"):
        (tmp_path / "val" / name).mkdir()
        (tmp_path / "val" / name / "x.png").write_bytes((tmp_path / "train" / name / f"{name}0.png").read_bytes())
    load(tmp_path)
    assert "2 of 2 validation pictures are training pictures" in caplog.text


# --- tables ---


def test_one_label_a_line(tmp_path):
    data = load(table(tmp_path, "file,label\nx/1.png,cat\n2.png,dog\n3.png,cat\n4.png,dog\n"))
    assert data.class_names == ("cat", "dog")
    assert {item.path.name for item in (*data.train, *data.val)} == {"1.png", "2.png", "3.png", "4.png"}


def test_several_labels_a_line(tmp_path):
    said = read_labels(table(tmp_path, "file,labels\n1.png,dog; cat;dog\n2.png,\n3.png,elk\n"), "multilabel")
    assert said.class_names == ("cat", "dog", "elk")
    assert [row.names for row in said.rows] == [("dog", "cat"), (), ("elk",)]


def test_a_column_for_each_label(tmp_path):
    path = table(tmp_path, "file,wet,cold\n1.png,1,0\n2.png,0,0\n3.png,1,1\n4.png,0,1\n5.png,1,0\n")
    data = load(path, task="multilabel", val_fraction=0.5)
    assert data.class_names == ("wet", "cold")
    every = sorted((*data.train, *data.val), key=lambda item: item.path)
    assert target_array(every, "multilabel", 2).tolist() == [[1, 0], [0, 0], [1, 1], [0, 1], [1, 0]]


def test_values_and_a_table_that_a_spreadsheet_wrote(tmp_path):
    text = 'file,age\r\n"a, b.png",1.5\r\n2.png,-3e1\r\n\r\n3.png,4\r\n4.png,5\r\n'
    for name in ("a, b.png", "2.png", "3.png", "4.png"):
        picture(tmp_path / name)
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    data = load(path, task="regression", unit="years")
    assert data.class_names == ()
    assert sorted(item.value for item in (*data.train, *data.val)) == [-30, 1.5, 4, 5]
    assert target_array(data.train, "regression", 0).shape == (len(data.train), 1)


def test_missing_files_of_a_table_are_reported_by_line(tmp_path, caplog):
    load(table(tmp_path, "file,label\ngone.png,a\n1.png,a\n2.png,b\n3.png,a\n4.png,b\n"))
    assert "labels.csv line 2" in caplog.text
    assert "gone.png" in caplog.text


def test_a_repeated_line_counts_once(tmp_path):
    said = read_labels(table(tmp_path, "file,label\n1.png,a\n1.png,a\n2.png,b\n"), "multiclass")
    assert len(said.rows) == 2


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("regression", "file,value\n1.png,nan\n", r"line 2 must have a finite number in the column value, got 'nan'"),
        ("regression", "file,value\n1.png,2\n2.png,\n", "line 3 must have a finite number"),
        ("regression", "file,value\n1.png,inf\n", "line 2 must have a finite number"),
        ("regression", "file,value\n1.png,3\n2.png,3\n3.png,3\n", "different values, all .* are 3"),
        ("regression", "file,x,y\n1.png,1,2\n", "must name the columns file,value"),
        ("multilabel", "file,wet,cold\n1.png,1,yes\n", "0 or 1 in the column cold, got 'yes'"),
        ("multilabel", "file,labels\n1.png,\n2.png,\n3.png,\n", "validation needs a picture with a label"),
        ("multiclass", "file,label\n1.png,a;b\n", "one label, got 'a;b'"),
        ("multiclass", "file,label\n1.png,\n", "one label, got ''"),
        ("multiclass", "files,label\n1.png,a\n", "did you mean 'files'"),
        ("multiclass", "file;label\n1.png;a\n", "must name the columns file,label"),
        ("multiclass", "file,label\n", "rows below"),
        ("multiclass", "", "got an empty file"),
        ("multiclass", "file,label\n1.png,a,b\n", "line 2 must have 2 cells"),
        ("multiclass", "file,label\n,a\n", "line 2 must name a picture"),
        ("multiclass", "file,label\n1.png,a\n2.png,b\n1.png,b\n", "line 4 must not contradict 2"),
        ("multiclass", "file,label\ngone1.png,a\ngone2.png,b\n", "none of the 2 pictures"),
    ],
)
def test_tables_with_faults_are_refused(tmp_path, task, text, message):
    with pytest.raises(InvalidInputError, match=message):
        load(table(tmp_path, text), task=task)


def test_a_folder_for_labels_or_values_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="regression data must be a CSV table"):
        load(folders(tmp_path, a=2, b=2), task="regression")


def test_train_and_val_tables_in_one_folder(tmp_path):
    for name in ("train", "val"):
        table(tmp_path, f"file,value\n{name}1.png,1\n{name}2.png,2\n").rename(tmp_path / f"{name}.csv")
    data = load(tmp_path, task="regression")
    assert {item.path.stem for item in data.val} == {"val1", "val2"}


# --- holding out ---


def test_the_held_out_part_is_what_evaluation_finds_again(tmp_path):
    data = load(folders(tmp_path, a=20, b=10), val_fraction=0.3)
    again = load_measured_pictures(tmp_path, "multiclass", data.class_names, holdout=0.3)
    assert again == list(data.val)
    assert len(load_measured_pictures(tmp_path, "multiclass", data.class_names)) == 30
    assert not {item.path for item in data.train} & {item.path for item in data.val}


def test_classes_without_validation_are_warned_of(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    load(folders(tmp_path, a=10, b=1))
    assert "1 of 2 classes have no validation picture: b" in caplog.text


def test_values_are_held_out_over_their_whole_range(tmp_path):
    rows = "".join(f"{number}.png,{number}\n" for number in range(40))
    data = load(table(tmp_path, f"file,value\n{rows}"), task="regression", val_fraction=0.4)
    held = [item.value for item in data.val]
    assert all(any(low <= value < low + 8 for value in held) for low in range(0, 40, 8))


# --- settings ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "multi"}, "task must be one of"),
        ({"resize": "squash"}, "resize must be one of"),
        ({"crop_range": (0.9, 0.5)}, "crop_range"),
        ({"colour": 2.0}, "colour"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"crop_share": 0.0}, "crop_share"),
        ({"classes": ("a", "a")}, "must differ"),
        ({"classes": ("a",)}, "two classes"),
        ({"task": "regression", "classes": ("a", "b")}, "no classes"),
        ({"unit": "mm"}, "only a regression"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **change)
