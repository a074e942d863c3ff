"""Tiles of large pictures: a network that looks at single pixels gives what it gives of the whole, without seams."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.errors import ConfigError, StateError
from vision.runtime.preprocess import Normalization
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.readout import Reading
from vision.segmentation.segmenter import EngineSegmenter
from vision.segmentation.tiles import TiledSegmenter, tile_starts, tile_weights
from vision.types import FloatArray, Frame, SegmentationMap

NAMES = ("red", "green", "blue")


class Pointwise:
    """Gives each class the colour channel of its number, at the input's size, and remembers the batches."""

    name = "pointwise"

    def __init__(self, ramp: bool = False) -> None:
        self.ramp = ramp
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: FloatArray) -> list[FloatArray]:
        """Return the batch itself; with ``ramp``, more by the place within the tile, as networks are unsure there."""
        self.shapes.append(batch.shape)
        rise = np.linspace(0, 1, batch.shape[3], dtype=np.float32) if self.ramp else np.float32(0)
        return [batch + rise]


def make(engine: Pointwise, *, multiple: int = 1, **fields: object) -> tuple[EngineSegmenter, TiledSegmenter]:
    plain = EngineSegmenter(
        engine, class_names=NAMES, normalization=Normalization((0.0,) * 3, (1.0,) * 3), multiple=multiple
    )
    return plain, TiledSegmenter(plain, SegmenterConfig(**fields))


def frame(size_hw: tuple[int, int], seed: int = 0) -> Frame:
    return Frame(np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8))


@settings(deadline=None, max_examples=25)
@given(
    size_hw=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    tile=st.integers(32, 60),
    overlap=st.floats(0, 0.9),
    max_batch=st.integers(1, 5),
)
def test_tiles_of_a_pointwise_network_are_the_whole(
    size_hw: tuple[int, int], tile: int, overlap: float, max_batch: int
) -> None:
    engine = Pointwise()
    plain, tiled = make(engine, multiple=8, tile=tile, tile_overlap=overlap, max_batch=max_batch)
    (expected,) = plain.logits([frame(size_hw)])
    engine.shapes.clear()
    (found,) = tiled.logits([frame(size_hw)])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert max(shape[0] for shape in engine.shapes) <= max_batch
    assert max(max(shape[2:]) for shape in engine.shapes) <= -(-tile // 8) * 8


@settings(deadline=None)
@given(length=st.integers(1, 5000), side=st.integers(16, 800), overlap=st.floats(0, 0.9))
def test_tiles_cover_everything_and_share_what_they_should(length: int, side: int, overlap: float) -> None:
    starts = tile_starts(length, side, overlap)
    assert starts[0] == 0
    assert min(starts[-1] + side, length) == length
    steps = np.diff(starts)
    assert (steps > 0).all()
    # Rounding to whole pixels may take one.
    assert (steps <= side * (1 - overlap) + 1).all()
    assert (steps <= side).all()


def test_weights_fall_to_the_border_and_never_to_nothing() -> None:
    weights = tile_weights(5, 8)[:, :, 0]
    assert weights.shape == (5, 8)
    assert weights.min() > 0
    assert weights[2, 3] == weights.max()
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])
    assert tile_weights(1, 1).tolist() == [[[0.5]]]


def test_no_seam_shows() -> None:
    """What rises within each tile and jumps between them is blended: no step is half of the jump."""
    flat = Frame(np.zeros((20, 100, 3), np.uint8))
    _, tiled = make(Pointwise(ramp=True), tile=40, tile_overlap=0.5)
    steps = np.abs(np.diff(tiled.logits([flat])[0][10, :, 0]))
    assert steps.max() < 0.1


def test_a_picture_smaller_than_a_tile_is_one_call() -> None:
    engine = Pointwise()
    _, tiled = make(engine, tile=64)
    assert [each.labels.shape for each in tiled.segment([frame((30, 64)), frame((64, 1))])] == [(30, 64), (64, 1)]
    assert engine.shapes == [(1, 3, 30, 64), (1, 3, 64, 1)]
    tiled.close()
    with pytest.raises(StateError, match="closed"):
        tiled.segment([frame((4, 4))])


def test_one_pictures_logits_are_held_at_a_time() -> None:
    """Only then does max_batch bound the memory: logits at full size are far larger than what the network takes."""
    alive: set[int] = set()
    most = []

    class Counted(Reading):
        def read(self, logits_HWK: FloatArray) -> SegmentationMap:  # noqa: N803
            alive.add(id(logits_HWK))
            weakref.finalize(logits_HWK, alive.discard, id(logits_HWK))
            most.append(len(alive))
            return super().read(logits_HWK)

    for size_hw in ((20, 30), (50, 70)):
        plain, tiled = make(Pointwise(), tile=32)
        plain.reading = Counted(NAMES)
        frames = [frame(size_hw, seed) for seed in range(6)]
        for segmenter in (plain, tiled):
            assert [found.labels.shape for found in segmenter.segment(frames)] == [size_hw] * 6
    assert max(most) <= 2


def test_labels_and_names_are_the_segmenters() -> None:
    engine = Pointwise()
    plain, tiled = make(engine, tile=32)
    maps: Sequence[np.ndarray] = [each.segment([frame((70, 33))])[0].labels for each in (plain, tiled)]
    np.testing.assert_array_equal(*maps)
    assert tiled.class_names == NAMES


@pytest.mark.parametrize("tile", [-1, 1, 31])
def test_tiles_of_a_few_pixels_are_refused(tile: int) -> None:
    with pytest.raises(ConfigError, match=rf"tile must be 0 \(off\) or at least 32 pixels, got {tile}"):
        SegmenterConfig(tile=tile)
