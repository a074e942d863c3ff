"""Streams whose networks are a few lines of numpy, for tests of what is around them: squares are the objects."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace

import cv2
import numpy as np

from service.sessions.frames import Decode, pool_decoder
from service.sessions.store import SessionStore
from service.settings import Settings
from service.stream_options import StreamOptions
from service.work import Priority
from vision.build import build_camera_motion, build_tracker
from vision.config import PipelineConfig
from vision.io.images import ImageLimits
from vision.pipeline import Pipeline
from vision.types import Detections, FloatArray, Frame, ImageArray, SegmentationMap

SIZE_HW = (96, 128)
SQUARE = 20


def picture(step: int, *, squares: int = 2, size_hw: tuple[int, int] = SIZE_HW) -> ImageArray:
    """Return a frame in which squares of different reds have moved to the right ``step`` times."""
    image = np.zeros((*size_hw, 3), np.uint8)
    image[..., 1] = (np.indices(size_hw).sum(axis=0) * 7 % 61).astype(np.uint8)
    for number in range(squares):
        left, top = (4 + 2 * step + 50 * number) % (size_hw[1] - SQUARE), 6 + 40 * number
        image[top : top + SQUARE, left : left + SQUARE] = (255 - 20 * number, 10, 40 * number)
    return image


def png(step: int, **options: int) -> bytes:
    """Return the frame as PNG, which loses nothing."""
    ok, data = cv2.imencode(".png", picture(step, **options)[..., ::-1])
    assert ok
    return data.tobytes()


class SquareDetector:
    """Finds red squares; fails or waits when told to.

    Attributes:
        failures: raised by the next calls, one each.
        gate: calls wait until it is set.
        seen: indices of the frames that were asked about.
    """

    class_names = ("square", "other")

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.seen: list[int] = []

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        for frame in frames:
            self.seen.append(frame.index)
        assert self.gate.wait(10), "the test left the gate shut"
        if self.failures:
            raise self.failures.pop(0)
        return [self._squares(frame.image) for frame in frames]

    def _squares(self, image: ImageArray) -> Detections:
        count, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 150).astype(np.uint8))
        boxes = [[x, y, x + w, y + h] for x, y, w, h, _ in stats[1:count].tolist()]
        # Scores with many digits: what is compared number for number must have some to lose.
        scores = [0.9 - 1 / (3 + box[0]) for box in boxes]
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.zeros(len(boxes), np.int64)
        )

    def close(self) -> None:
        """Nothing is held."""


class ColourEmbedder:
    """Mean colours as looks."""

    dim = 4

    def embed(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        rows = [
            [1.0, *frame.image[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1].mean(axis=(0, 1))]
            for x1, y1, x2, y2 in boxes
        ]
        found = np.array(rows, np.float32).reshape(-1, self.dim)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)

    def embed_crops(self, crops: Sequence[ImageArray]) -> FloatArray:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


class HalvesSegmenter:
    """Says that the upper half is sky and the rest road; fails when told to."""

    class_names = ("sky", "road")

    def __init__(self) -> None:
        self.failures: list[Exception] = []

    def segment(self, frames: Sequence[Frame]) -> list[SegmentationMap]:
        if self.failures:
            raise self.failures.pop(0)
        maps = [np.zeros(frame.size_hw, np.uint8) for frame in frames]
        for labels in maps:
            labels[len(labels) // 2 :] = 1
        return [SegmentationMap(labels, self.class_names) for labels in maps]

    def close(self) -> None:
        """Nothing is held."""


class SquareBuilder:
    """A StreamBuilder whose models are the above; all streams share them, as on the server."""

    def __init__(self) -> None:
        self.detector = SquareDetector()
        self.segmenter = HalvesSegmenter()
        self.embedder = ColourEmbedder()

    def check(self, options: StreamOptions) -> PipelineConfig:
        config = options.to_config(PipelineConfig())
        name = options.model or "squares"
        return replace(config, detection=replace(config.detection, model=name))

    def open(self, options: StreamOptions, *, priority: Priority = Priority.INTERACTIVE) -> Pipeline:
        config = self.check(options)
        return Pipeline(
            detector=self.detector,
            embedder=self.embedder if config.tracking.appearance else None,
            camera=build_camera_motion(config.tracking),
            tracker=build_tracker(config.tracking),
            segmenter=self.segmenter if options.segment else None,
        )


def square_store(builder: SquareBuilder, pool: Executor, **settings: object) -> SessionStore:
    """Return a store of such streams; ``settings`` are fields of Settings."""
    made = Settings(_env_file=None, **{"session_workers": 4, **settings})
    return SessionStore(builder, made, square_decoder(pool))


def square_decoder(pool: Executor) -> Decode:
    """Return a decoder with small limits."""
    return pool_decoder(pool, ImageLimits(max_pixels=200_000, max_bytes=1 << 20))
