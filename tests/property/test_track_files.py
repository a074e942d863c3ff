"""Laws of files of tracks: what any two formats both keep comes through both, within what they write of a number."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vision.errors import InvalidInputError
from vision.io.tracks import TracksHeader, read_track_file, write_tracks
from vision.tracking.trajectories import Trajectories
from vision.types import TRACK_FIELDS

# Largest error of a coordinate in pixels, and of a score, as docs/tracks.md states them.
PRECISION = {".txt": (0.01, 5e-5), ".csv": (0.005, 5e-5), ".parquet": (0.0, 0.0), ".json": (0.001, 5e-6)}
LOSSY = (".txt",)
# A float32 of ten thousands is a thousandth wide.
ROUNDING = 0.001

NAME = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectories:
    """Draw 0-12 rows of tracks with some frames and ids far from zero."""
    keys = st.tuples(st.integers(0, 10**6), st.integers(0, 2**53 - 1))
    rows = draw(st.lists(keys, max_size=12, unique=True))
    n = len(rows)
    corners = np.sort(draw(npst.arrays(np.float32, (n, 2, 2), elements=st.floats(-1e4, 1e4, width=32))), axis=1)
    return Trajectories(
        np.array([frame for frame, _ in rows], np.int64),
        np.array([track_id for _, track_id in rows], np.int64),
        corners.reshape(n, 4),
        draw(npst.arrays(np.float32, n, elements=st.floats(-50, 50, width=32))),
        draw(npst.arrays(np.int64, n, elements=st.integers(0, 5))),
        draw(npst.arrays(np.bool_, n)),
    )


def headers() -> st.SearchStrategy[TracksHeader]:
    return st.builds(
        TracksHeader,
        class_names=st.lists(NAME, max_size=6, unique=True).map(tuple),
        fps=st.none() | st.floats(0.5, 240),
        source=NAME,
        size_hw=st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
        frame_count=st.none() | st.integers(0, 50),
    )


@pytest.mark.parametrize(("first", "second"), list(product(PRECISION, repeat=2)), ids=lambda ending: ending[1:])
@settings(max_examples=12)
@given(expected=trajectories(), header=headers())
def test_there_and_on(first: str, second: str, expected: Trajectories, header: TracksHeader) -> None:
    with TemporaryDirectory() as folder:
        found = expected
        for place, ending in enumerate((first, second)):
            path = Path(folder) / f"{place}{ending}"
            write_tracks(found, path, header=header)
            found, _ = read_track_file(path)
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_array_equal(found.ids, expected.ids)
    pixels, scores = (PRECISION[first][n] + PRECISION[second][n] for n in (0, 1))
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=pixels + (ROUNDING if pixels else 0))
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6 if scores else 0, atol=scores)
    if not {first, second} & set(LOSSY):
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.filled, expected.filled)


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".json"])
def test_a_track_whose_label_falls_is_read_back(ending: str, tmp_path: Path) -> None:
    boxes = np.tile(np.float32([0, 0, 1, 1]), (2, 1))
    tracks = Trajectories(
        np.arange(2), np.zeros(2, int), boxes, np.ones(2, np.float32), np.array([1, 0]), np.zeros(2, bool)
    )
    write_tracks(tracks, tmp_path / f"a{ending}", header=TracksHeader())
    assert read_track_file(tmp_path / f"a{ending}")[0].labels.tolist() == [1, 0]


@settings(max_examples=20)
@given(expected=trajectories(), header=headers())
def test_parquet_keeps_everything(expected: Trajectories, header: TracksHeader) -> None:
    with TemporaryDirectory() as folder:
        write_tracks(expected, Path(folder) / "a.parquet", header=header)
        found, read = read_track_file(Path(folder) / "a.parquet")
    assert read == header
    for name in ("frames", "ids", "boxes", "scores", "labels", "filled"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@settings(max_examples=20)
@given(expected=trajectories())
def test_ground_truth_keeps_classes(expected: Trajectories) -> None:
    with TemporaryDirectory() as folder:
        write_tracks(expected, Path(folder) / "a.txt", mot_layout="gt")
        found, _ = read_track_file(Path(folder) / "a.txt")
    np.testing.assert_array_equal(found.labels, expected.labels)


@settings(max_examples=20)
@given(names=st.lists(NAME.filter(lambda name: not name.isdigit()), min_size=6, max_size=6, unique=True), source=NAME)
def test_texts_survive_quoting(names: list[str], source: str) -> None:
    rows = np.arange(6)
    boxes = np.tile(np.float32([0, 0, 1, 1]), (6, 1))
    tracks = Trajectories(rows, rows, boxes, rows.astype(np.float32), rows, rows > 9)
    header = TracksHeader(class_names=tuple(names), source=source)
    with TemporaryDirectory() as folder:
        for ending in (".csv", ".parquet", ".json"):
            path = Path(folder) / f"a{ending}"
            write_tracks(tracks, path, header=header)
            read = read_track_file(path)[1]
            assert (read.class_names, read.source) == (tuple(names), source)


@settings(max_examples=60)
@given(text=st.text(st.sampled_from('0123456789.,-+e \n"x[]{}:'), max_size=60), ending=st.sampled_from(list(PRECISION)))
def test_nonsense_is_an_error_of_ours(text: str, ending: str) -> None:
    read_or_refuse(f"a{ending}", f"frame_index,track_id,x1,y1,x2,y2\n{text}" if ending == ".csv" else text)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**63) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(["id", "x"]), children),
    max_leaves=4,
)
COCO_VIDEO: dict[str, Any] = {
    "videos": [{"id": 1, "name": "v", "width": 9, "height": 9, "length": 3, "fps": 5.0}],
    "images": [{"id": 1, "video_id": 1, "frame_index": 0}, {"id": 2, "video_id": 1, "frame_index": 1}],
    "categories": [{"id": 1, "name": "a"}],
    "annotations": [
        {"image_id": 1, "track_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1.0, "filled": True},
        {"image_id": 2, "track_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5},
        {"id": 4, "video_id": 1, "category_id": 1, "bboxes": [[0, 0, 1, 1], None]},
    ],
}


@settings(max_examples=150)
@given(st.data())
def test_a_wrong_value_anywhere_in_json_is_an_error_of_ours(data: st.DataObject) -> None:
    read_or_refuse("a.json", json.dumps(replace_somewhere(data, COCO_VIDEO)))


@settings(max_examples=100)
@given(st.data())
def test_a_wrong_value_anywhere_in_json_lines_is_an_error_of_ours(data: st.DataObject) -> None:
    columns = {name: [1] for name in TRACK_FIELDS} | {"boxes": [[0, 0, 1, 1]], "states": [2], "time_since_update": [0]}
    found = {"boxes": [[0, 0, 1, 1]], "scores": [0.5], "labels": [0]}
    line = {"frame_index": 0, "timestamp_s": 0.5, "source": "", "size_hw": [9, 9], "tracks": columns}
    line |= {"detections": found, "timings_ms": {"track": 1.0}}
    header = {"kind": "header", "class_names": ["a"], "source": "v"}
    read_or_refuse("a.jsonl", "\n".join(json.dumps(replace_somewhere(data, part)) for part in (header, line)))


def read_or_refuse(name: str, text: str) -> None:
    """Read a file with this text: tracks and InvalidInputError with the name of the file are the two ways to end."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        refusal = None
        try:
            read_track_file(path)
        except InvalidInputError as exc:
            refusal = str(exc)
        assert refusal is None or name in refusal


def replace_somewhere(data: st.DataObject, document: Any) -> Any:
    """Return a copy with a drawn value in a drawn place: a path of keys and positions, of any depth."""
    document = json.loads(json.dumps(document))
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        child = place[key]
        if not isinstance(child, dict | list) or not child or data.draw(st.booleans()):
            place[key] = data.draw(JSON_VALUES)
            return document
        place = child
