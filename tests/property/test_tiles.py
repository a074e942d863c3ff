"""Laws of tiles and of merging what was found in them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.detection.config import DetectorConfig, TileMatch
from vision.detection.merge import merge_detections
from vision.detection.tiles import TiledDetector, tile_grid, tile_starts
from vision.geometry.boxes import box_area
from vision.geometry.iou import pairwise_intersection, pairwise_iou
from vision.types import Detections, Frame

LENGTH = st.integers(1, 3000)
TILE = st.integers(8, 800)
OVERLAP = st.floats(0, 0.9)
MATCH = st.sampled_from(["border", "ios", "iou"])


@given(LENGTH, TILE, OVERLAP)
def test_tiles_cover_an_axis_exactly(length: int, tile: int, overlap: float) -> None:
    starts = tile_starts(length, tile, overlap)
    ends = [min(start + tile, length) for start in starts]
    assert starts[0] == 0
    assert ends[-1] == length
    assert starts == sorted(set(starts))
    # Only an axis shorter than a tile has a shorter one; neighbours share at least the overlap asked for.
    assert all(end - start == min(tile, length) for start, end in zip(starts, ends, strict=True))
    shared = min(round(tile * overlap), tile - 1)
    assert all(end - start >= shared for start, end in zip(starts[1:], ends[:-1], strict=True))


@given(LENGTH, TILE, OVERLAP)
def test_no_tile_of_an_axis_could_be_left_out(length: int, tile: int, overlap: float) -> None:
    starts = tile_starts(length, tile, overlap)
    fewest = 1 if length <= tile else -(-(length - tile) // max(1, tile - round(tile * overlap))) + 1
    assert len(starts) == fewest


@given(st.tuples(st.integers(1, 300), st.integers(1, 300)), st.integers(16, 200), st.floats(0, 0.8))
def test_every_pixel_lies_in_a_tile(size_hw: tuple[int, int], tile: int, overlap: float) -> None:
    seen = np.zeros(size_hw, bool)
    for x1, y1, x2, y2 in tile_grid(size_hw, tile, overlap):
        assert 0 <= x1 < x2 <= size_hw[1]
        assert 0 <= y1 < y2 <= size_hw[0]
        seen[y1:y2, x1:x2] = True
    assert seen.all()


@st.composite
def found(draw: st.DrawFn, max_rows: int = 12) -> tuple[Detections, np.ndarray]:
    """Draw detections that overlap often, and which of their sides are cut."""
    n = draw(st.integers(0, max_rows))
    # Few values: equal scores, equal corners and boxes inside each other are the cases that matter.
    corner = np.array(draw(st.lists(st.integers(0, 8), min_size=2 * n, max_size=2 * n)), float).reshape(n, 2)
    size = np.array(draw(st.lists(st.integers(0, 6), min_size=2 * n, max_size=2 * n)), float).reshape(n, 2)
    scores = draw(st.lists(st.sampled_from([0.1, 0.25, 0.5, 0.9]), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    cut = np.array(draw(st.lists(st.booleans(), min_size=4 * n, max_size=4 * n)), bool).reshape(n, 4)
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    return Detections(boxes, np.array(scores, np.float32), np.array(labels, np.int64)), cut


def rows_of(detections: Detections) -> list[tuple[float, ...]]:
    columns = zip(detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True)
    return [(*box, score, label) for box, score, label in columns]


@given(found(), MATCH, st.sampled_from([0.2, 0.5, 0.8, 1.0]), st.booleans())
def test_merging_twice_is_merging_once(
    drawn: tuple[Detections, np.ndarray], match: TileMatch, threshold: float, agnostic: bool
) -> None:
    options = {"match": match, "threshold": threshold, "class_agnostic": agnostic}
    once, cut = merge_detections(drawn[0], cut=drawn[1], **options)
    twice, cut_again = merge_detections(once, cut=cut, **options)
    assert rows_of(twice) == rows_of(once)
    np.testing.assert_array_equal(cut_again, cut)


@settings(max_examples=60)
@given(found(), MATCH, st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_the_rows_does_not_matter(
    drawn: tuple[Detections, np.ndarray], match: TileMatch, random: object, known: bool
) -> None:
    detections, cut = drawn
    order = list(range(len(detections)))
    random.shuffle(order)  # type: ignore[attr-defined]
    straight, cut_straight = merge_detections(detections, match=match, cut=cut if known else None)
    shuffled, cut_shuffled = merge_detections(detections[order], match=match, cut=cut[order] if known else None)
    assert rows_of(shuffled) == rows_of(straight)
    np.testing.assert_array_equal(cut_shuffled, cut_straight)


@given(found(), st.sampled_from(["ios", "iou"]), st.sampled_from([0.2, 0.5, 0.8]))
def test_plain_merging_leaves_no_match_and_invents_nothing(
    drawn: tuple[Detections, np.ndarray], match: TileMatch, threshold: float
) -> None:
    detections, _ = drawn
    merged, _ = merge_detections(detections, match=match, threshold=threshold)
    iou = pairwise_iou(merged.boxes, merged.boxes)
    areas = box_area(merged.boxes)
    smaller = np.minimum(areas[:, None], areas)
    shared = pairwise_intersection(merged.boxes, merged.boxes)
    ios = np.divide(shared, smaller, out=np.zeros_like(shared), where=shared > 0)
    pairs = np.triu(merged.labels[:, None] == merged.labels, 1)
    assert ((ios if match == "ios" else iou)[pairs] < threshold).all()
    # Every box found lies in one that is left, and the best score of each class is still there.
    for label in set(detections.labels.tolist()):
        old, new = detections[detections.labels == label], merged[merged.labels == label]
        inside = (old.boxes[:, None, :2] >= new.boxes[:, :2]) & (old.boxes[:, None, 2:] <= new.boxes[:, 2:])
        assert inside.all(axis=2).any(axis=1).all()
        assert new.scores.max() == old.scores.max()
    assert set(merged.scores.tolist()) <= set(detections.scores.tolist())
    assert merged.scores.tolist() == sorted(merged.scores.tolist(), reverse=True)


class RectangleDetector:
    """Finds the rectangles of a picture exactly, but none whose longer side is below a share of the picture's."""

    class_names = ("red", "green")

    def __init__(self, smallest_share: float = 0.0) -> None:
        self.smallest_share = smallest_share
        self.seen: list[list[tuple[int, int]]] = []

    def detect(self, frames: list[Frame]) -> list[Detections]:
        self.seen.append([frame.size_hw for frame in frames])
        return [self._detect_one(frame) for frame in frames]

    def _detect_one(self, frame: Frame) -> Detections:
        rows = []
        for label in range(2):
            stats = cv2.connectedComponentsWithStats(np.ascontiguousarray(frame.image[:, :, label]))[2][1:]
            rows += [(x, y, x + w, y + h, label) for x, y, w, h, _ in stats.tolist()]
        table = np.array(rows, np.float32).reshape(-1, 5)
        sides = (table[:, 2:4] - table[:, :2]).max(axis=1, initial=0)
        table = table[sides >= self.smallest_share * max(frame.size_hw)]
        return Detections(table[:, :4], np.full(len(table), 0.9), table[:, 4].astype(int))


