"""The embedding network: crops of detected objects to unit-norm appearance vectors; runs inside an engine.

Legend of shape suffixes: B crops, C channels, H and W pixels, D dimensions of the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.interface import Backbone
from vision.errors import ConfigError

HEAD_CHANNELS = 512
POOL_POWER = 3.0
# Keeps the root's gradient finite where a channel is zero everywhere.
POOL_FLOOR = 1e-4


class EmbeddingNetwork(nn.Module):
    """A backbone cut after one stride, a pooled head and a batch-norm neck (Luo 2019, "Bag of tricks", section 3.5).

    The triplet loss pulls on the feature before the neck, where distances are free; classification and inference use
    the one after it, whose centred, equally scaled dimensions suit cosine similarity. Cutting at stride 16 keeps an
    8 x 4 map of a 128 x 64 crop and leaves out most of the backbone's parameters.

    With ``stripes`` the map is pooled over that many horizontal bands too (Sun 2018, PCB): head, trunk and legs keep
    their places. All pools go through one projection, so an embedding stays as long as it was and costs the same.

    With ``dense`` the last stage does not halve the map (Luo 2019, section 3.4): finer places, at four times its cost.

    Attributes:
        backbone: the stages that are used.
        stride, dim, stripes, dense: as given.
    """

    def __init__(
        self, backbone: Backbone, *, stride: int = 16, dim: int = 128, stripes: int = 0, dense: bool = False
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ConfigError(f"dim must be >= 1, got {dim}; 128 is the default")
        if stripes < 0:
            raise ConfigError(f"stripes must be >= 0, got {stripes}; 0 pools the whole map alone")
        channels = backbone.channels_at(stride)
        self.backbone = cut_backbone(backbone, stride)
        self.dense = dense
        if dense:
            unstride(self.backbone.stages[-1])
        self.stride = stride
        self.dim = dim
        self.stripes = stripes if stripes > 1 else 0
        # Backbone outputs are linear bottlenecks with negative values; the power mean below needs an activation.
        self.head = nn.Sequential(
            nn.Conv2d(channels, HEAD_CHANNELS, 1, bias=False), nn.BatchNorm2d(HEAD_CHANNELS), nn.ReLU6(inplace=True)
        )
        self.projection = nn.Linear(HEAD_CHANNELS * (1 + self.stripes), dim, bias=False)
        self.neck = nn.BatchNorm1d(dim)
        # Without a shift the classes' half-spaces pass through the origin, where cosine similarity has its centre.
        self.neck.bias.requires_grad_(False)

    def features(self, crops_BCHW: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803 - shape suffix
        """Return the features before and after the neck, both [B, D] and not normalised; training needs the two."""
        return self.embed_pools(self.pools(crops_BCHW))

    def pools(self, crops_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return what is pooled from the map, [B, 1 + stripes, HEAD_CHANNELS]: the whole first, then from the top."""
        map_BCHW = self.head(self.backbone(crops_BCHW)[-1])
        whole = generalised_mean(map_BCHW)[:, None]
        if not self.stripes:
            return whole
        bands = [generalised_mean(band)[:, None] for band in map_BCHW.chunk(self.stripes, dim=2)]
        return torch.cat([whole, *bands], dim=1)

    def embed_pools(self, pools: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``features`` of what ``pools`` gave."""
        raw_BD = self.projection(pools.flatten(1))
        return raw_BD, self.neck(raw_BD)

    def forward(self, crops_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return unit-norm embeddings [B, D]; the norm is part of the graph, so every engine's output has it."""
        return F.normalize(self.features(crops_BCHW)[1], dim=1)


def generalised_mean(features_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
    """Return the power mean [B, C] over the map (Radenovic 2018), which lies between average and maximum."""
    return features_BCHW.clamp(min=POOL_FLOOR).pow(POOL_POWER).mean(dim=(2, 3)).pow(1 / POOL_POWER)


def cut_backbone(backbone: Backbone, stride: int) -> Backbone:
    """Return a backbone of the same stages up to ``stride``; weights are shared with the given one, not copied."""
    count = backbone.strides.index(stride) + 1
    stages: Sequence[nn.Module] = list(backbone.stages)[:count]
    return Backbone(
        backbone.name,
        stages,
        strides=backbone.strides[:count],
        channels=backbone.channels[:count],
        normalization=backbone.normalization,
    )


def unstride(stage: nn.Module) -> None:
    """Let the convolutions of a stage keep the size of the map, in place; their weights serve as they are."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1):
            module.stride = (1, 1)
