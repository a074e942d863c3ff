"""The classifier stage: frames in, one Classification a frame out, through an engine.

The network is a backbone with its head and gives logits; which classes they mean, and whether these exclude each other,
is known here (``Readout``), so the same weights serve the sliding window and the segmenter.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from vision.backbones import interface
from vision.backbones.registry import build_classifier
from vision.card import ModelCard
from vision.classification.config import ClassifierConfig
from vision.classification.input import InputSpec, input_image
from vision.classification.readout import Readout, read_logits
from vision.errors import ModelError, StateError
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine
from vision.runtime.weights import card_value, load_into
from vision.types import Classification, FloatArray, Frame


class FrameClassifier(Protocol):
    """Anything that says of whole frames what they show."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label; empty for a regression."""
        ...

    def classify(self, frames: Sequence[Frame]) -> list[Classification]:
        """Return one result a frame, in order."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ClassifierInput:
    """One frame made ready for the network, and how many classes are wanted (0: all).

    Attributes:
        planes: float32 [3, H, W], the network's input.
        top: classes reported, surest first.
    """

    planes: FloatArray
    top: int

    @property
    def shape_key(self) -> Hashable:
        """Inputs with equal keys can share a batch."""
        return self.planes.shape

    @property
    def nbytes(self) -> int:
        """Memory that waiting for the network takes."""
        return self.planes.nbytes


class EngineClassifier:
    """Runs a classifier network through an engine. Stateless between calls: safe to share by threads.

    Attributes:
        readout: what the outputs mean.
        spec: what the network's input is.
    """

    def __init__(self, engine: Engine, *, readout: Readout, spec: InputSpec, top: int = 0, max_batch: int = 64) -> None:
        self.readout = readout
        self.spec = spec
        self._top = top or len(readout.class_names)
        self._max_batch = max_batch
        self._engine: Engine | None = engine

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label; empty for a regression."""
        return self.readout.class_names

    def classify(self, frames: Sequence[Frame]) -> list[Classification]:
        """Return one result a frame; a frame's result does not depend on its company in the batch."""
        return [self.readout.classification(row).top(self._top) for row in self.outputs(frames)]

    def outputs(self, frames: Sequence[Frame]) -> FloatArray:
        """Return probabilities [N, K] in label order, or values [N, 1] of a regression: for metrics and thresholds.

        Raises:
            StateError: the classifier was closed.
        """
        rows = [np.zeros((0, max(1, len(self.class_names))), np.float32)]
        for start in range(0, len(frames), self._max_batch):
            chunk = frames[start : start + self._max_batch]
            rows.append(self._run(np.stack([input_image(frame.image, self.spec) for frame in chunk])))
        return np.concatenate(rows)

    def prepare(self, frame: Frame, top: int = 0) -> ClassifierInput:
        """Return the network's input of a frame, which any thread may ask for."""
        return ClassifierInput(input_image(frame.image, self.spec), top or len(self.class_names))

    def classify_prepared(self, inputs: Sequence[ClassifierInput]) -> list[Classification]:
        """Return what the inputs show, as one batch; what ``classify`` gives."""
        rows = self._run(np.stack([item.planes for item in inputs]))
        return [self.readout.classification(row).top(item.top) for row, item in zip(rows, inputs, strict=True)]

    def _run(self, batch: FloatArray) -> FloatArray:
        if self._engine is None:
            raise StateError("a classifier must be open to be used, this one was closed; load it again")
        return read_logits(self._engine.run(batch)[0], self.readout)

    def close(self) -> None:
        """Release the engine; further calls raise StateError. Closing twice is allowed."""
        self._engine = None


@dataclass(frozen=True, slots=True, eq=False)
class LoadedNetwork:
    """A classifier network with its weights, and what its input and outputs are; ``digest`` identifies the weights."""

    network: interface.Classifier
    spec: InputSpec
    readout: Readout
    digest: str


def load_classifier(
    card: ModelCard, config: ClassifierConfig | None = None, runtime: RuntimeConfig | None = None
) -> EngineClassifier:
    """Return the classifier that a model card describes.

    Raises:
        ModelError: the card is not a classifier's, or lacks a key.
        WeightsError: the weights do not fit the card or the network.
    """
    return start_engine(load_network(card), config or ClassifierConfig(), runtime or RuntimeConfig())


def start_engine(loaded: LoadedNetwork, config: ClassifierConfig, runtime: RuntimeConfig) -> EngineClassifier:
    """Return the classifier running in the engine that ``runtime`` chooses, with the configuration's threshold if it
    names one."""
    threshold = loaded.readout.threshold if config.threshold == "auto" else config.threshold
    engine_input = EngineInput(example_hw=loaded.spec.size_hw, dynamic_hw=False, digest=loaded.digest)
    return EngineClassifier(
        build_engine(loaded.network, engine_input, runtime),
        readout=replace(loaded.readout, threshold=threshold),
        spec=loaded.spec,
        top=config.top,
        max_batch=config.max_batch,
    )


def load_network(card: ModelCard) -> LoadedNetwork:
    """Return the network of a card with its weights, in evaluation mode; raises as ``load_classifier``."""
    if card.kind != "classifier":
        raise ModelError(
            f"{card.name} must be a classifier to be used here, its card says {card.kind}; see stride32 models list",
            expected="classifier",
            actual=card.kind,
        )
    for key in ("size_hw", "resize", "mean", "std"):
        card_value(card, "preprocess", key)
    card_value(card, "architecture", "task")
    readout = Readout.from_card(card.architecture, card.labels)
    network = build_classifier(card_value(card, "architecture", "backbone"), readout.outputs)
    load_into(network, card)
    return LoadedNetwork(network.eval(), InputSpec.from_card(card.preprocess), readout, card.sha256)
