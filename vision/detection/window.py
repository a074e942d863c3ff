"""The sliding-window detector: an image pyramid, one run of the network a level, decoding and NMS over all levels.

This is how detection was done before anchors (Sermanet et al. 2013, OverFeat; before it Dalal and Triggs 2005 with
another classifier). `LiteralCrops` does the same in the way of 2005: it cuts out every window and classifies each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from vision.card import ModelCard
from vision.detection.classes import relabel, wanted_labels
from vision.detection.config import DetectorConfig
from vision.detection.decode import decode_detections
from vision.detection.window_network import WindowArchitecture, WindowGeometry, WindowNetwork, joint_logits
from vision.detection.window_pyramid import PyramidLevel, build_pyramid
from vision.geometry.letterbox import Letterbox
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine
from vision.runtime.preprocess import Normalization
from vision.runtime.weights import card_normalization, card_value, load_into
from vision.types import Detections, FloatArray, Frame

FAMILY = "window"
CROP_BATCH = 64


class WindowDetector:
    """Runs a WindowNetwork over the image pyramid of each frame. Stateless between calls: safe to share by threads."""

    def __init__(
        self,
        engine: Engine,
        *,
        geometry: WindowGeometry,
        class_names: tuple[str, ...],
        normalization: Normalization,
        long_side: int,
        scales_per_octave: int,
        config: DetectorConfig,
    ) -> None:
        self.engine = engine
        self.geometry = geometry
        self.class_names = class_names
        self.normalization = normalization
        self.long_side = config.long_side or long_side
        self.scales_per_octave = scales_per_octave
        self.config = config
        self._wanted_labels = wanted_labels(config.classes, class_names)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame, best first, in pixels of that frame.

        Frames of one size share the levels, each of which runs as one batch. A frame gives the same result in any
        company.
        """
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, frame in enumerate(frames):
            groups[frame.size_hw].append(row)
        results: list[Detections] = [Detections.empty()] * len(frames)
        for size_hw, rows in groups.items():
            for row, found in zip(rows, self._detect_group([frames[row] for row in rows], size_hw), strict=True):
                results[row] = found
        return results

    def levels(self, size_hw: tuple[int, int]) -> list[PyramidLevel]:
        """Return the pyramid of a frame of the given height and width."""
        return build_pyramid(size_hw, self.geometry, long_side=self.long_side, scales_per_octave=self.scales_per_octave)

    def run_level(self, frames: Sequence[Frame], level: PyramidLevel) -> list[FloatArray]:
        """Return class logits [B,N,K], objectness [B,N] and deltas [B,N,4] of the level's windows in frames of one
        size."""
        scaled = [level.scale(frame.image) for frame in frames]
        strips = [
            self.engine.run(np.stack([level.canvas(image, rows, self.normalization) for image in scaled]))
            for rows in level.strips(len(frames))
        ]
        return [np.concatenate(parts, axis=1) for parts in zip(*strips, strict=True)]

    def _detect_group(self, frames: Sequence[Frame], size_hw: tuple[int, int]) -> list[Detections]:
        levels = self.levels(size_hw)
        outputs = [self.run_level(frames, level) for level in levels]
        classes, objectness, deltas = (np.concatenate(parts, axis=1) for parts in zip(*outputs, strict=True))
        logits = joint_logits(torch.from_numpy(classes), torch.from_numpy(objectness))
        if self._wanted_labels is not None:
            # Before decoding: an unwanted class must not use up max_det or suppress a wanted one.
            logits = logits[:, :, self._wanted_labels]
        # In pixels of the frame, so that windows of all levels compete in one NMS.
        windows = torch.cat([level.nominal_boxes() for level in levels])
        as_is = Letterbox(size_hw, size_hw, size_hw)
        return [
            relabel(
                decode_detections(logits[place], torch.from_numpy(deltas[place]), windows, as_is, self.config),
                self._wanted_labels,
            )
            for place in range(len(frames))
        ]


class LiteralCrops:
    """An engine that cuts every window out of its input and runs each by itself: the slow reference.

    Its outputs are those of the wrapped engine, whose network sees no more than the window; a test holds the shipped
    model to that.
    """

    def __init__(self, engine: Engine, geometry: WindowGeometry, *, batch: int = CROP_BATCH) -> None:
        self.engine = engine
        self.geometry = geometry
        self.batch = batch

    @property
    def name(self) -> str:
        """Engine and device."""
        return f"{self.engine.name}, window by window"

    def run(self, batch: FloatArray) -> list[FloatArray]:
        """Return the outputs for canvases float32 [B, 3, H, W], row by row of windows."""
        windows = np.lib.stride_tricks.sliding_window_view(batch, self.geometry.crop_hw, axis=(2, 3))
        windows = windows[:, :, :: self.geometry.stride, :: self.geometry.stride]  # [B, 3, rows, columns, h, w]
        pictures, _, rows, columns = windows.shape[:4]
        places = [(b, r, c) for b in range(pictures) for r in range(rows) for c in range(columns)]
        parts = [
            self.engine.run(np.stack([windows[b, :, r, c] for b, r, c in places[start : start + self.batch]]))
            for start in range(0, len(places), self.batch)
        ]
        outputs = [np.concatenate(column) for column in zip(*parts, strict=True)]  # [windows, aspects, ...]
        return [output.reshape(pictures, -1, *output.shape[2:]) for output in outputs]


def load_window_detector(card: ModelCard, config: DetectorConfig, runtime: RuntimeConfig) -> WindowDetector:
    """Return the sliding-window detector that a model card describes.

    Raises:
        ModelError: the card lacks a key.
        WeightsError: the weights do not fit the card.
        ConfigError: a wanted class or the device does not exist.
    """
    network = load_window_network(card)
    crop_hw = network.geometry.crop_hw
    spec = EngineInput(
        example_hw=(crop_hw[0] + 2 * network.geometry.stride, crop_hw[1] + network.geometry.stride),
        dynamic_hw=True,
        digest=card.sha256,
    )
    return WindowDetector(
        build_engine(network, spec, runtime),
        geometry=network.geometry,
        class_names=card.labels,
        normalization=card_normalization(card),
        long_side=int(card_value(card, "preprocess", "long_side")),
        scales_per_octave=int(card_value(card, "preprocess", "scales_per_octave")),
        config=config,
    )


def load_window_network(card: ModelCard) -> WindowNetwork:
    """Return the network of a card with its weights, in evaluation mode."""
    for key in ("backbone", "stride", "depth", "cells_hw", "hidden", "size", "aspects"):
        card_value(card, "architecture", key)
    network = WindowNetwork(WindowArchitecture.from_table(card.architecture), len(card.labels))
    load_into(network, card)
    return network.eval()
