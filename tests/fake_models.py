"""Models without networks and a server with them, for tests of what is around models: answers tell the picture.

Every fake can be held (``gate``), made to fail (``failures``), and remembers what it ran.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from service.app import create_app
from service.models import TASKS, FrameInput
from service.settings import Settings
from service.state import Service
from service.work import Served
from vision.runtime.config import RuntimeConfig
from vision.types import Classification, Detections, Frame, SegmentationMap

DETECTOR, SEGMENTER, CLASSIFIER, EMBEDDER = "person-lite0", "street-fcn8s", "tf_efficientnet_lite0", "reid-lite"
# Nothing here takes long: who waits longer than this has found a fault.
PATIENCE_S = 20.0


def until(event: threading.Event | threading.Semaphore) -> None:
    """Wait for something that another thread does; fails where it never comes."""
    waited = event.wait(PATIENCE_S) if isinstance(event, threading.Event) else event.acquire(timeout=PATIENCE_S)
    assert waited, "what the test waits for did not happen"


@dataclass(frozen=True)
class Item:
    """An input of a batcher."""

    name: str
    shape_key: Any = (8, 8)


class HeldRun:
    """What a batcher runs: waits while it is held, remembers its batches, and answers with the names.

    Attributes:
        batches: names of each batch in order, those that failed as well.
        begun: counts the batches that have begun.
        failing: called with the names before they are answered; what it raises is the model's error.
    """

    def __init__(self, failing: Callable[[list[str]], None] = lambda names: None) -> None:
        self.batches: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.failing = failing
        self._gate = threading.Event()
        self._gate.set()

    def __call__(self, items: Sequence[Item]) -> list[str]:
        names = [item.name for item in items]
        self.batches.append(names)
        self.begun.release()
        until(self._gate)
        self.failing(names)
        return [name.upper() for name in names]

    def hold(self) -> None:
        """Let no batch end from now on."""
        self._gate.clear()

    def let_go(self) -> None:
        """Let all batches end."""
        self._gate.set()


class Answers:
    """Collects what a batcher settles.

    Attributes:
        values: name -> answer, or the error.
        order: names as they were settled; one that is settled twice stands here twice.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.order: list[str] = []
        self._settled = threading.Semaphore(0)

    def of(self, name: str) -> Callable[[Served | None, BaseException | None], None]:
        """Return what a batcher calls with the answer for ``name``."""

        def settle(served: Served | None, error: BaseException | None) -> None:
            self.values[name] = error if served is None else served
            self.order.append(name)
            self._settled.release()

        return settle

    def wait(self, count: int) -> dict[str, Any]:
        """Return all answers when ``count`` more are there."""
        for _ in range(count):
            until(self._settled)
        return self.values


@dataclass
class Observer:
    """Remembers what a batcher tells."""

    batches: list[int] = field(default_factory=list)
    drops: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def ran(self, batch: int, seconds: float) -> None:
        self.batches.append(batch)

    def dropped(self, reason: str) -> None:
        self.drops.append(reason)

    def failed(self, error: BaseException) -> None:
        self.failures.append(error)


class FakeModel:
    """A served model whose answers are made of the mean colour and the size of each picture.

    Attributes:
        failures: raised by the next batches, one each.
        begun: counts the batches that have begun.
        gate: batches wait until it is set.
        seen: red of each picture that ran.
        closed: how often it was closed.
    """

    max_batch = 1
    engine = "fake:cpu"
    dim = 4

    def __init__(self, kind: str, name: str, serial: int = 0) -> None:
        self.task = TASKS[kind]
        self.name = name
        self.serial = serial
        self.class_names: tuple[str, ...] = () if kind == "embedder" else (f"red-{serial}", "other")
        self.failures: list[BaseException] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.seen: list[int] = []
        self.closed = 0
        self.closing = threading.Semaphore(0)

    def prepare(self, frame: Frame, options: Any = None) -> FrameInput:
        return FrameInput(frame, options)

    def run(self, inputs: Sequence[FrameInput]) -> list[Any]:
        assert not self.closed, "a closed model was asked"
        self.begun.release()
        until(self.gate)
        if self.failures:
            raise self.failures.pop(0)
        self.seen += [int(item.frame.image[0, 0, 0]) for item in inputs]
        return [self.answer(item.frame) for item in inputs]

    def answer(self, frame: Frame) -> Any:
        """Return the answer of the task; the first score, label map or vector tells red."""
        height, width = frame.size_hw
        red = float(frame.image[0, 0, 0]) / 255
        if self.task == "detect":
            return Detections(np.array([[0, 0, width, height]]), np.array([red]), np.array([0]))
        if self.task == "segment":
            return SegmentationMap(np.full((height, width), red < 0.5, np.uint8), self.class_names)
        if self.task == "classify":
            return Classification(np.array([0]), np.array([red]), self.class_names[:1], 1)
        return np.array([[red, 0, 0, 1]], np.float32)

    def close(self) -> None:
        self.closed += 1
        self.closing.release()


class FakeLoader:
    """Loads fakes.

    Attributes:
        made: name -> all that were loaded under it, in order.
        failures: name -> raised by the next load of it.
    """

    def __init__(self) -> None:
        self.made: dict[str, list[FakeModel]] = {}
        self.failures: dict[str, BaseException] = {}
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, kind: str, name: str, runtime: RuntimeConfig) -> FakeModel:
        until(self.gate)
        if name in self.failures:
            raise self.failures.pop(name)
        models = self.made.setdefault(name, [])
        models.append(FakeModel(kind, name, serial=len(models)))
        return models[-1]

    @property
    def detector(self) -> FakeModel:
        """The last detector loaded."""
        return self.made[DETECTOR][-1]


@dataclass
class FakeServer:
    """A running app with fakes in the place of models."""

    client: TestClient
    loader: FakeLoader
    service: Service

    def detect(self, red: int = 100, query: str = "", **options: Any) -> Any:
        """Return the response for a picture of one red."""
        return self.client.post(f"/v1/detect{query}", content=png(red), **options)


def fake_settings(folder: Path, **values: Any) -> Settings:
    """Return settings that read nothing from here; one decoding thread, the CPU, no page."""
    fixed = {"data_dir": folder, "device": "cpu", "decode_threads": 2, "jobs_workers": 0, "web": False, "parallel": 1}
    return Settings(_env_file=None, **{**fixed, **values})


@contextmanager
def fake_server(folder: Path, *, background: bool = False, loader: FakeLoader | None = None,
                **values: Any) -> Iterator[FakeServer]:  # fmt: skip
    """Run the app with fakes; ends what is held at the end."""
    loader = loader or FakeLoader()
    app = create_app(fake_settings(folder, **values), load=loader, background=background)
    with TestClient(app, raise_server_exceptions=False) as client:
        try:
            yield FakeServer(client, loader, app.state.service)
        finally:
            loader.gate.set()
            for models in loader.made.values():
                for model in models:
                    model.gate.set()


def png(red: int = 100, size_hw: tuple[int, int] = (24, 32)) -> bytes:
    """Return a picture of one colour as PNG."""
    output = io.BytesIO()
    Image.fromarray(np.full((*size_hw, 3), (red, 50, 60), np.uint8)).save(output, "PNG")
    return output.getvalue()
