"""Laws of the value types: selection, concatenation, JSON, and what construction refuses."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vision.errors import InvalidInputError
from vision.types import TRACK_FIELDS, Detections, Frame, FrameResult, SegmentationMap, Tracks

DETECTION_FIELDS = ("boxes", "scores", "labels", "embeddings")
FLOAT = st.floats(-1e5, 1e5, width=32)


@st.composite
def detections(draw: st.DrawFn, *, dim: int | None = None) -> Detections:
    """Draw 0-6 detections; with embeddings of ``dim`` when given."""
    n = draw(st.integers(0, 6))
    corners = np.sort(draw(npst.arrays(np.float32, (n, 2, 2), elements=FLOAT)), axis=1)
    return Detections(
        corners.reshape(n, 4),
        draw(npst.arrays(np.float32, n, elements=st.floats(0, 1, width=32))),
        draw(npst.arrays(np.int64, n, elements=st.integers(0, 90))),
        None if dim is None else draw(npst.arrays(np.float32, (n, dim), elements=st.floats(-1, 1, width=32))),
    )


@st.composite
def tracks(draw: st.DrawFn) -> Tracks:
    """Draw 0-6 tracks with distinct ids."""
    found = draw(detections())
    n = len(found)
    ids = draw(st.lists(st.integers(0, 10**9), min_size=n, max_size=n, unique=True))
    column = npst.arrays(np.int64, n, elements=st.integers(0, 1000))
    states = draw(npst.arrays(np.int64, n, elements=st.integers(1, 2)))
    return Tracks(
        found.boxes,
        np.array(ids, np.int64),
        found.scores,
        found.labels,
        states,
        draw(column),
        draw(column),
        draw(column),
    )


@st.composite
def segmentation(draw: st.DrawFn) -> SegmentationMap:
    """Draw a small map of up to four classes."""
    shape = draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    return SegmentationMap(
        draw(npst.arrays(np.uint8, shape, elements=st.integers(0, 3))), ("sky", "road", "car", "dog")
    )


def assert_equal(first: object, second: object, fields: tuple[str, ...]) -> None:
    for name in fields:
        left, right = getattr(first, name), getattr(second, name)
        assert (left is None) == (right is None)
        if left is not None:
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)


@given(st.lists(detections(), max_size=4))
def test_concat_then_slice_is_identity(parts: list[Detections]) -> None:
    whole = Detections.concat(parts)
    start = 0
    for part in parts:
        assert_equal(whole[start : start + len(part)], part, DETECTION_FIELDS)
        start += len(part)
    assert len(whole) == start


@given(st.lists(detections(dim=3), min_size=1, max_size=4), detections())
def test_concat_keeps_embeddings_only_when_all_parts_have_them(parts: list[Detections], without: Detections) -> None:
    whole = Detections.concat(parts)
    assert (whole.embeddings is not None) == (len(whole) > 0)
    if len(without):
        assert Detections.concat([*parts, without]).embeddings is None


@given(detections(dim=2), st.data())
def test_mask_indices_and_slices_select_alike(found: Detections, data: st.DataObject) -> None:
    mask = data.draw(npst.arrays(np.bool_, len(found)))
    assert_equal(found[mask], found[np.flatnonzero(mask)], DETECTION_FIELDS)
    assert_equal(found[:], found, DETECTION_FIELDS)
    assert len(found[mask]) == mask.sum()
    order = np.array(data.draw(st.permutations(range(len(found)))), np.int64)
    assert_equal(found[order][np.argsort(order)], found, DETECTION_FIELDS)


@given(tracks(), st.data())
def test_tracks_select_all_columns_together(found: Tracks, data: st.DataObject) -> None:
    mask = data.draw(npst.arrays(np.bool_, len(found)))
    chosen = found[mask]
    for name in TRACK_FIELDS:
        np.testing.assert_array_equal(getattr(chosen, name), getattr(found, name)[mask])


@given(
    st.integers(0, 10**9),
    st.none() | st.floats(0, 1e6),
    st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
    st.none() | detections(),
    st.none() | tracks(),
    st.none() | segmentation(),
)
def test_frame_results_return_from_json(
    index: int,
    time_s: float | None,
    size_hw: tuple[int, int] | None,
    found: Detections | None,
    followed: Tracks | None,
    regions: SegmentationMap | None,
) -> None:
    result = FrameResult(index, time_s, "a b.mp4", size_hw, found, followed, regions, {"detect": 1.5})
    restored = FrameResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert (restored.frame_index, restored.timestamp_s, restored.size_hw) == (index, time_s, size_hw)
    assert (restored.source, dict(restored.timings_ms)) == ("a b.mp4", {"detect": 1.5})
    for before, after, fields in (
        (found, restored.detections, DETECTION_FIELDS),
        (followed, restored.tracks, TRACK_FIELDS),
        (regions, restored.segmentation, ("labels",)),
    ):
        assert (before is None) == (after is None)
        if before is not None:
            assert_equal(before, after, fields)


@given(detections(dim=4))
def test_embeddings_travel_in_json_when_asked_for(found: Detections) -> None:
    result = FrameResult(0, detections=found)
    restored = FrameResult.from_dict(json.loads(json.dumps(result.to_dict(embeddings=True)))).detections
    # The width of an empty table is not in its JSON.
    assert_equal(restored, found if len(found) else Detections.empty(), DETECTION_FIELDS)
    assert "embeddings" not in result.to_dict()["detections"]


@pytest.mark.parametrize("field", ["frame_index", "timestamp_s", "source", "size_hw", "timings_ms"])
def test_a_frame_result_without_a_field_is_refused(field: str) -> None:
    row = FrameResult(0).to_dict()
    del row[field]
    with pytest.raises(InvalidInputError, match=field):
        FrameResult.from_dict(row)


def build_detections(
    boxes: object, scores: object = (0.5,), labels: object = (0,), embeddings: object = None
) -> Detections:
    return Detections(np.asarray(boxes), np.asarray(scores), np.asarray(labels), embeddings)


BOX = [[0.0, 0.0, 1.0, 1.0]]
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "transposed boxes": (lambda: build_detections(np.zeros((4, 7))), r"got \(4, 7\); transpose, or pass boxes\.T"),
    "flat boxes": (lambda: build_detections(np.zeros(5)), r"must be float \[N, 4\] xyxy, got \(5,\)"),
    "NaN box": (lambda: build_detections([[0, 0, np.nan, 1]]), "boxes must be finite.*row 0"),
    "xywh box": (lambda: build_detections([[10, 10, 5, 5]]), "x1 <= x2.*xywh_to_xyxy"),
    "other number of scores": (lambda: build_detections(BOX, [0.1, 0.2]), r"scores must be \[N\].*N=1.*\(2,\)"),
    "NaN score": (lambda: build_detections(BOX, [np.nan]), "scores must be finite"),
    "negative label": (lambda: build_detections(BOX, labels=[-1]), "labels must be >= 0, got -1"),
    "flat embeddings": (lambda: build_detections(BOX, embeddings=np.zeros(3)), r"embeddings must be float \[N, D\]"),
    "infinite embedding": (lambda: build_detections(BOX, embeddings=[[np.inf]]), "embeddings must be finite"),
    "grey frame": (lambda: Frame(np.zeros((4, 4), np.uint8)), r"uint8 \[H, W, 3\] RGB, got uint8 \(4, 4\)"),
    "float frame": (lambda: Frame(np.zeros((4, 4, 3))), "got float64"),
    "list as frame": (lambda: Frame([[0]]), "got list"),
    "empty frame": (lambda: Frame(np.zeros((0, 4, 3), np.uint8)), "at least one pixel"),
    "label without name": (lambda: SegmentationMap(np.full((2, 2), 3, np.uint8), ("a",)), "must be < 1"),
    "float label map": (lambda: SegmentationMap(np.zeros((2, 2)), ("a",)), "pass argmax"),
    "scores of another size": (
        lambda: SegmentationMap(np.zeros((2, 2), np.uint8), ("a",), np.zeros((3, 3), np.float32)),
        "resize both",
    ),
    "track id twice": (
        lambda: Tracks(np.zeros((2, 4)), [5, 5], [0.5] * 2, [0] * 2, [2] * 2, [1] * 2, [0] * 2, [0] * 2),
        "ids must be unique",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_construction_says_what_was_expected_and_found(case: str) -> None:
    build, message = REFUSED[case]
    with pytest.raises(InvalidInputError, match=message):
        build()


def test_empty_values() -> None:
    assert len(Detections.empty()) == len(Tracks.empty()) == len(Detections.concat([])) == 0
    assert Detections.empty().boxes.shape == (0, 4)
    assert len(Detections(np.zeros(0), np.zeros(0), np.zeros(0))) == 0


def test_a_frame_shares_but_never_lends_its_pixels_for_writing() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    frame = Frame(image)
    with pytest.raises(ValueError, match="read-only"):
        frame.image[0, 0] = 1
    image[0, 0] = 1
    assert frame.size_hw == (2, 2)
