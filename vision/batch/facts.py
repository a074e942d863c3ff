"""What an engine says to the core of a task and hears from it; the core itself, with its networks, is another module.

Loads no torch: the coordinator of a run and its decoders know the core by this alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vision.batch.config import BatchConfig, Task
from vision.types import Frame

# A row is plain values and numpy arrays by name; ``vision/batch/schema.py`` makes columns of them.
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    """One frame to be computed.

    Attributes:
        item, path: index and name of the item that it belongs to, as its row will carry them.
        stream: what state belongs to; the frames of one stream come in order. Of a new try it is a new one.
        frame: the picture.
    """

    item: int
    path: str
    stream: int
    frame: Frame

    def head(self) -> Row:
        """Return what the rows of all tasks begin with."""
        height, width = self.frame.size_hw
        return {
            "item": self.item,
            "path": self.path,
            "frame_index": self.frame.index,
            "timestamp_s": self.frame.timestamp_s,
            "height": height,
            "width": width,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreFacts:
    """What a loaded core says of itself; written into every shard.

    Attributes:
        task: what it computes.
        config: its configuration with the models' own thresholds in place of "auto".
        models: for each stage the name of its model and the sha256 of its weights.
        class_names: name of each label.
        dim: dimensions of an embedding; 0 for other tasks.
        unit: of what a regression measures; None for other models.
        device: where it runs, for reports.
        batch: pictures in a forward pass.
        parallel: threads that may call the core at the same time.
    """

    task: Task
    config: BatchConfig
    models: Mapping[str, Mapping[str, str]]
    class_names: tuple[str, ...] = ()
    dim: int = 0
    unit: str | None = None
    device: str = "cpu"
    batch: int = 1
    parallel: int = 1


class Core(Protocol):
    """The networks of one task, loaded."""

    facts: CoreFacts

    def rows(self, works: Sequence[Work]) -> list[Row]:
        """Return one row for each frame, in order. Threads may share a core that keeps no state of streams, and may
        compute different streams of one that does."""
        ...

    def forget(self, stream: int) -> None:
        """Let go of the state of a stream; unknown ones are none of its business."""
        ...
