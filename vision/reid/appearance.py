"""What the pipeline, evaluation and the command line need of any embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vision.types import FloatArray, Frame, ImageArray


class AppearanceEmbedder(Protocol):
    """Turns objects into unit-norm appearance vectors: ``Embedder`` from crops, ``RoiEmbedder`` from feature maps."""

    @property
    def dim(self) -> int:
        """Dimensions D of an embedding."""
        ...

    def embed(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        """Return float32 [N, D], row i for box i of ``boxes`` [N, 4]."""
        ...

    def embed_crops(self, crops: Sequence[ImageArray]) -> FloatArray:
        """Return float32 [N, D] of pictures uint8 [h, w, 3] RGB, each showing one object."""
        ...

    def close(self) -> None:
        """Release the networks; further calls raise StateError."""
        ...
