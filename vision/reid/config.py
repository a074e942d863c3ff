"""Settings of the appearance stage; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from vision.errors import ConfigError

# Pixels: where the features of the default backbone tell most, and the height of the crops it is measured on.
CROP_HEIGHT = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderConfig:
    """How appearance embeddings are computed.

    Attributes:
        model: name in the model store, a path to a model folder, or "none" to track by motion alone.
        max_batch: most crops in one forward pass; a frame with more is split. Bounds the memory of a crowded frame.
        crop_height: of a single-pass embedder alone: height in pixels at which a crop that comes without its frame is
            shown to the detector's backbone. Boxes in a frame are seen as they are.
    """

    model: str = "reid-lite"
    max_batch: int = 64
    crop_height: int = CROP_HEIGHT

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ConfigError(f"embedding.max_batch must be >= 1, got {self.max_batch}; 64 is the default")
        if self.crop_height < 1:
            raise ConfigError(
                f"embedding.crop_height must be >= 1, got {self.crop_height}; {CROP_HEIGHT} is the default"
            )
