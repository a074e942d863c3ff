"""Feature maps of a detector's backbone: along with its answers, in one forward pass, or alone for given boxes.

Legend of shape suffixes: B batch, C channels, H and W pixels of the network input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from vision.backbones.interface import Backbone
from vision.card import ModelCard
from vision.detection.network import AnchorDetectorNetwork
from vision.errors import ConfigError
from vision.geometry.letterbox import Letterbox, rows_by_shape
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine
from vision.runtime.feature_maps import FeatureMaps
from vision.runtime.preprocess import Normalization, preprocess
from vision.runtime.weights import card_normalization, card_value
from vision.types import Frame


class DetectorWithMaps(nn.Module):
    """An anchor detector's network that returns maps of its backbone after logits and deltas."""

    def __init__(self, network: AnchorDetectorNetwork, strides: Sequence[int]) -> None:
        super().__init__()
        check_strides(network.backbone, strides)
        self.network = network
        self.strides = tuple(strides)

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:  # noqa: N803 - shape suffix
        """Return logits [B,A,K], deltas [B,A,4] and the map [B,C,H/stride,W/stride] of each stride."""
        features = self.network.backbone(images_BCHW)
        return (*self.network.predict(features), *self.network.backbone.select(features, self.strides))

    def extra_repr(self) -> str:
        """Return what tells exported graphs with other outputs apart in the cache."""
        return f"strides={self.strides}"


class BackboneMaps(nn.Module):
    """The stages of a detector's backbone up to the coarsest stride that is wanted; no neck, no heads."""

    def __init__(self, backbone: Backbone, strides: Sequence[int]) -> None:
        super().__init__()
        check_strides(backbone, strides)
        self.stages = nn.ModuleList(list(backbone.stages)[: backbone.strides.index(max(strides)) + 1])
        self.wanted = tuple(backbone.strides.index(stride) for stride in strides)

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:  # noqa: N803 - shape suffix
        """Return the map [B,C,H/stride,W/stride] of each stride."""
        features = []
        x = images_BCHW
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features[index] for index in self.wanted)

    def extra_repr(self) -> str:
        """Return what tells exported graphs with other outputs apart in the cache."""
        return f"wanted={self.wanted}"


class MapExtractor:
    """Computes a detector's backbone maps of frames without looking for objects; stateless between calls."""

    def __init__(
        self,
        engine: Engine,
        *,
        strides: tuple[int, ...],
        multiple: int,
        normalization: Normalization,
        long_side: int,
        digest: str,
    ) -> None:
        self.engine = engine
        self.strides = strides
        self.multiple = multiple
        self.normalization = normalization
        self.long_side = long_side
        self.digest = digest

    @property
    def fill(self) -> tuple[int, int, int]:
        """The RGB colour that the input maps to about 0, as the padding of a letterbox has."""
        red, green, blue = (round(value) for value in self.normalization.mean)
        return red, green, blue

    def extract(self, frames: Sequence[Frame], *, long_side: int = 0) -> list[FeatureMaps]:
        """Return the maps of each frame: at the detector's own scale those that the detector itself would hand out.

        Frames whose network inputs have the same shape run as one batch.

        Args:
            frames: pictures of any sizes.
            long_side: longer side of the input in pixels; 0 takes the detector's.
        """
        letterboxes = [fit_frame(frame, long_side or self.long_side, self.multiple) for frame in frames]
        found: dict[int, FeatureMaps] = {}
        for rows in rows_by_shape(letterboxes).values():
            batch = np.stack([preprocess(frames[row].image, letterboxes[row], self.normalization) for row in rows])
            maps = self.engine.run(batch)
            for place, row in enumerate(rows):
                own = tuple(feature[place] for feature in maps)
                found[row] = FeatureMaps(letterboxes[row], self.strides, own, self.digest)
        return [found[row] for row in range(len(frames))]


def fit_frame(frame: Frame, long_side: int, multiple: int) -> Letterbox:
    """Return the letterbox in which a detector sees a frame."""
    return Letterbox.fit(frame.size_hw, long_side=long_side, multiple=multiple)


def check_strides(backbone: Backbone, strides: Sequence[int]) -> None:
    """Raise ConfigError unless the backbone has a map of each stride."""
    if not strides or not set(strides) <= set(backbone.strides):
        raise ConfigError(
            f"maps are wanted of strides that {backbone.name} has, {backbone.strides}, got {tuple(strides)}; "
            "name one or more of these"
        )


def map_channels(backbone: Backbone, strides: Sequence[int]) -> tuple[int, ...]:
    """Return the channels of the map of each stride."""
    check_strides(backbone, strides)
    return tuple(backbone.channels_at(stride) for stride in strides)


def load_map_extractor(
    card: ModelCard,
    network: AnchorDetectorNetwork,
    strides: tuple[int, ...],
    runtime: RuntimeConfig,
    *,
    long_side: int = 0,
) -> MapExtractor:
    """Return the extractor of a detector's maps.

    Args:
        card: the detector's. network: with its weights; see ``vision.detection.detector.load_network``.
        strides: of the maps, ascending.
        runtime: device and engine.
        long_side: longer side of the input in pixels; 0 takes the card's.
    """
    spec = EngineInput(example_hw=(4 * network.multiple,) * 2, dynamic_hw=True, digest=card.sha256)
    return MapExtractor(
        build_engine(BackboneMaps(network.backbone, strides), spec, runtime),
        strides=strides,
        multiple=network.multiple,
        normalization=card_normalization(card),
        long_side=long_side or int(card_value(card, "preprocess", "long_side")),
        digest=card.sha256,
    )
