"""Tiled detection on stand-ins: what reaches the detector, what comes back, and limits."""

from __future__ import annotations

import numpy as np
import pytest

from vision.detection.config import DetectorConfig
from vision.detection.tiles import TiledDetector, cut_sides, tile_grid, tile_starts
from vision.errors import ConfigError
from vision.types import Detections, Frame


class CornerDetector:
    """Finds one box of 10 x 10 in the middle of each picture and remembers what it was given."""

    class_names = ("thing",)

    def __init__(self) -> None:
        self.calls: list[list[Frame]] = []

    def detect(self, frames: list[Frame]) -> list[Detections]:
        self.calls.append(list(frames))
        return [self._found(frame) for frame in frames]

    def _found(self, frame: Frame) -> Detections:
        height, width = frame.size_hw
        middle = np.array([[width / 2 - 5, height / 2 - 5, width / 2 + 5, height / 2 + 5]], np.float32)
        return Detections(middle, np.array([frame.image.mean() / 255], np.float32), np.zeros(1, np.int64))


def make_frame(size_hw: tuple[int, int], index: int = 0) -> Frame:
    columns = np.linspace(0, 255, size_hw[1]).astype(np.uint8)
    return Frame(np.repeat(np.broadcast_to(columns[:, None], (size_hw[1], 3))[None], size_hw[0], axis=0), index=index)


def test_a_picture_of_one_tile_is_left_to_the_detector() -> None:
    plain, inner = CornerDetector(), CornerDetector()
    frame = make_frame((64, 100))
    (expected,) = plain.detect([frame])
    (found,) = TiledDetector(inner, DetectorConfig(tile=100)).detect([frame])
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert inner.calls == [[frame]]


def test_each_tile_reaches_the_detector_once_in_bounded_batches() -> None:
    inner = CornerDetector()
    frame = make_frame((300, 250))
    TiledDetector(inner, DetectorConfig(tile=100, overlap=0.2, tile_batch=5)).detect([frame])
    *tiles, whole = inner.calls
    assert [len(call) for call in tiles] == [5, 5, 2]
    assert {tile.size_hw for call in tiles for tile in call} == {(100, 100)}
    assert whole == [frame]
    # Views of the picture, not copies: a tile costs no memory of its own.
    assert all(np.shares_memory(tile.image, frame.image) for call in tiles for tile in call)


def test_boxes_come_back_in_pixels_of_the_picture_best_first() -> None:
    config = DetectorConfig(tile=100, overlap=0.0, tile_full=False)
    (found,) = TiledDetector(CornerDetector(), config).detect([make_frame((100, 300))])
    assert found.boxes.tolist() == [[245, 45, 255, 55], [145, 45, 155, 55], [45, 45, 55, 55]]
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_the_limit_holds_for_the_picture() -> None:
    (found,) = TiledDetector(CornerDetector(), DetectorConfig(tile=50, max_det=4)).detect([make_frame((200, 200))])
    assert len(found) == 4


def test_frames_do_not_mix() -> None:
    frames = [make_frame((100, 300), 0), make_frame((40, 50), 1), make_frame((220, 100), 2)]
    config = DetectorConfig(tile=80, tile_batch=3)
    together = TiledDetector(CornerDetector(), config).detect(frames)
    for frame, found in zip(frames, together, strict=True):
        (alone,) = TiledDetector(CornerDetector(), config).detect([frame])
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        np.testing.assert_array_equal(found.scores, alone.scores)
    assert TiledDetector(CornerDetector(), config).detect([]) == []


def test_the_whole_picture_adds_only_what_tiles_cannot_see() -> None:
    # The box of 10 x 10 in the middle of the picture is smaller than the overlap: tiles are trusted to have it.
    frame = make_frame((100, 180))
    (small,) = TiledDetector(CornerDetector(), DetectorConfig(tile=100, overlap=0.2)).detect([frame])
    assert [85, 45, 95, 55] not in small.boxes.tolist()
    (large,) = TiledDetector(CornerDetector(), DetectorConfig(tile=100, overlap=0.05)).detect([frame])
    assert [85, 45, 95, 55] in large.boxes.tolist()


def test_only_borders_behind_which_the_picture_goes_on_cut() -> None:
    boxes = np.array([[0, 0, 100, 100], [10, 10, 99.5, 97.9]], np.float32)
    for tile, expected in [
        ((0, 0, 100, 100), [[False, False, True, True], [False, False, True, False]]),
        ((0, 0, 100, 200), [[False, False, True, False], [False, False, True, False]]),
    ]:
        assert cut_sides(boxes, np.array(tile), (200, 200)).tolist() == expected


def test_starts_of_an_axis() -> None:
    assert tile_starts(1, 640, 0.2) == [0]
    assert tile_starts(640, 640, 0.2) == [0]
    assert tile_starts(641, 640, 0.2) == [0, 1]
    assert tile_starts(1152, 640, 0.2) == [0, 512]
    assert tile_starts(1280, 640, 0.0) == [0, 640]
    assert tile_grid((640, 1153), 640, 0.2).tolist() == [[0, 0, 640, 640], [512, 0, 1152, 640], [513, 0, 1153, 640]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tile": -1}, "detection.tile must be 0"),
        ({"tile": 31}, "at least 32 pixels, got 31"),
        ({"overlap": 0.95}, r"detection.overlap must be in \[0, 0.9\], got 0.95"),
        ({"tile_match": "giou"}, "one of border, ios, iou, got 'giou'"),
        ({"tile_threshold": 0.0}, r"tile_threshold must be in \(0, 1\], got 0.0"),
        ({"tile_batch": 0}, "tile_batch must be >= 1, got 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DetectorConfig(**settings)  # type: ignore[arg-type]


def test_a_tiled_detector_needs_a_tile() -> None:
    with pytest.raises(ConfigError, match=r"detection.tile > 0, got 0"):
        TiledDetector(CornerDetector(), DetectorConfig())
