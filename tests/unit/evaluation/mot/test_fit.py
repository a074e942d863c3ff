"""Files that do not belong together are told; each message names what was expected, what was found, what to do."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from track_scenes import result_line, truth_line, write_lines, write_scene

from vision.errors import InvalidInputError
from vision.evaluation.tracking import TrackingEvaluation, evaluate_mot, evaluate_tracks
from vision.io.tracks import read_tracks, write_tracks

pytest.importorskip("trackeval", reason="needs the eval extra")

FRAMES = range(1, 31)
# Two people who walk, far enough to the right that a corner is no size.
TRUTH = [(frame, i, 300.0 * i + 8 * frame) for frame in FRAMES for i in (1, 2)]


def evaluate(folder: Path, truth: list[str], tracked: list[str]) -> TrackingEvaluation:
    return evaluate_tracks(write_lines(folder / "gt.txt", truth), write_lines(folder / "tracks.txt", tracked))


TRUTH_LINES = [truth_line(*row) for row in TRUTH]


@pytest.mark.parametrize(
    ("truth", "tracked", "message"),
    [
        (TRUTH_LINES, [f"{t},{i},{x},10,{x + 20},50,1" for t, i, x in TRUTH], "two corners 60 do"),
        ([f"{t},{i},{x},10,{x + 20},50,1,1,1" for t, i, x in TRUTH], [result_line(*row) for row in TRUTH], "ground tr"),
        (TRUTH_LINES, [f"{t},{i},{x / 2},5,10,20,1" for t, i, x in TRUTH], "multiplied by 2 60 do"),
        (TRUTH_LINES, [f"{t},{i},{x * 3},30,60,120,1" for t, i, x in TRUTH], "multiplied by 0.333"),
        (TRUTH_LINES, [f"{t},{i},{x / 1920},0.01,0.01,0.04,1" for t, i, x in TRUTH], "shares of the picture"),
        (TRUTH_LINES, [result_line(t, i, x + 5000) for t, i, x in TRUTH], "no box of tracks.txt touches"),
        (TRUTH_LINES, ["1,1,10,10,-20,40,1"], "w and h must be >= 0"),
        (TRUTH_LINES, [result_line(t - 1, i, x) for t, i, x in TRUTH], "add 1 to the first column"),
        (TRUTH_LINES, [result_line(t + 5, i, x) for t, i, x in TRUTH], "last annotated frame"),
        (TRUTH_LINES, ["0 1 Pedestrian 0 0 -1.5 10 10 30 50 1 1 1 1 1 1 1 0.9"], "KITTI"),
        (TRUTH_LINES, ["1 1 10 10 20 40 1"], "put commas there"),
        (TRUTH_LINES, ["frame,id,x,y,w,h", "1,1,10,10,20,40"], "is a header"),
        (TRUTH_LINES, ["1,1,10,10,20,40,0.9,3"], "--classes"),
        ([truth_line(1, 1, 100, label=14)], ["1,1,10,10,20,40"], "labels.txt"),
    ],
)
def test_faults_are_refused(tmp_path: Path, truth: list[str], tracked: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        evaluate(tmp_path, truth, tracked)


@pytest.mark.parametrize(
    ("tracked", "message"),
    [
        ([], "nothing was tracked"),
        ([f"{t},{i},{x},35,20,40" for t, i, x in TRUTH], "no result overlaps an object by half"),
        ([result_line(t - 1, i, x) for t, i, x in TRUTH if t > 1], "one frame early"),
        ([result_line(t + 1, i, x) for t, i, x in TRUTH if t < 30], "one frame late"),
    ],
)
def test_doubts_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture, tracked: list[str], message: str) -> None:
    with caplog.at_level(logging.WARNING):
        evaluation = evaluate(tmp_path, TRUTH_LINES, tracked)
    assert any(message in note for note in evaluation.notes)
    assert message in caplog.text


def test_good_results_raise_no_doubt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    evaluation = evaluate(tmp_path, TRUTH_LINES, [result_line(t, i, x + 2) for t, i, x in TRUTH])
    assert evaluation.notes == ()
    assert caplog.text == ""


def test_boxes_out_of_the_picture_are_noted(tmp_path: Path) -> None:
    write_scene(tmp_path, "A", TRUTH, TRUTH, 30)
    write_lines(tmp_path / "gt/A/seqinfo.ini", ["[Sequence]", "seqLength=30", "imWidth=320", "imHeight=240"])
    notes = evaluate_tracks(tmp_path / "gt", tmp_path / "results").notes
    assert [note for note in notes if "out of the picture (320 x 240)" in note]


@pytest.mark.parametrize(
    ("gt", "results", "message"),
    [
        ("absent", "results", "nothing at"),
        ("top", "results", r"there are sequences in .*val/gt: pass that folder"),
        ("gt", "absent", "nothing at"),
        ("gt", "others", r"did you mean 'Street-1'"),
        ("gt", "nested", r"there are files in .*data: pass that folder"),
        ("two", "one.txt", "one result file must have one sequence"),
    ],
)
def test_folders_that_do_not_fit_are_named(tmp_path: Path, gt: str, results: str, message: str) -> None:
    write_scene(tmp_path, "street_1", TRUTH, TRUTH, 30)
    write_scene(tmp_path / "top" / "val", "A", TRUTH, TRUTH, 30)
    lines = [result_line(*row) for row in TRUTH]
    write_lines(tmp_path / "others" / "Street-1.txt", lines)
    write_lines(tmp_path / "nested" / "data" / "street_1.txt", lines)
    write_lines(tmp_path / "one.txt", lines)
    for name in ("A", "B"):
        write_lines(tmp_path / "two" / f"{name}.txt", TRUTH_LINES)
    with pytest.raises(InvalidInputError, match=message):
        evaluate_mot(tmp_path / gt, tmp_path / results)


def test_every_layout_gives_the_same_scores(tmp_path: Path) -> None:
    write_scene(tmp_path, "A", TRUTH, TRUTH, 30)
    truth, tracked = tmp_path / "gt/A/gt/gt.txt", tmp_path / "results/A.txt"
    write_lines(tmp_path / "flat/A.txt", TRUTH_LINES)
    write_lines(tmp_path / "runs/A/tracks.txt", tracked.read_text().split())
    expected = evaluate_mot(tmp_path / "gt", tmp_path / "results")["A"]
    pairs = [
        (truth, tracked),
        (tmp_path / "gt/A", tracked),
        (tmp_path / "flat", tmp_path / "results"),
        (tmp_path / "gt", tmp_path / "runs"),
        ({"A": truth}, {"A": tracked}),
    ]
    for gt, results in pairs:
        assert evaluate_mot(gt, results)["A"] == expected


def test_length_comes_from_the_pictures_without_seqinfo(tmp_path: Path) -> None:
    for number in range(1, 5):
        write_lines(tmp_path / "A" / "img1" / f"{number:06d}.jpg", [])
    truth = write_lines(tmp_path / "A/gt/gt.txt", [truth_line(1, 1, 100), truth_line(2, 1, 100)])
    tracked = write_lines(tmp_path / "r.txt", [result_line(t, 1, 100) for t in (1, 2, 4)])
    assert evaluate_mot(truth, tracked)["A"]["FP"] == 1


def test_other_formats_of_tracks_score_the_same(tmp_path: Path) -> None:
    write_scene(tmp_path, "A", TRUTH, TRUTH, 30)
    truth, tracked = tmp_path / "gt/A/gt/gt.txt", tmp_path / "results/A.txt"
    write_tracks(read_tracks(truth), tmp_path / "A.json")
    write_tracks(read_tracks(tracked), tmp_path / "A.csv")
    expected = evaluate_mot(truth, tracked)["combined"]
    assert evaluate_mot(truth, tmp_path / "A.csv")["combined"] == pytest.approx(expected)
    assert evaluate_mot(tmp_path / "A.json", tracked)["combined"] == pytest.approx(expected)
