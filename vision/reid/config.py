"""Settings of the appearance stage; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from vision.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderConfig:
    """How appearance embeddings are computed.

    Attributes:
        model: name in the model store, a path to a model folder, or "none" to track by motion alone.
        max_batch: most crops in one forward pass; a frame with more is split. Bounds the memory of a crowded frame.
    """

    model: str = "reid-lite"
    max_batch: int = 64

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ConfigError(f"embedding.max_batch must be >= 1, got {self.max_batch}; 64 is the default")
