"""Switches, breaks and summaries of hand-made scenes; they must be those that TrackEval counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from track_scenes import Row, crossing, write_scene

from vision.evaluation.mot.matching import Matches, find_switches, match_sequence
from vision.evaluation.mot.plots import lane_colours
from vision.evaluation.mot.summary import Span, summarise_objects, summarise_tracks
from vision.evaluation.tracking import SequenceScores, evaluate_tracks

pytest.importorskip("trackeval", reason="needs the eval extra")


def score(folder: Path, truth: list[Row], tracked: list[Row], length: int) -> tuple[SequenceScores, Matches]:
    write_scene(folder, "A", truth, tracked, length)
    item = evaluate_tracks(folder / "gt", folder / "results").sequences[0]
    return item, match_sequence(item.data)


def test_an_exchange_is_two_switches(tmp_path: Path) -> None:
    item, matches = score(tmp_path, *crossing(), 10)
    switches = find_switches(matches)
    assert [(s.frame, s.object_id, s.before_id, s.after_id, s.before_frame, s.kind) for s in switches] == [
        (5, 1, 11, 12, 4, "taken from 2"),
        (5, 2, 12, 11, 4, "taken from 1"),
    ]
    assert item.scores["IDSW"] == 2
    assert (item.scores["FP"], item.scores["FN"], item.scores["Frag"]) == (1, 2, 1)


def test_scores_of_the_exchange_by_hand(tmp_path: Path) -> None:
    """20 boxes, 18 found, 1 false. All overlaps are 1, so every threshold gives the same.

    DetA = 18 / 21. Pairs (object, result, frames): (1, 11, 4), (1, 12, 6), (2, 12, 4), (2, 11, 4); results 11 and 12
    have 8 and 10 boxes. AssA is the mean over the found boxes of frames / (object + result - frames).
    """
    item, _ = score(tmp_path, *crossing(), 10)
    association = (4 * 4 / (10 + 8 - 4) + 6 * 6 / (10 + 10 - 6) + 4 * 4 / (10 + 10 - 4) + 4 * 4 / (10 + 8 - 4)) / 18
    scores = item.scores
    assert scores["DetA"] == pytest.approx(100 * 18 / 21)
    assert scores["AssA"] == pytest.approx(100 * association)
    assert scores["HOTA"] == pytest.approx(100 * np.sqrt(18 / 21 * association))
    assert scores["DetRe"] == pytest.approx(90)
    assert scores["DetPr"] == pytest.approx(100 * 18 / 19)
    assert scores["LocA"] == pytest.approx(100)
    assert scores["MOTA"] == pytest.approx(100 * (1 - (2 + 1 + 2) / 20))
    # One result for each object: 12 keeps object 1 in 6 frames, 11 keeps object 2 in 4.
    assert scores["IDF1"] == pytest.approx(100 * 2 * 10 / (20 + 19))
    assert (scores["MT"], scores["PT"], scores["ML"]) == (1, 1, 0)


def test_objects_worst_first(tmp_path: Path) -> None:
    _, matches = score(tmp_path, *crossing(), 10)
    second, first = summarise_objects(matches, find_switches(matches))
    assert (second.object_id, second.lost, second.matched, second.longest_gap, second.breaks) == (2, 6, 8, 2, 1)
    assert second.result_ids == (12, 11)
    assert second.spans == (Span(1, 4, 12), Span(5, 7, 11), Span(10, 10, 11))
    assert second.present == ((1, 10),)
    assert (first.object_id, first.main_id, first.main_frames, first.lost) == (1, 12, 6, 4)
    assert first.mean_overlap == pytest.approx(1)


def test_results_worst_first(tmp_path: Path) -> None:
    _, matches = score(tmp_path, *crossing(), 10)
    rows = [(row.result_id, row.false, row.wrong, row.object_ids) for row in summarise_tracks(matches)]
    assert rows == [(11, 0, 4, (1, 2)), (12, 0, 4, (1, 2)), (99, 1, 1, ())]


def test_a_new_track_after_a_gap_and_a_return(tmp_path: Path) -> None:
    truth = [(frame, 1, 100.0) for frame in range(1, 10)]
    tracked = [(1, 5, 100.0), (2, 5, 100.0), (5, 6, 100.0), (6, 6, 100.0), (8, 5, 100.0)]
    item, matches = score(tmp_path, truth, tracked, 9)
    switches = find_switches(matches)
    assert [(s.frame, s.before_frame, s.kind) for s in switches] == [(5, 2, "new track"), (8, 6, "returned")]
    assert len(switches) == item.scores["IDSW"]


def test_frames_without_results_break_no_pair_as_in_trackeval(tmp_path: Path) -> None:
    truth = [(frame, 1, 100.0) for frame in range(1, 6)]
    item, matches = score(tmp_path, truth, [(1, 5, 100.0), (4, 5, 100.0)], 5)
    assert summarise_objects(matches, [])[0].breaks == item.scores["Frag"] == 0


def test_nothing_tracked_is_all_missed(tmp_path: Path) -> None:
    item, matches = score(tmp_path, [(1, 1, 100.0), (2, 1, 100.0)], [], 2)
    assert not find_switches(matches)
    assert not summarise_tracks(matches)
    (row,) = summarise_objects(matches, [])
    assert (row.lost, row.main_id, row.longest_gap, row.mean_overlap) == (2, -1, 2, 0.0)
    assert item.scores["FN"] == 2


def test_random_scenes_count_as_trackeval(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    for trial in range(5):
        places = [(t, i, 60.0 * i + 6 * float(rng.normal())) for t in range(1, 31) for i in range(5)]
        truth = [row for row in places if rng.random() > 0.1]
        found = [row for row in truth if rng.random() > 0.2]
        tracked = [(t, int(i + 10 * rng.integers(0, 2)), x + 4 * float(rng.normal())) for t, i, x in found]
        item, matches = score(tmp_path / str(trial), truth, tracked, 30)
        switches = find_switches(matches)
        objects = summarise_objects(matches, switches)
        assert item.scores["IDSW"] == len(switches) > 0
        assert item.scores["Frag"] == sum(row.breaks for row in objects)
        assert item.scores["FP"] == matches.is_false.sum()
        assert item.scores["FN"] == (~matches.matched).sum()


def test_ids_in_one_lane_have_colours_of_their_own(tmp_path: Path) -> None:
    truth = [(frame, i, 100.0 * i) for frame in range(1, 13) for i in (1, 2)]
    tracked = [(frame, 8 * (frame // 2) + i, 100.0 * i) for frame, i, _ in truth]
    _, matches = score(tmp_path, truth, tracked, 12)
    objects = summarise_objects(matches, find_switches(matches))
    colours = lane_colours(objects, 8)
    for row in objects:
        assert len({colours[result_id] for result_id in row.result_ids}) == len(row.result_ids) == 7
