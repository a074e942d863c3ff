"""The segmenter stage: frames in, one SegmentationMap a frame out, through an engine."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from vision.backbones.interface import Backbone
from vision.backbones.registry import build_classifier
from vision.card import ModelCard
from vision.errors import StateError
from vision.geometry.letterbox import Letterbox, rows_by_shape
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine
from vision.runtime.preprocess import Normalization, preprocess
from vision.runtime.weights import card_normalization, card_value, load_into
from vision.segmentation.config import PADDED_MULTIPLE, SegmenterConfig
from vision.segmentation.fcn import FCN
from vision.segmentation.readout import Reading, full_logits
from vision.types import FloatArray, Frame, SegmentationMap


class Segmenter(Protocol):
    """Anything that gives every pixel of a frame a class."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        ...

    def segment(self, frames: Sequence[Frame]) -> list[SegmentationMap]:
        """Return one map a frame, in order, of the frame's height and width."""
        ...

    def close(self) -> None:
        """Release the network; further calls raise StateError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SegmenterInput:
    """One frame made ready for the network, and what is to be made of its logits.

    Attributes:
        planes: float32 [3, H, W], the network's input.
        letterbox: the map that made it.
        reading: from logits to the frame's map.
    """

    planes: FloatArray
    letterbox: Letterbox
    reading: Reading

    @property
    def shape_key(self) -> Hashable:
        """Inputs with equal keys can share a batch."""
        return self.letterbox.padded_hw

    @property
    def nbytes(self) -> int:
        """Memory that waiting for the network takes."""
        return self.planes.nbytes


class EngineSegmenter:
    """Runs a network that gives logits on any grid through an engine. Stateless between calls: threads may share it.

    Args:
        engine: float32 [B, 3, H, W] to logits [B, K, h, w].
        class_names: the name of each channel of the logits.
        normalization: constants of the weights.
        multiple: the input's sides are padded to multiples of this.
        long_side: longer side in pixels that a picture is scaled to; 0 leaves its size.
        reading: what is made of the logits.
        max_batch: most pictures in one forward pass.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        class_names: tuple[str, ...],
        normalization: Normalization,
        multiple: int,
        long_side: int = 0,
        reading: Reading | None = None,
        max_batch: int = 4,
    ) -> None:
        self.reading = reading or Reading(class_names)
        self.channels = len(class_names)
        self.normalization = normalization
        self.multiple = multiple
        self.long_side = long_side
        self.max_batch = max_batch
        self._engine: Engine | None = engine

    def segment(self, frames: Sequence[Frame]) -> list[SegmentationMap]:
        """Return one map a frame; a frame's result does not depend on its company in the batch.

        Raises:
            StateError: the segmenter was closed.
        """
        maps = {row: self.reading.read_coarse(coarse, letterbox) for row, coarse, letterbox in self._each(frames)}
        return [maps[row] for row in range(len(frames))]

    def prepare(self, frame: Frame, reading: Reading | None = None, *, long_side: int = 0) -> SegmenterInput:
        """Return the network's input of a frame, which any thread may ask for; ``reading`` and ``long_side`` take the
        place of the segmenter's own where given."""
        letterbox = self.letterbox(frame, long_side)
        return SegmenterInput(
            preprocess(frame.image, letterbox, self.normalization), letterbox, reading or self.reading
        )

    def segment_prepared(self, inputs: Sequence[SegmenterInput]) -> list[SegmentationMap]:
        """Return the maps of inputs of one shape, as one batch; those that ``segment`` gives."""
        batch = np.stack([item.planes for item in inputs])
        return [
            item.reading.read_coarse(coarse, item.letterbox)
            for item, coarse in zip(inputs, self._run(batch), strict=True)
        ]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label of a map."""
        return self.reading.output_names

    def logits(self, frames: Sequence[Frame]) -> list[FloatArray]:
        """Return logits float32 [H, W, K] a frame, at its own size; those of all frames are in memory at once."""
        results = dict(self.each_logits(frames))
        return [results[row] for row in range(len(frames))]

    def each_logits(self, frames: Sequence[Frame]) -> Iterator[tuple[int, FloatArray]]:
        """Yield row and logits float32 [H, W, K] of each frame, those of one network input after the other.

        Logits take some 90 MB of a frame of 1080p: whoever drops them before asking on holds one frame's alone.
        """
        for row, coarse, letterbox in self._each(frames):
            yield row, full_logits(coarse, letterbox)

    def _each(self, frames: Sequence[Frame]) -> Iterator[tuple[int, FloatArray, Letterbox]]:
        """Yield row, the network's logits [K, h, w] and letterbox of each frame."""
        letterboxes = [self.letterbox(frame) for frame in frames]
        for rows in batches_of(letterboxes, self.max_batch):
            batch = np.stack([preprocess(frames[row].image, letterboxes[row], self.normalization) for row in rows])
            for row, coarse in zip(rows, self._run(batch), strict=True):
                yield row, coarse, letterboxes[row]

    def letterbox(self, frame: Frame, long_side: int = 0) -> Letterbox:
        """Return how a frame becomes the network's input, at another size than the segmenter's own if given."""
        long_side = long_side or self.long_side or max(frame.size_hw)
        return Letterbox.fit(frame.size_hw, long_side=long_side, multiple=self.multiple)

    def close(self) -> None:
        """Release the engine; further calls raise StateError. Closing twice is allowed."""
        self._engine = None

    def _run(self, batch: FloatArray) -> FloatArray:
        if self._engine is None:
            raise StateError("a segmenter must be open to be used, this one was closed; load it again")
        return self._engine.run(batch)[0]


