"""The embedder: a frame and its boxes in, unit-norm appearance vectors out, all crops in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision.backbones.registry import build_backbone
from vision.card import ModelCard
from vision.errors import ConfigError, InvalidInputError, ModelError, StateError
from vision.geometry.boxes import clip_boxes
from vision.geometry.letterbox import Letterbox
from vision.reid.network import EmbeddingNetwork
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine
from vision.runtime.preprocess import Normalization, preprocess
from vision.runtime.weights import card_normalization, card_value, load_into
from vision.types import FloatArray, Frame, ImageArray
from vision.validation import as_boxes, describe


class Embedder:
    """Computes appearance embeddings with an engine.

    Attributes:
        dim: dimensions D of an embedding.
        size_hw: height and width in pixels that every crop is stretched to.
        max_batch: most crops in one forward pass.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        dim: int,
        normalization: Normalization,
        size_hw: tuple[int, int] = (128, 64),
        max_batch: int = 64,
    ) -> None:
        if max_batch < 1:
            raise ConfigError(f"max_batch must be >= 1, got {max_batch}; 64 is the default")
        self.dim = dim
        self.size_hw = size_hw
        self.max_batch = max_batch
        self._engine: Engine | None = engine
        self._normalization = normalization

    def embed(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        """Return unit-norm float32 [N, D], row i for box i of ``boxes`` [N, 4].

        Boxes may reach over the frame's border, lie outside or have no area: each shows at least one pixel.

        Raises:
            InvalidInputError: boxes are not finite xyxy [N, 4].
        """
        return self.embed_crops([frame.image[rows, columns] for rows, columns in crop_slices(boxes, frame.size_hw)])

    def embed_frames(self, frames: Sequence[Frame], boxes: Sequence[FloatArray]) -> list[FloatArray]:
        """Return for each frame what ``embed`` gives with its boxes; the crops of all frames share batches."""
        crops = [
            [frame.image[rows, columns] for rows, columns in crop_slices(own, frame.size_hw)]
            for frame, own in zip(frames, boxes, strict=True)
        ]
        embeddings = self.embed_crops([crop for own in crops for crop in own])
        ends = np.cumsum([len(own) for own in crops])
        return np.split(embeddings, ends[:-1]) if len(frames) else []

    def embed_crops(self, crops: Sequence[ImageArray]) -> FloatArray:
        """Return unit-norm float32 [N, D] of pictures uint8 [h, w, 3] RGB of any sizes, each showing one object.

        Raises:
            InvalidInputError: a crop is no such picture, or has no pixel.
            StateError: the embedder was closed.
        """
        if self._engine is None:
            raise StateError("an embedder must be open to be used, this one was closed; load it again")
        embeddings = np.zeros((len(crops), self.dim), np.float32)
        for start in range(0, len(crops), self.max_batch):
            chunk = crops[start : start + self.max_batch]
            batch = np.stack([self._preprocess(crop, start + i) for i, crop in enumerate(chunk)])
            embeddings[start : start + len(chunk)] = self._engine.run(batch)[0]
        return embeddings

    def close(self) -> None:
        """Release the engine; further calls raise StateError. Closing twice is allowed."""
        self._engine = None

    def _preprocess(self, crop: ImageArray, index: int) -> FloatArray:
        if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or 0 in crop.shape:
            raise InvalidInputError(
                f"crops must be uint8 [h, w, 3] RGB of at least one pixel, got {describe(crop)} at index {index}; "
                "cut them out of a frame's image"
            )
        return preprocess(crop, Letterbox.stretch((crop.shape[0], crop.shape[1]), self.size_hw), self._normalization)


def crop_slices(boxes: FloatArray, size_hw: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Return the rows and columns of a frame that each box [N, 4] covers, whole pixels, at least one of each.

    >>> crop_slices(np.float32([[1.5, 0, 3.2, 2], [-9, -9, -4, -4]]), (4, 4))
    [(slice(0, 2, None), slice(1, 4, None)), (slice(0, 1, None), slice(0, 1, None))]
    """
    height, width = size_hw
    # Clipped before rounding: a box far outside would not fit an integer.
    clipped = clip_boxes(as_boxes(boxes), size_hw)
    first = np.minimum(np.floor(clipped[:, :2]), (width - 1, height - 1)).astype(int)
    last = np.maximum(np.ceil(clipped[:, 2:]).astype(int), first + 1)
    return [(slice(y1, y2), slice(x1, x2)) for (x1, y1), (x2, y2) in zip(first.tolist(), last.tolist(), strict=True)]


def load_embedder(card: ModelCard, runtime: RuntimeConfig | None = None, *, max_batch: int = 64) -> Embedder:
    """Return the embedder that a model card describes, running in the engine that ``runtime`` chooses.

    Raises:
        ModelError: the card is not an embedder's, or lacks a key.
        WeightsError: the weights do not fit the card or the network.
    """
    network = load_network(card)
    height, width = (int(side) for side in card_value(card, "preprocess", "size_hw"))
    spec = EngineInput(example_hw=(height, width), dynamic_hw=False, digest=card.sha256)
    return Embedder(
        build_engine(network, spec, runtime or RuntimeConfig()),
        dim=network.dim,
        normalization=card_normalization(card),
        size_hw=(height, width),
        max_batch=max_batch,
    )


def load_network(card: ModelCard) -> EmbeddingNetwork:
    """Return the network of a card with its weights, in evaluation mode; raises as ``load_embedder``."""
    if card.kind != "embedder":
        raise ModelError(
            f"{card.name} must be an embedder to be used here, its card says {card.kind}; see stride32 models list",
            expected="embedder",
            actual=card.kind,
        )
    network = EmbeddingNetwork(
        build_backbone(card_value(card, "architecture", "backbone")),
        stride=int(card_value(card, "architecture", "stride")),
        dim=int(card_value(card, "architecture", "dim")),
        # Named by cards of networks that have them.
        stripes=int(card.architecture.get("stripes", 0)),
        dense=bool(card.architecture.get("dense", False)),
    )
    load_into(network, card)
    return network.eval()