@st.composite
def pictures(draw: st.DrawFn, largest: int) -> tuple[Frame, list[tuple[float, ...]]]:
    """Draw a picture with rectangles that do not touch, and what a perfect detector finds in it."""
    cell = largest + 3
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    image = np.zeros((rows * cell, columns * cell, 3), np.uint8)
    truth = []
    for place in range(rows * columns):
        if not draw(st.booleans()):
            continue
        width, height = draw(st.integers(2, largest)), draw(st.integers(2, largest))
        label = draw(st.integers(0, 1))
        x = place % columns * cell + draw(st.integers(1, cell - width - 1))
        y = place // columns * cell + draw(st.integers(1, cell - height - 1))
        image[y : y + height, x : x + width, label] = 255
        truth.append((float(x), float(y), float(x + width), float(y + height), pytest.approx(0.9), label))
    return Frame(image), truth


def key(row: tuple[object, ...]) -> tuple[object, ...]:
    return (*row[:4], row[5])


@settings(max_examples=40)
@given(pictures(largest=20), st.sampled_from([64, 80, 101]), st.booleans())
def test_what_fits_into_the_overlap_is_found_once_and_exactly(
    drawn: tuple[Frame, list[tuple[float, ...]]], tile: int, full: bool
) -> None:
    frame, truth = drawn
    config = DetectorConfig(tile=tile, overlap=0.35, tile_full=full)
    (result,) = TiledDetector(RectangleDetector(), config).detect([frame])
    assert sorted(rows_of(result), key=key) == sorted(truth, key=key)


@settings(max_examples=40)
@given(pictures(largest=90), st.sampled_from([64, 80]))
def test_what_is_larger_than_a_tile_is_found_once_and_exactly(
    drawn: tuple[Frame, list[tuple[float, ...]]], tile: int
) -> None:
    frame, truth = drawn
    (result,) = TiledDetector(RectangleDetector(), DetectorConfig(tile=tile)).detect([frame])
    assert sorted(rows_of(result), key=key) == sorted(truth, key=key)