def batches_of(letterboxes: Sequence[Letterbox], max_batch: int) -> list[list[int]]:
    """Return the rows of pictures whose network inputs have one shape, at most ``max_batch`` together."""
    groups = rows_by_shape(letterboxes).values()
    return [rows[start : start + max_batch] for rows in groups for start in range(0, len(rows), max_batch)]


def padded_multiple(backbone: Backbone) -> int:
    """Return what inputs are padded to multiples of: the backbone's last stride, and 64, which detectors with a level
    more need; so both see the same picture and can share their first stages."""
    return math.lcm(PADDED_MULTIPLE, backbone.strides[-1])


class CoarseLogits(nn.Module):
    """An FCN as it is exported; see ``FCN.exported``."""

    def __init__(self, network: FCN) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return logits [B, K, H / stride, W / stride], or [B, K, H, W] of a learnt enlargement."""
        return self.network.exported(self.network.coarse(images_BCHW))


def load_network(card: ModelCard) -> FCN:
    """Return the network of a card with its weights, in evaluation mode.

    Raises:
        ModelError: the card lacks a key. WeightsError: the weights do not fit it.
    """
    architecture = card.architecture
    network = FCN(
        build_classifier(card_value(card, "architecture", "backbone")).backbone,
        len(card.labels),
        stride=int(card_value(card, "architecture", "stride")),
        width=int(architecture.get("width", 0)),
        learnable=bool(architecture.get("learnable", False)),
    )
    load_into(network, card)
    return network.eval()


def load_fcn(card: ModelCard, config: SegmenterConfig, runtime: RuntimeConfig) -> EngineSegmenter:
    """Return the FCN segmenter that a model card describes; raises as ``load_network``."""
    network = load_network(card)
    spec = EngineInput(example_hw=(4 * network.multiple,) * 2, dynamic_hw=True, digest=card.sha256)
    return EngineSegmenter(
        build_engine(CoarseLogits(network), spec, runtime),
        class_names=card.labels,
        normalization=card_normalization(card),
        # Cards of other makers may name none.
        multiple=int(card.preprocess.get("multiple", network.multiple)),
        long_side=config.long_side or int(card_value(card, "preprocess", "long_side")),
        reading=Reading(card.labels, kept=config.classes, scores=config.scores),
        max_batch=config.max_batch,
    )
