"""The models of the service: what is loaded, what could be, and the change from one to the other while requests run.

Loading again puts the new one in place at once; the old one is closed when its last lease is given back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from service.batching import Batcher
from service.catalogue import ModelCatalogue, default_models
from service.errors import NotFoundError, UnavailableError, describe_error
from service.loading import load_served
from service.metrics import Metrics
from service.model_entry import LoadedModel, ModelEntry, ModelState
from service.models import ServedModel
from service.runtime import served_runtime
from service.settings import Settings
from vision.errors import VisionError, closest_hint
from vision.runtime.config import RuntimeConfig
from vision.runtime.device_memory import is_device_lost
from vision.runtime.engine import resolve_device
from vision.store import find_model

log = logging.getLogger(__name__)

Loader = Callable[[str, str, RuntimeConfig], ServedModel]


class ModelRegistry:
    """All models that this server knows, by name.

    Args:
        settings: defaults, device, batches.
        metrics: of the app.
        load: loads a model of a kind; replaced in tests.
    """

    def __init__(self, settings: Settings, metrics: Metrics, load: Loader = load_served) -> None:
        self.settings = settings
        self.metrics = metrics
        self._load = load
        self._catalogue = ModelCatalogue()
        self.runtime = served_runtime(settings)
        self.defaults = default_models(settings)
        # Replaced and never changed in place: the event loop looks through it while threads find new models.
        self.entries: dict[str, ModelEntry] = {}
        # The models that the server is there for: those of the start, and what was loaded since and not unloaded.
        self.wanted: dict[str, ModelEntry] = {}
        self.started = False
        # No GPU work will succeed any more; whoever runs the server is told and can only start it again.
        self.device_lost = False
        self.on_device_lost: Callable[[], None] | None = None
        self._closing = False
        self._refreshing = threading.Lock()

    def start(self) -> None:
        """Load the models of the start, one after the other; one that fails is said and does not stop the others.

        Raises:
            VisionError: the device or a model does not exist, a default is for another task, or no model at all could
                be loaded.
        """
        resolve_device(self.settings.device)
        self.refresh()
        # A misspelt name would otherwise be a server that is ready and answers nothing.
        for task, name in self.defaults.items():
            self._find_for(task, name)
        names = list(
            dict.fromkeys([*self.defaults.values(), *(self.find(name).name for name in self.settings.preload)])
        )
        for name in names:
            if self._closing:
                return
            try:
                self.load(name)
            except VisionError as exc:
                log.warning("model %s is not available: %s", name, exc)
            except Exception:
                log.exception("model %s is not available", name)
        if names and not any(entry.state is ModelState.READY for entry in self.entries.values()):
            raise UnavailableError(f"none of {', '.join(names)} could be loaded; the lines above say why")
        self.started = True

    def refresh(self) -> None:
        """Look at the store again: models that came since are known from now on."""
        with self._refreshing:
            found = self._catalogue.known({*self.defaults.values(), *self.settings.preload})
            new = {
                name: ModelEntry(name, kind, card, self.metrics.model(name))
                for name, (kind, card) in found.items()
                if name not in self.entries
            }
            # What left the disk is forgotten, unless it is on the device or was asked for.
            kept = {
                name: entry
                for name, entry in self.entries.items()
                if name in found or entry.loaded or name in self.wanted
            }
            if new or len(kept) < len(self.entries):
                self.entries = kept | new

    def find(self, name: str) -> ModelEntry:
        """Return the model of that name; raises NotFoundError, naming those there are."""
        entry = self.entries.get(name)
        if entry is None:
            known = sorted(self.entries)
            raise NotFoundError(
                f"model must be one of {', '.join(known)}, got {name[:100]!r}{closest_hint(name, known)}; see "
                "GET /v1/models",
                code="model_not_found",
            )
        return entry

    def resolve(self, task: str, name: str | None = None) -> ModelEntry:
        """Return the model of a task, the default one without a name.

        Raises:
            NotFoundError: no such model, or one for another task.
        """
        if name is None:
            name = self.defaults.get(task)
            if name is None:
                raise NotFoundError(f"a model must be named for {task}, this server has no default; see GET /v1/models",
                                    code="model_not_found")  # fmt: skip
        if not self.started and name not in self.entries:
            raise UnavailableError("models are still loading; try again soon", retry_after_s=2)
        return self._find_for(task, name)

    def _find_for(self, task: str, name: str) -> ModelEntry:
        """Return the model of that name if it is for the task; raises NotFoundError."""
        entry = self.find(name)
        if entry.task != task:
            own = sorted(each.name for each in self.entries.values() if each.task == task)
            raise NotFoundError(
                f"model must be one for {task} ({', '.join(own) or 'none is here'}), {name} is for {entry.task}; name "
                "another one",
                code="model_not_found",
            )
        return entry

    def load(self, name: str) -> ModelEntry:
        """Load a model, or load it again from the disk; requests go on with the old one meanwhile.

        Raises:
            NotFoundError: no such model. VisionError: it cannot be loaded; an old one stays in place.
        """
        self.refresh()
        entry = self.find(name)
        with entry.changing:
            self.wanted[name] = entry
            # Read when metrics are asked for, as the queue is.
            entry.metrics.follow_readiness(partial(_readiness, entry))
            old = entry.loaded
            if old is None:
                entry.state = ModelState.LOADING
            try:
                card = None if entry.card is None else find_model(name, kind=entry.kind)
                made = self._start_model(entry)
            except Exception as exc:
                if is_device_lost(exc):
                    self._lose_device(exc)
                entry.error = describe_error(exc).message
                if old is None:
                    entry.state = ModelState.FAILED
                raise
            entry.loaded, entry.card, entry.state, entry.error = made, card, ModelState.READY, ""
            entry.metrics.failures_in_a_row = 0
            if old is not None:
                old.retire()
        return entry

    def unload(self, name: str, *, wait_s: float | None = None) -> ModelEntry:
        """Take a model from the device when the requests on it are answered; raises NotFoundError.

        Args:
            name: of the model.
            wait_s: how long to wait for them; without it as long as a request may take.
        """
        entry = self.find(name)
        with entry.changing:
            self.wanted.pop(name, None)
            entry.metrics.follow_readiness(None)
            old = entry.loaded
            if old is not None:
                entry.state, entry.loaded = ModelState.UNLOADING, None
                old.retire(wait_s=self.settings.request_timeout_s + 1.0 if wait_s is None else wait_s)
            entry.state, entry.error = ModelState.AVAILABLE, ""
        return entry

    def set_default(self, task: str, name: str) -> None:
        """Make a loaded model the one that requests without a model get; raises NotFoundError, UnavailableError."""
        entry = self.resolve(task, name)
        with entry.lease():
            self.defaults[task] = name

    def is_ready(self) -> bool:
        """Whether the models that are wanted are well. Of those that could not be loaded only the first default counts
        (the detector, unless it is none): without a classifier's weights the rest of the server is of use."""
        first = next(iter(self.defaults.values()), None)
        return (
            self.started
            and not self.device_lost
            and all(
                entry.is_well or (entry.state is ModelState.FAILED and name != first)
                for name, entry in list(self.wanted.items())
            )
        )

    def states(self) -> dict[str, str]:
        """Return the state of each model that is or was wanted."""
        return {
            name: str(entry.state) if entry.is_well or entry.state is not ModelState.READY else "failing"
            for name, entry in self.entries.items()
            if entry.state is not ModelState.AVAILABLE
        }

    def close(self) -> None:
        """Unload all; what was in flight has been answered or given up by now. A model that is being loaded is left."""
        self._closing = True
        for name, entry in list(self.entries.items()):
            if not entry.changing.locked():
                self.unload(name, wait_s=1.0)

    def _lose_device(self, error: BaseException) -> None:
        """Tell once that the GPU cannot be used by this process any more."""
        if not self.device_lost:
            self.device_lost = True
            log.critical(
                "the device is lost to this process, which must start again: %s", str(error).partition("\n")[0]
            )
            if self.on_device_lost is not None:
                self.on_device_lost()

    def _start_model(self, entry: ModelEntry) -> LoadedModel:
        served = self._load(entry.kind, entry.name, self.runtime)
        batcher = Batcher(
            served.run,
            name=entry.name,
            max_batch=self.settings.max_batch or served.max_batch,
            max_delay_ms=self.settings.max_delay_ms,
            threads=self.runtime.parallel,
            observer=entry.metrics,
            launcher=getattr(served, "launcher", None),
            on_device_lost=self._lose_device,
        )
        # Read when metrics are asked for: the batcher itself counts nothing.
        entry.metrics.queue.set_function(batcher.__len__)
        entry.metrics.batch_cap.set_function(lambda: batcher.max_batch)
        return LoadedModel(served, batcher)


def _readiness(entry: ModelEntry) -> float:
    return float(entry.is_well)
