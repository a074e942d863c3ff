"""Everything that one app holds, made by ``create_app`` and found by routes."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from service.admission import Admission
from service.auth import Authenticator
from service.changes import ModelChanges
from service.fetch import ImageFetcher
from service.inference import ImageInference
from service.metrics import Metrics
from service.registry import ModelRegistry
from service.settings import Settings
from service.streams import StreamBuilder
from vision.errors import VisionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.jobs.service import JobService
    from service.sessions.store import SessionStore

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Service:
    """The parts of the service.

    Attributes:
        on_fatal: called when the service cannot work at all (no model could be loaded, or its GPU is lost); the server
            then ends.
        on_ready: called when the models of the start are loaded.
        draining: SIGTERM came; new work is refused.
    """

    settings: Settings
    metrics: Metrics
    admission: Admission
    authenticator: Authenticator
    registry: ModelRegistry
    changes: ModelChanges
    inference: ImageInference
    fetcher: ImageFetcher
    streams: StreamBuilder
    sessions: SessionStore
    jobs: JobService
    on_fatal: Callable[[], None] | None = None
    on_ready: Callable[[], None] | None = None
    draining: bool = False
    started: float = field(default_factory=time.monotonic)
    loader: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.registry.on_device_lost = self._give_up

    def begin_draining(self) -> None:
        """Refuse new work from now on; what is in flight goes on."""
        self.draining = True
        self.admission.draining = True
        self.changes.draining = True
        self.jobs.begin_draining()
        self.sessions.drain()

    def load_models(self) -> None:
        """Load the models of the start; without any the service ends."""
        try:
            began = time.monotonic()
            self.registry.start()
            if not self.registry.started:
                return  # the server is going down already
            if self.on_ready is not None:
                self.on_ready()
            log.info("models are ready after %.1f s: %s", time.monotonic() - began, self.registry.states())
        except VisionError as exc:
            # A wrong name or device: the line says all, a traceback would hide it.
            log.error("the service cannot start: %s", exc)
            self._give_up()
        except Exception:
            log.exception("the service cannot start")
            self._give_up()

    def _give_up(self) -> None:
        if self.on_fatal is not None:
            self.on_fatal()

    def load_in_background(self) -> None:
        """Load the models in a thread, so that the server answers "not ready" meanwhile."""
        self.loader = threading.Thread(target=self.load_models, name="load-models", daemon=True)
        self.loader.start()

    def is_loading(self, wait_s: float = 0.0) -> bool:
        """Return whether models of the start are still being loaded after so many seconds."""
        if self.loader is not None:
            self.loader.join(wait_s)
        return self.loader is not None and self.loader.is_alive()


def service_of(connection: HTTPConnection) -> Service:
    """Return the service that a request or WebSocket belongs to."""
    service: Service = connection.app.state.service
    return service
