"""Crops on canvases: people stand where their boxes say, little is hidden, the same seed gives the same features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from vision.errors import ConfigError, InvalidInputError
from vision.geometry.letterbox import Letterbox
from vision.runtime.feature_maps import FeatureMaps
from vision.training.datasets.canvases import (
    LARGEST_OVERLAP,
    PooledDataset,
    PooledSet,
    compose_canvas,
    draw_background,
    jitter_boxes,
    pool_training_features,
    read_backgrounds,
)
from vision.training.datasets.crops import BatchPlan, CropSet
from vision.training.roi_embedder_config import RoiEmbedderTrainingConfig
from vision.types import Frame

SIDE, HEIGHTS = 256, (30, 100)


class ColourSource:
    """A backbone whose one map of stride 16 is the mean colour of each cell."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def extract(self, frames: Sequence[Frame], *, long_side: int = 0) -> list[FeatureMaps]:
        assert long_side == SIDE
        self.sizes += [frame.size_hw for frame in frames]
        letterbox = Letterbox.fit((SIDE, SIDE), long_side=SIDE, multiple=64)
        cells = [cv2.resize(frame.image, (SIDE // 16, SIDE // 16), interpolation=cv2.INTER_AREA) for frame in frames]
        return [FeatureMaps(letterbox, (16,), (cell.transpose(2, 0, 1).astype(np.float32),), "") for cell in cells]


@pytest.fixture(scope="module")
def crops() -> CropSet:
    images = [np.full((128, 64, 3), 20 * person, np.uint8) for person in range(12)]
    return CropSet(images, np.arange(12), np.zeros(12, np.int64), tuple(map(str, range(12))))


def pool(source: ColourSource, crops: CropSet, seed: int = 0) -> PooledSet:
    return pool_training_features(source, crops, [], variants=2, canvas=SIDE, heights=HEIGHTS, seed=seed)


def test_people_stand_where_their_boxes_say(crops: CropSet) -> None:
    canvas, boxes, rows = compose_canvas(np.random.default_rng(0), crops, range(12), [], SIDE, HEIGHTS)
    assert canvas.shape == (SIDE, SIDE, 3)
    assert rows[0] == 0
    assert len(rows) == len(boxes) > 3
    assert (boxes >= 0).all()
    assert (boxes <= SIDE).all()
    heights = boxes[:, 3] - boxes[:, 1]
    assert ((heights >= HEIGHTS[0]) & (heights <= HEIGHTS[1])).all()
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        overlap = np.minimum(boxes[:, 2:], (x2, y2)) - np.maximum(boxes[:, :2], (x1, y1))
        hidden = np.delete(np.maximum(overlap, 0).prod(axis=1), i)
        assert (hidden <= LARGEST_OVERLAP * (x2 - x1) * (y2 - y1) + 1e-3).all()
    x1, y1, x2, y2 = boxes[-1].astype(int)
    # The last one pasted is hidden by nobody, and every crop is of one colour.
    assert np.ptp(canvas[y1:y2, x1:x2].reshape(-1, 3), axis=0).max() == 0


def test_every_crop_is_pasted_in_each_variant_and_the_seed_decides(crops: CropSet) -> None:
    source = ColourSource()
    pooled = pool(source, crops)
    assert pooled.features.shape == (2, 12, 3, 8, 4)
    assert pooled.features.dtype == np.float16
    assert set(source.sizes) == {(SIDE, SIDE)}
    assert (np.abs(pooled.features).max(axis=(2, 3, 4)) > 0).all()
    np.testing.assert_array_equal(pool(ColourSource(), crops).features, pooled.features)
    assert (pool(ColourSource(), crops, seed=1).features != pooled.features).any()
    # Brighter people have brighter features, whatever surrounds them.
    assert (
        np.corrcoef(pooled.features.astype(np.float32)[:, :, :, 4, 1:3].mean(axis=(0, 2, 3)), np.arange(12))[0, 1] > 0.8
    )


def test_people_larger_than_the_canvas_still_fit(crops: CropSet) -> None:
    _, boxes, rows = compose_canvas(np.random.default_rng(0), crops, [3], [], 64, (64, 64))
    assert rows == [3]
    assert (boxes[:, 3] - boxes[:, 1] == 64).all()


def test_backgrounds_cover_the_canvas() -> None:
    picture = np.arange(40 * 90 * 3, dtype=np.uint8).reshape(40, 90, 3)
    rng = np.random.default_rng(0)
    drawn = [draw_background(rng, [picture], 64) for _ in range(8)]
    assert {canvas.shape for canvas in drawn} == {(64, 64, 3)}
    assert sum(np.ptp(canvas) > 0 for canvas in drawn) >= 4


def test_backgrounds_are_read_from_below_a_folder(tmp_path: Path) -> None:
    assert read_backgrounds(None) == []
    with pytest.raises(InvalidInputError, match="plain colours"):
        read_backgrounds(tmp_path)
    (tmp_path / "below").mkdir()
    cv2.imwrite(str(tmp_path / "below" / "a.png"), np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "b.jpg").write_text("no picture")
    assert [picture.shape for picture in read_backgrounds(tmp_path)] == [(4, 6, 3)]


def test_boxes_move_with_their_size() -> None:
    boxes = np.tile(np.float32([[100, 100, 140, 200]]), (200, 1))
    moved = jitter_boxes(np.random.default_rng(0), boxes) - boxes
    assert np.abs(moved).max(axis=0) == pytest.approx([4, 10, 4, 10], rel=0.15)
    assert np.abs(moved.mean(axis=0)).max() < 1


def test_a_batch_is_decided_by_its_plan(crops: CropSet) -> None:
    dataset = PooledDataset(pool(ColourSource(), crops))
    plan = BatchPlan((3, 3, 5, 5), (0, 0, 7))
    batch, people = dataset[plan]
    assert batch.shape == (4, 3, 8, 4)
    assert people.tolist() == [3, 3, 5, 5]
    assert (dataset[plan][0] == batch).all()
    assert (dataset[BatchPlan((3, 3, 5, 5), (0, 0, 8))][0] != batch).any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"backbone": "resnet50"}, "backbone is no setting"),
        ({"freeze_stride": 4}, "stays frozen"),
        ({"people": 1}, "people, crops"),
        ({"variants": 0}, "variants"),
        ({"heights": (50, 40)}, "heights"),
        ({"heights": (40, 600)}, "canvas"),
        ({"strides": (8, 32)}, "strides"),
        ({"strides": ()}, "strides"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RoiEmbedderTrainingConfig(data=Path("crops"), **settings)  # type: ignore[arg-type]
