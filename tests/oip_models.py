"""Models without networks for tests of the service: what they say depends on the picture alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.loading import load_served
from service.models import FrameInput, ServedModel
from vision.runtime.config import RuntimeConfig
from vision.types import Classification, FloatArray, Frame, SegmentationMap


class PictureModel:
    """What all of them have in common."""

    task = ""
    engine = "none"
    max_batch = 4
    class_names: tuple[str, ...] = ()

    def prepare(self, frame: Frame, options: Any = None) -> FrameInput:
        return FrameInput(frame, options)

    def run(self, inputs: Sequence[FrameInput]) -> Sequence[Any]:
        return [self.answer(item.frame, item.options) for item in inputs]

    def answer(self, frame: Frame, options: Any) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        pass


class RedSegmenter(PictureModel):
    """Class 1 where a pixel is more red than not."""

    task = "segment"
    class_names = ("other", "red")

    def answer(self, frame: Frame, options: Any) -> SegmentationMap:
        return SegmentationMap((frame.image[..., 0] > 127).astype(np.uint8), self.class_names)


class ColourClassifier(PictureModel):
    """Scores by the mean of each colour."""

    task = "classify"
    class_names = ("red", "green", "blue")

    def answer(self, frame: Frame, options: Any) -> Classification:
        means = frame.image.reshape(-1, 3).mean(axis=0) / 255
        if means[0] == 1.0 and means[1] == 0.0:
            raise ValueError("/secret/path: pure red makes this model fail")
        order = np.argsort(-means, kind="stable")
        names = tuple(self.class_names[label] for label in order)
        found = Classification(order, means[order].astype(np.float32), names, 1)
        return found.top(options.top) if options is not None and options.top else found


class CornerEmbedder(PictureModel):
    """The size of each box and the colour of its first pixel."""

    task = "embed"
    dim = 5

    def answer(self, frame: Frame, options: FloatArray | None) -> FloatArray:
        height, width = frame.size_hw
        boxes = np.array([[0, 0, width, height]], np.float32) if options is None else options
        corners = boxes[:, :2].astype(int)
        colours = frame.image[corners[:, 1], corners[:, 0]].astype(np.float32)
        return np.concatenate([boxes[:, 2:] - boxes[:, :2], colours], axis=1)


def load_with_fakes(kind: str, name: str, runtime: RuntimeConfig) -> ServedModel:
    """Return the real detector, and models without networks for the other tasks."""
    fakes = {"segmenter": RedSegmenter, "classifier": ColourClassifier, "embedder": CornerEmbedder}
    return fakes[kind]() if kind in fakes else load_served(kind, name, runtime)
