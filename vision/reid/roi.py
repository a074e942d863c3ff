"""The single-pass embedder: appearance vectors cut out of the feature maps of the detector's own forward pass.

An embedder of crops (embedder.py) runs a network for each object; this one pools what the detector has computed already
and runs a small head on it. Its head knows the features of one backbone alone, so it belongs to one detector's weights
and says so when it meets others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vision.card import ModelCard
from vision.errors import ConfigError, InvalidInputError, ModelError, StateError
from vision.reid.config import CROP_HEIGHT
from vision.reid.roi_network import GRID, RoiEmbeddingNetwork, pool_boxes, pooled_channels
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine
from vision.runtime.feature_maps import FeatureMaps, MapSource
from vision.runtime.preprocess import resize
from vision.runtime.weights import card_value, load_into
from vision.types import FloatArray, Frame, ImageArray
from vision.validation import as_boxes, describe

KIND = "roi-embedder"
CROP_ASPECT = 0.5  # width by height, that of the crops the head learnt from
# Around such a crop: what lies this far away hardly reaches the features inside.
CROP_MARGIN = 32
# A box without area shows at least this much of the network's input, in pixels.
SMALLEST_SIDE = 1.0


class RoiEmbedder:
    """Computes appearance embeddings from feature maps; stateless between calls.

    Attributes:
        dim: dimensions D of an embedding.
        strides: of the maps it pools.
        detector, detector_digest: name and sha256 of the weights whose maps it was trained on.
        crop_height: height in pixels at which ``embed_crops`` shows a crop to the backbone.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        dim: int,
        strides: tuple[int, ...],
        detector: str,
        detector_digest: str,
        maps: MapSource | None = None,
        fill: tuple[int, int, int] = (127, 127, 127),
        max_batch: int = 64,
        crop_height: int = CROP_HEIGHT,
    ) -> None:
        """Join the parts.

        Args:
            engine: runs a RoiEmbeddingNetwork.
            dim, strides, detector, detector_digest, crop_height: see the class.
            maps: computes maps where none are at hand: of frames with given boxes, and of crops.
            fill: RGB around a crop, which the network's input maps to 0.
            max_batch: most boxes in one pass of the head.
        """
        if max_batch < 1 or crop_height < 1:
            raise ConfigError(
                f"max_batch and crop_height must be >= 1, got {max_batch} and {crop_height}; 64 and {CROP_HEIGHT} are "
                "the defaults"
            )
        self.dim = dim
        self.strides = strides
        self.detector = detector
        self.detector_digest = detector_digest
        self.max_batch = max_batch
        self.crop_height = crop_height
        self._maps = maps
        self._fill = fill
        self._engine: Engine | None = engine

    def embed_maps(self, maps: FeatureMaps, boxes: FloatArray) -> FloatArray:
        """Return unit-norm float32 [N, D], row i for box i of ``boxes`` [N, 4] xyxy in pixels of the frame.

        Boxes may reach over the frame's border, lie outside or have no area.

        Raises:
            InvalidInputError: boxes are not finite xyxy [N, 4], or the maps are of other weights or strides.
            StateError: the embedder was closed.
        """
        engine = self._open_engine()
        if maps.digest != self.detector_digest or maps.strides != self.strides:
            raise InvalidInputError(
                f"feature maps must be those of {self.detector} (sha256 {self.detector_digest[:12]}), strides "
                f"{self.strides}, got sha256 {maps.digest[:12] or 'unknown'}, strides {maps.strides}; load the "
                "detector with map_strides, or train the head for this one"
            )
        pooled = pool_maps(maps, boxes)
        embeddings = np.zeros((len(pooled), self.dim), np.float32)
        for start in range(0, len(pooled), self.max_batch):
            embeddings[start : start + self.max_batch] = engine.run(pooled[start : start + self.max_batch])[0]
        return embeddings

    def embed(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        """Return what ``embed_maps`` returns when no detector has left its maps: one pass of the backbone for the
        frame, whatever the number of boxes."""
        self._open_engine()
        boxes = as_boxes(boxes)
        if not len(boxes):
            return np.zeros((0, self.dim), np.float32)
        return self.embed_maps(self._source().extract([frame])[0], boxes)

    def embed_crops(self, crops: Sequence[ImageArray]) -> FloatArray:
        """Return unit-norm float32 [N, D] of pictures uint8 [h, w, 3] RGB, each showing one object.

        Each is stretched to ``crop_height``, half as wide, and shown to the backbone on a canvas of its own, so its
        embedding does not depend on the others. That costs a pass for each: it is for measuring and for searching in
        folders of crops, not for frames.

        Raises:
            InvalidInputError: a crop is no such picture, or has no pixel.
            StateError: the embedder was closed.
        """
        engine = self._open_engine()
        embeddings = np.zeros((len(crops), self.dim), np.float32)
        for start in range(0, len(crops), self.max_batch):
            chunk = crops[start : start + self.max_batch]
            pooled = crop_features(self._source(), chunk, height=self.crop_height, fill=self._fill, first=start)
            embeddings[start : start + len(chunk)] = engine.run(pooled)[0]
        return embeddings

    def close(self) -> None:
        """Release the engine; further calls raise StateError. Closing twice is allowed."""
        self._engine = None
        self._maps = None

    def _open_engine(self) -> Engine:
        if self._engine is None:
            raise StateError("an embedder must be open to be used, this one was closed; load it again")
        return self._engine

    def _source(self) -> MapSource:
        if self._maps is None:
            raise StateError(
                f"pictures without feature maps need the backbone of {self.detector}, this embedder has none; load it "
                "with maps=, or pass the detector's maps to embed_maps"
            )
        return self._maps


def pool_maps(maps: FeatureMaps, boxes: FloatArray) -> FloatArray:
    """Return the head's input float32 [N, C, P, Q] for boxes [N, 4] xyxy in pixels of the frame; see ``pool_boxes``."""
    network_boxes = torch.from_numpy(_visible_boxes(maps, as_boxes(boxes)))
    if not len(network_boxes):
        channels = pooled_channels([len(feature) for feature in maps.maps], maps.strides)
        return np.zeros((0, channels, *GRID), np.float32)
    tensors = [torch.from_numpy(np.ascontiguousarray(feature)).unsqueeze(0) for feature in maps.maps]
    pooled: FloatArray = pool_boxes(tensors, maps.strides, network_boxes).numpy()
    return pooled


def _visible_boxes(maps: FeatureMaps, boxes: FloatArray) -> FloatArray:
    """Return boxes of the frame in pixels of the network's input, cut to the picture, with sides of a pixel at least.

    A box that lies outside shows the nearest border: the same rule as for crops.
    """
    height, width = maps.letterbox.scaled_hw
    scale = np.asarray(maps.letterbox.scale_xy * 2, np.float64)
    # In double precision: a box far outside must be clipped and not overflow.
    scaled = np.clip(boxes.astype(np.float64) * scale, 0, (width, height, width, height))
    first = np.minimum(scaled[:, :2], (width - SMALLEST_SIDE, height - SMALLEST_SIDE))
    last = np.maximum(scaled[:, 2:], first + SMALLEST_SIDE)
    return np.concatenate([first, last], axis=1).astype(np.float32)


def crop_features(
    source: MapSource,
    crops: Sequence[ImageArray],
    *,
    height: int,
    fill: tuple[int, int, int],
    batch: int = 32,
    first: int = 0,
) -> FloatArray:
    """Return the head's input float32 [N, C, P, Q] for N >= 1 crops, each alone on a canvas, ``height`` pixels tall.

    Args:
        source: the backbone.
        crops: uint8 [h, w, 3] RGB of any sizes.
        height: in pixels of the network's input.
        fill: RGB around the crop.
        batch: most canvases in one pass.
        first: number of the first crop, for messages.

    Raises:
        InvalidInputError: a crop is no such picture.
    """
    for index, crop in enumerate(crops, first):
        check_crop(crop, index)
    pooled = []
    for start in range(0, len(crops), batch):
        shown = [crop_canvas(crop, height, fill) for crop in crops[start : start + batch]]
        frames = [Frame(canvas) for canvas, _ in shown]
        # All canvases have one size, and the network's input keeps it.
        found = source.extract(frames, long_side=max(frames[0].size_hw))
        pooled += [pool_maps(maps, box) for maps, (_, box) in zip(found, shown, strict=True)]
    return np.concatenate(pooled)


def crop_canvas(crop: ImageArray, height: int, fill: tuple[int, int, int]) -> tuple[ImageArray, FloatArray]:
    """Return a canvas with the crop stretched to ``height`` pixels in its middle, and its box float32 [1, 4]."""
    width = max(1, round(height * CROP_ASPECT))
    canvas = np.empty((height + 2 * CROP_MARGIN, width + 2 * CROP_MARGIN, 3), np.uint8)
    canvas[:] = fill
    canvas[CROP_MARGIN : CROP_MARGIN + height, CROP_MARGIN : CROP_MARGIN + width] = resize(crop, (height, width))
    corners = (CROP_MARGIN, CROP_MARGIN, CROP_MARGIN + width, CROP_MARGIN + height)
    return canvas, np.asarray([corners], np.float32)


def check_crop(crop: ImageArray, index: int) -> None:
    """Raise InvalidInputError unless a crop is uint8 [h, w, 3] with at least one pixel."""
    if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or 0 in crop.shape:
        raise InvalidInputError(
            f"crops must be uint8 [h, w, 3] RGB of at least one pixel, got {describe(crop)} at index {index}; "
            "cut them out of a frame's image"
        )


def load_roi_embedder(
    card: ModelCard,
    runtime: RuntimeConfig | None = None,
    *,
    maps: MapSource | None = None,
    max_batch: int = 64,
    crop_height: int = CROP_HEIGHT,
) -> RoiEmbedder:
    """Return the single-pass embedder that a model card describes.

    Args:
        card, runtime: model, and where its head runs.
        maps: backbone of the card's detector, for frames and crops without maps; None where all come with maps.
        max_batch, crop_height: see RoiEmbedder.

    Raises:
        ModelError: the card is of another kind, or lacks a key.
        WeightsError: the weights do not fit the card or the network.
    """
    network = load_roi_network(card)
    spec = EngineInput(example_hw=GRID, dynamic_hw=False, digest=card.sha256, channels=network.channels)
    red, green, blue = (round(value) for value in card_value(card, "preprocess", "mean"))
    return RoiEmbedder(
        build_engine(network, spec, runtime or RuntimeConfig()),
        dim=network.dim,
        strides=card_strides(card),
        detector=str(card_value(card, "architecture", "detector")),
        detector_digest=str(card_value(card, "architecture", "detector_sha256")),
        maps=maps,
        fill=(red, green, blue),
        max_batch=max_batch,
        crop_height=crop_height,
    )


def card_strides(card: ModelCard) -> tuple[int, ...]:
    """Return the strides of the maps that a single-pass embedder's card wants."""
    return tuple(int(stride) for stride in card_value(card, "architecture", "strides"))


def load_roi_network(card: ModelCard) -> RoiEmbeddingNetwork:
    """Return the head of a card with its weights, in evaluation mode; raises as ``load_roi_embedder``."""
    if card.kind != KIND:
        raise ModelError(
            f"{card.name} must be a {KIND} to be used here, its card says {card.kind}; see stride32 models list",
            expected=KIND,
            actual=card.kind,
        )
    channels = tuple(int(count) for count in card_value(card, "architecture", "channels"))
    network = RoiEmbeddingNetwork(
        pooled_channels(channels, card_strides(card)),
        dim=int(card_value(card, "architecture", "dim")),
        width=int(card_value(card, "architecture", "width")),
        depth=int(card_value(card, "architecture", "depth")),
    )
    load_into(network, card)
    return network.eval()
