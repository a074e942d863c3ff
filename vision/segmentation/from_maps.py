"""Segmentation from a feature map that a detector has computed already: the rest of the FCN, without the first stages.

Legend of shape suffixes: B batch, C channels, H and W pixels of the network input, K classes, s the map's stride.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from vision.card import ModelCard
from vision.errors import ConfigError, InvalidInputError, StateError
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine
from vision.runtime.feature_maps import FeatureMaps, MapSource
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.fcn import FCN
from vision.segmentation.readout import Reading
from vision.segmentation.segmenter import batches_of
from vision.types import FloatArray, Frame, SegmentationMap


class FCNFromMap(nn.Module):
    """An FCN from one map of its backbone on; that map's stride is no coarser than the finest that is scored.

    Raises:
        ConfigError: a coarser one, or the backbone's first convolutions are not padded: its maps lack cells, which the
            network makes up for at the picture.
    """

    def __init__(self, network: FCN, stride: int) -> None:
        super().__init__()
        strides = network.backbone.strides
        if stride not in strides or stride > network.stride or any(network.backbone.trim):
            raise ConfigError(
                f"an FCN-{network.stride}s goes on from a map of {network.backbone.name}'s strides {strides} up to "
                f"{network.stride}, with all of its cells, got stride {stride}; segment whole pictures instead"
            )
        self.network = network
        self.start = strides.index(stride)

    def forward(self, map_BChw: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return what ``CoarseLogits`` returns for the picture whose map [B, C, H / s, W / s] this is."""
        backbone, features = self.network.backbone, [map_BChw]
        for stage in list(backbone.stages)[self.start + 1 :]:
            features.append(stage(features[-1]))
        first = backbone.strides.index(self.network.stride) - self.start
        return self.network.exported(self.network.fuse_scores(features[first:][::-1]))

    def extra_repr(self) -> str:
        """Return what tells exported graphs with another start apart in the cache."""
        return f"start={self.start}"


class MapSegmenter:
    """Segments frames by the maps of another network's first stages; stateless between calls.

    Args:
        engine: of an FCNFromMap.
        stride: of the map that it goes on from.
        digest: sha256 of the weights that the maps must come from.
        class_names: the name of each channel of the logits.
        source: computes maps where a detector has left none.
        reading: what is made of the logits.
        max_batch: most maps in one forward pass.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        stride: int,
        digest: str,
        class_names: tuple[str, ...],
        source: MapSource,
        reading: Reading | None = None,
        max_batch: int = 4,
    ) -> None:
        self.stride = stride
        self.digest = digest
        self.reading = reading or Reading(class_names)
        self.max_batch = max_batch
        self._source = source
        self._engine: Engine | None = engine

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label of a map."""
        return self.reading.output_names

    def segment(self, frames: Sequence[Frame]) -> list[SegmentationMap]:
        """Return one map a frame, whose feature maps are computed for it."""
        return self.segment_maps(self._source.extract(frames))

    def segment_maps(self, maps: Sequence[FeatureMaps]) -> list[SegmentationMap]:
        """Return one segmentation for the feature maps of each frame, at the frame's own size.

        Raises:
            InvalidInputError: the maps are of other weights or lack the stride.
            StateError: the segmenter was closed.
        """
        if self._engine is None:
            raise StateError("a segmenter must be open to be used, this one was closed; load it again")
        for each in maps:
            if each.digest != self.digest:
                raise InvalidInputError(
                    f"feature maps must be those of the weights {self.digest[:12]}, got {each.digest[:12] or 'unknown'}"
                    "; segment the frame itself",
                    expected=self.digest,
                    actual=each.digest,
                )
        features = [each.select((self.stride,)).maps[0] for each in maps]
        results: dict[int, SegmentationMap] = {}
        for rows in batches_of([each.letterbox for each in maps], self.max_batch):
            coarse: FloatArray = self._engine.run(np.stack([features[row] for row in rows]))[0]
            for row, logits in zip(rows, coarse, strict=True):
                results[row] = self.reading.read_coarse(logits, maps[row].letterbox)
        return [results[row] for row in range(len(maps))]

    def close(self) -> None:
        """Release the network; further calls raise StateError. Closing twice is allowed."""
        self._engine = None


def load_map_segmenter(
    card: ModelCard,
    network: FCN,
    config: SegmenterConfig,
    runtime: RuntimeConfig,
    *,
    stride: int,
    digest: str,
    source: MapSource,
) -> MapSegmenter:
    """Return the segmenter that goes on from another network's map.

    Args:
        card, network: the segmenter's, with its weights (``vision.segmentation.segmenter.load_network``).
        config, runtime: outputs, and where it runs.
        stride: of the map. digest: sha256 of the weights that the maps come from.
        source: computes such maps.
    """
    channels = network.backbone.channels_at(stride)
    spec = EngineInput((4 * network.multiple // stride,) * 2, dynamic_hw=True, digest=card.sha256, channels=channels)
    return MapSegmenter(
        build_engine(FCNFromMap(network, stride), spec, runtime),
        stride=stride,
        digest=digest,
        class_names=card.labels,
        source=source,
        reading=Reading(card.labels, kept=config.classes, scores=config.scores),
        max_batch=config.max_batch,
    )
