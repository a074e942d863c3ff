"""A service of video jobs in a test, and detectors that wait, fail or remember."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from job_fakes import (
    BlobDetector,
    FakeBuilder,
    job_settings,
)

from service.jobs.service import JobService
from vision.types import Detections, Frame

# Of the video that the tests of jobs share.
FRAMES = 24


class GatedDetector(BlobDetector):
    """Waits at a frame until it may go on."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.reached, self.may_go_on = threading.Event(), threading.Event()

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        if frames[0].index == self.at and not self.reached.is_set():
            self.reached.set()
            assert self.may_go_on.wait(30)
        return super().detect(frames)


class FailingDetector(BlobDetector):
    """Raises at a frame, as often as there are errors."""

    def __init__(self, *errors: Exception, at: int = 8) -> None:
        super().__init__()
        self.errors, self.at = list(errors), at

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        if frames[0].index == self.at and self.errors:
            raise self.errors.pop(0)
        return super().detect(frames)


class SeeingDetector(FailingDetector):
    """Remembers the frames that it was asked for."""

    def __init__(self, *errors: Exception, at: int = 8) -> None:
        super().__init__(*errors, at=at)
        self.seen: list[int] = []

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        self.seen.append(frames[0].index)
        return super().detect(frames)


def release_when_stopping(jobs: JobService, gate: GatedDetector) -> None:
    """Open a gate as soon as the threads of the jobs are told to stop, and not before."""
    stopping = jobs._parts.runner._stopping  # type: ignore[union-attr]

    def release() -> None:
        stopping.wait(30)
        gate.may_go_on.set()

    threading.Thread(target=release, daemon=True).start()


@asynccontextmanager
async def serving(
    folder: Path, detector: Any = None, *, builder: FakeBuilder | None = None, **settings: Any
) -> AsyncIterator[JobService]:
    """Serve jobs whose pipelines have that detector, or come from that builder."""
    jobs = JobService(job_settings(folder, **settings), builder or FakeBuilder(detector))
    await jobs.start()
    try:
        yield jobs
    finally:
        await jobs.close(drain_s=30)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 30)


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder / "data")) for path in (folder / "data").rglob("*") if path.is_file())


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    for row in rows:
        row.pop("timings_ms", None)
    return rows
