"""What stands around a batcher: inputs, the model where its batches may overlap, and whoever is told of the work."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol


class Prepared(Protocol):
    """One input, ready for the network."""

    @property
    def shape_key(self) -> Hashable:
        """Inputs with equal keys can share a batch."""
        ...


class BatchObserver(Protocol):
    """What a batcher tells of its work; called in the device thread, must be quick."""

    def waited(self, seconds: float) -> None:
        """One input's time in the queue."""

    def ran(self, batch: int, seconds: float) -> None:
        """One batch."""

    def dropped(self, reason: str) -> None:
        """Work that nobody wants any more: "cancelled" (told in the thread that cancels) or "expired"."""

    def failed(self, error: BaseException) -> None:
        """An input failed."""


class Launcher(Protocol):
    """A model whose batches may overlap; both are called in the device thread only."""

    def launch_all(self, inputs: Sequence[Any]) -> Any:
        """Start a batch of inputs of one shape, and return what ``collect_all`` needs."""

    def collect_all(self, launched: Any) -> Sequence[Any]:
        """Return one answer each, once the device is done; batches in any order."""
