"""Tiles on real pictures: people of the demo's clip, small in a large picture, at places that are known."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from vision.build import build_detector
from vision.cli.demo import find_clip
from vision.cli.main import app
from vision.detection.config import DetectorConfig
from vision.geometry.iou import pairwise_iou
from vision.io.sources import open_source
from vision.runtime.config import RuntimeConfig
from vision.types import Frame

RUNTIME = RuntimeConfig(device="cpu")
# Frames of the clip with a person who is easily seen at full size.
FRAMES = (36, 42, 78, 108, 114, 120, 126, 132, 192, 198, 204, 210)
SHRUNK_WH = (140, 60)
CANVAS_HW = (900, 1440)
TILE = 320
SURE = 0.45


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    with open_source(str(find_clip())) as source:
        return [frame for frame in islice(source, FRAMES[-1] + 1) if frame.index in FRAMES]


@pytest.fixture(scope="module")
def collage(frames: list[Frame]) -> tuple[Frame, np.ndarray]:
    """Return a grey picture with the shrunk frames three times over, and the boxes of their people.

    The truth is what the detector finds in each frame at its full size.
    """
    detector = build_detector(DetectorConfig(conf=SURE), RUNTIME)
    canvas = np.full((*CANVAS_HW, 3), 114, np.uint8)
    scale = SHRUNK_WH[0] / frames[0].image.shape[1]
    found = [detector.detect([frame])[0].boxes * scale for frame in frames]
    boxes = []
    for place in range(3 * len(frames)):
        # Steps that fit no tile, so that the borders of tiles cut people in different places.
        x, y = 40 + place % 6 * 231, 30 + place // 6 * 143
        shrunk = cv2.resize(frames[place % len(frames)].image, SHRUNK_WH, interpolation=cv2.INTER_AREA)
        canvas[y : y + SHRUNK_WH[1], x : x + SHRUNK_WH[0]] = shrunk
        boxes.append(found[place % len(frames)] + (x, y, x, y))
    return Frame(canvas), np.concatenate(boxes)


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of true boxes that a found one covers with IoU 0.5."""
    return float((pairwise_iou(truth, found).max(axis=1, initial=0) >= 0.5).mean())


def test_tiles_find_the_small_people_that_the_whole_picture_loses(collage: tuple[Frame, np.ndarray]) -> None:
    frame, truth = collage
    assert len(truth) >= 20
    (whole,) = build_detector(DetectorConfig(), RUNTIME).detect([frame])
    (tiled,) = build_detector(DetectorConfig(tile=TILE), RUNTIME).detect([frame])
    print(f"{len(truth)} people: recall {recall(whole.boxes, truth):.2f} whole, {recall(tiled.boxes, truth):.2f} tiled")
    assert recall(whole.boxes, truth) < 0.3
    assert recall(tiled.boxes, truth) > 0.7
    # No person twice: boxes that a tile cut have gone where the whole one is.
    overlap = pairwise_iou(tiled.boxes, tiled.boxes) - np.eye(len(tiled))
    assert overlap.max() < 0.5


def test_a_picture_of_one_tile_gives_what_the_detector_gives(frames: list[Frame]) -> None:
    (plain,) = build_detector(DetectorConfig(), RUNTIME).detect(frames[:1])
    (tiled,) = build_detector(DetectorConfig(tile=640), RUNTIME).detect(frames[:1])
    assert len(plain)
    np.testing.assert_array_equal(tiled.boxes, plain.boxes)
    np.testing.assert_array_equal(tiled.scores, plain.scores)


@pytest.mark.parametrize("command", [["detect"], ["track"]])
def test_options_reach_the_settings(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "x.png", "--tile", "416", "--overlap", "0.3", "--print-config"])
    assert "tile = 416\n" in done.stdout
    assert "overlap = 0.3\n" in done.stdout


def test_detect_on_tiles_writes_boxes_all_over_the_picture(collage: tuple[Frame, np.ndarray], tmp_path: Path) -> None:
    picture = tmp_path / "large.png"
    cv2.imwrite(str(picture), collage[0].image[:, :, ::-1])
    out = tmp_path / "found.csv"
    done = CliRunner().invoke(app, ["detect", str(picture), "--tile", str(TILE), "--csv", str(out), "--device", "cpu"])
    assert done.exception is None, done.output
    assert len(out.read_text().splitlines()) > 15
