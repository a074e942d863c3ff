"""Ground truth with several classes: each apart when the results have classes, otherwise all as one."""

from __future__ import annotations

from pathlib import Path

import pytest
from track_scenes import result_line, truth_line, write_lines

from vision.errors import InvalidInputError
from vision.evaluation.tracking import evaluate_mot, evaluate_tracks

pytest.importorskip("trackeval", reason="needs the eval extra")

# A person at x = 100, a car at x = 400; the results take the car of frame 3 for a person.
TRUTH = [truth_line(t, i, 100 + 300 * (i - 1), label=i) for t in (1, 2, 3) for i in (1, 2)]
CLASSED = [f"{t},{i},{100 + 300 * (i - 1)},10,20,40,0.9,{1 if t == 3 else i}" for t in (1, 2, 3) for i in (1, 2)]


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    write_lines(tmp_path / "A/gt/labels.txt", ["person", "car"])
    return write_lines(tmp_path / "A/gt/gt.txt", TRUTH)


def test_each_class_apart(tmp_path: Path, truth: Path) -> None:
    table = evaluate_tracks(truth, write_lines(tmp_path / "r.txt", CLASSED)).table()
    assert list(table) == ["A [person]", "A [car]", "combined [person]", "combined [car]", "combined"]
    assert (table["A [person]"]["FP"], table["A [person]"]["FN"]) == (1, 0)
    assert (table["A [car]"]["FP"], table["A [car]"]["FN"]) == (0, 1)
    assert (table["combined"]["GT"], table["combined"]["FP"], table["combined"]["FN"]) == (6, 1, 1)


def test_one_class_by_name_or_number(tmp_path: Path, truth: Path) -> None:
    tracked = write_lines(tmp_path / "r.txt", CLASSED)
    by_name = evaluate_tracks(truth, tracked, classes=["car"]).table()
    assert by_name == evaluate_tracks(truth, tracked, classes=["2"]).table()
    assert (by_name["A"]["GT"], by_name["A"]["FN"]) == (3, 1)


def test_results_without_classes_are_scored_as_one(tmp_path: Path, truth: Path) -> None:
    tracked = write_lines(tmp_path / "r.txt", [result_line(t, i, 100 + 300 * (i - 1)) for t in (1, 2) for i in (1, 2)])
    evaluation = evaluate_tracks(truth, tracked)
    assert evaluation.table()["A"]["GT"] == 6
    assert evaluation.table()["A"]["FN"] == 2
    assert any("scored as one" in note for note in evaluation.notes)


def test_unknown_classes_are_refused(tmp_path: Path, truth: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"1 \(person\), 2 \(car\).*'cars' \(did you mean 'car'\?\)"):
        evaluate_tracks(truth, write_lines(tmp_path / "r.txt", CLASSED), classes=["cars"])


def test_a_named_class_of_mot17_forgives_nothing(tmp_path: Path) -> None:
    truth = write_lines(tmp_path / "gt.txt", [truth_line(1, 1, 100), truth_line(1, 2, 400, label=8)])
    tracked = write_lines(tmp_path / "r.txt", [result_line(1, 1, 100), result_line(1, 2, 400)])
    assert evaluate_mot(truth, tracked)["combined"]["FP"] == 0
    assert evaluate_tracks(truth, tracked, classes=["1"]).table()["combined"]["FP"] == 1


def test_mot20_forgives_vehicles_too(tmp_path: Path) -> None:
    lines = [truth_line(1, 1, 100), truth_line(1, 2, 400, label=6, active=0)]
    tracked = [result_line(1, 1, 100), result_line(1, 2, 400)]
    for name, false in (("MOT20-01", 0), ("MOT17-02", 1)):
        truth = write_lines(tmp_path / name / "gt/gt.txt", lines)
        assert evaluate_mot(truth, write_lines(tmp_path / f"{name}.txt", tracked))[name]["FP"] == false
