"""One model of the service: where it is between disk and device, and the leases that requests hold on it.

A request holds a lease on the loaded model for as long as it needs it; a model on its way out is closed when its last
lease is given back, so that no request is dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from service.batching import Batcher
from service.errors import UnavailableError
from service.heap import trim_heaps
from service.metrics import ModelMetrics
from service.models import TASKS, ServedModel
from vision.card import ModelCard
from vision.runtime.device_memory import release_cached

log = logging.getLogger(__name__)

# So many failures one after the other make a model unwell: the readiness of the server depends on it.
UNWELL_AFTER = 5
# And for so long after the last one: a server that is sent no traffic must be tried again some day.
UNWELL_S = 30.0


class ModelState(StrEnum):
    """Where a model is between the disk and the device."""

    AVAILABLE = "available"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"


class LoadedModel:
    """A model with its batcher; closed when nobody holds a lease any more."""

    def __init__(self, served: ServedModel, batcher: Batcher) -> None:
        self.served = served
        self.batcher = batcher
        self._leases = 0
        self._retired = False
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def acquire(self) -> bool:
        """Take a lease; False when the model is on its way out."""
        with self._lock:
            if self._retired:
                return False
            self._leases += 1
            return True

    def release(self) -> None:
        """Give a lease back; the last one of a retired model closes it."""
        with self._lock:
            self._leases -= 1
            last = self._retired and self._leases == 0
        if last:
            # Not here: the caller may be the event loop, and closing waits for a thread.
            threading.Thread(target=self._close, name="retire-model", daemon=True).start()

    def retire(self, *, wait_s: float = 0.0) -> None:
        """Give out no more leases, and close when the last is back; wait for that, but not longer than ``wait_s``."""
        with self._lock:
            if self._retired:
                return
            self._retired = True
            idle = self._leases == 0
        if idle:
            self._close()
        elif not self._closed.wait(wait_s) and wait_s:
            log.warning("a model was taken away from requests that have held it for more than %g s", wait_s)

    def _close(self) -> None:
        self.batcher.close()
        try:
            self.served.close()
            # Torch and the allocator would keep the memory for themselves.
            release_cached()
            trim_heaps()
        finally:
            self._closed.set()


@dataclass(eq=False)
class ModelEntry:
    """One model by name.

    Attributes:
        name, kind: as its card has them.
        card: its card, or None for published networks.
        metrics: what its batcher reports to.
        state, error: where it is, and why it failed.
        loaded: the model while it is ready.
    """

    name: str
    kind: str
    card: ModelCard | None
    metrics: ModelMetrics
    state: ModelState = ModelState.AVAILABLE
    error: str = ""
    loaded: LoadedModel | None = None
    changing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def task(self) -> str:
        """detect, segment, classify or embed."""
        return TASKS[self.kind]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label, from the loaded model or the card."""
        if self.loaded is not None:
            return self.loaded.served.class_names
        return () if self.card is None else self.card.labels

    @property
    def is_well(self) -> bool:
        """Whether it is loaded and did not fail on the last inputs (of late: who gets no requests cannot recover)."""
        failing = self.metrics.failures_in_a_row >= UNWELL_AFTER
        return self.state is ModelState.READY and not (failing and self.metrics.since_failure_s() < UNWELL_S)

    @contextmanager
    def lease(self) -> Iterator[LoadedModel]:
        """Hold the loaded model; raises UnavailableError where there is none."""
        loaded = self.acquire()
        try:
            yield loaded
        finally:
            loaded.release()

    def acquire(self) -> LoadedModel:
        """Return the loaded model with a lease, which the caller must release; raises UnavailableError."""
        while True:
            loaded = self.loaded
            if loaded is None:
                raise UnavailableError(
                    f"model {self.name} must be loaded to be asked, it is {self.state}"
                    f"{': ' + self.error if self.error else ''}; wait, or ask for it to be loaded",
                    retry_after_s=5,
                )
            if loaded.acquire():
                return loaded

    def describe(self) -> dict[str, Any]:
        """Return what /v1/models says of it."""
        return {
            "name": self.name,
            "task": self.task,
            "kind": self.kind,
            "state": self.state,
            "class_names": list(self.class_names),
            "sha256": None if self.card is None else self.card.sha256,
            "licence": None if self.card is None else self.card.licence,
            "summary": "a published network with its weights" if self.card is None else self.card.summary,
            "error": self.error or None,
        }
