"""Published scores are reproduced: the two sequences that come with py-motmetrics, scored by TrackEval 1.3.

The files stay in that package (a development dependency, MIT): their ground truth is MOTChallenge's (CC BY-NC-SA 3.0)
and has no place in this repository.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from vision.evaluation.mot.matching import find_switches, match_sequence
from vision.evaluation.mot.summary import summarise_objects
from vision.evaluation.tracking import TrackingEvaluation, evaluate_tracks

pytest.importorskip("trackeval", reason="needs the eval extra")

SEQUENCES = ("TUD-Campus", "TUD-Stadtmitte")
GOLDEN = {
    "TUD-Campus": (39.140, 52.646, 55.766, 7),
    "TUD-Stadtmitte": (39.785, 56.401, 64.462, 7),
    "combined": (39.996, 55.512, 62.430, 14),
}


@pytest.fixture(scope="module")
def evaluation() -> TrackingEvaluation:
    # Found without importing it: only its files are wanted.
    spec = find_spec("motmetrics")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package motmetrics, which brings the files (extra dev)")
    data = Path(spec.origin).parent / "data"
    truth = {name: data / name / "gt.txt" for name in SEQUENCES}
    return evaluate_tracks(truth, {name: data / name / "test.txt" for name in SEQUENCES})


@pytest.mark.parametrize("name", GOLDEN)
def test_published_scores(evaluation: TrackingEvaluation, name: str) -> None:
    scores = evaluation.table()[name]
    hota, mota, idf1, switches = GOLDEN[name]
    assert scores["HOTA"] == pytest.approx(hota, abs=5e-4)
    assert scores["MOTA"] == pytest.approx(mota, abs=5e-4)
    assert scores["IDF1"] == pytest.approx(idf1, abs=5e-4)
    assert scores["IDSW"] == switches


def test_matches_of_the_report_are_those_of_the_scores(evaluation: TrackingEvaluation) -> None:
    for item in evaluation.sequences:
        matches = match_sequence(item.data)
        switches = find_switches(matches)
        objects = summarise_objects(matches, switches)
        assert len(switches) == item.scores["IDSW"]
        assert sum(row.switches for row in objects) == item.scores["IDSW"]
        assert sum(row.breaks for row in objects) == item.scores["Frag"]
        assert int(matches.is_false.sum()) == item.scores["FP"]
        assert int((~matches.matched).sum()) == item.scores["FN"]
        assert sum(row.matched > 0.8 * row.frames for row in objects) == item.scores["MT"]
        assert sum(row.matched < 0.2 * row.frames for row in objects) == item.scores["ML"]
