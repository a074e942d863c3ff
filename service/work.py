"""One input of a model on its way through the queue, and the answer that comes of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from service.batch_roles import Prepared
from service.logs import request_id

log = logging.getLogger(__name__)


class Priority(IntEnum):
    """Who goes first: a person or program that waits for one answer, or a job of thousands of frames."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(frozen=True, slots=True)
class Served:
    """An answer and what it took.

    Attributes:
        value: what the model says of one input.
        queue_ms: wait for the device.
        infer_ms: time of the batch on it.
        batch: inputs in the batch.
    """

    value: Any
    queue_ms: float
    infer_ms: float
    batch: int


@dataclass(slots=True, eq=False)
class Work:
    """One input in the queue; ``request_id`` is that of the request for which it was queued, for the log."""

    item: Prepared
    shape_key: Hashable
    deadline: float
    settle: Callable[[Served | None, BaseException | None], None]
    priority: Priority = Priority.INTERACTIVE
    enqueued: float = field(default_factory=time.monotonic)
    request_id: str = field(default_factory=request_id.get)

    def finish(self, served: Served | None = None, error: BaseException | None = None) -> None:
        """Hand the answer or the error to whoever waits for it."""
        try:
            self.settle(served, error)
        except Exception:
            # Whoever waited has a fault of its own (a closed event loop); the device thread must live on.
            log.exception("an answer could not be delivered")
