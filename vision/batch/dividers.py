"""The processes that look where videos can be cut while a job is planned, and what it means when one of them dies."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Self

from vision.batch.messages import Divide, Divided, Reading
from vision.batch.worker_process import WorkerProcess
from vision.errors import StateError
from vision.io.frame_range import FrameRange
from vision.runtime.cpus import available_cpus

# Longest time from packet to packet. To open a file may take half of it by itself, and a shared disk may be slow.
SILENCE_S = 120.0
# Longest time until a process begins; the machine may have much to do.
_START_S = 120.0
_MOST_PROCESSES = 16
# Processes in a row that end before they have begun: no file is to blame then.
_MOST_FALSE_STARTS = 3
_LOOK_PERIOD_S = 0.5


@dataclass(frozen=True, slots=True)
class Division:
    """What became of a video.

    Attributes:
        parts: in order; None where it stays whole.
        harm: what it did to the process that read it, in words; "" for nothing.
    """

    parts: list[FrameRange] | None = None
    harm: str = ""


@dataclass(slots=True, eq=False)
class _Divider:
    process: WorkerProcess
    # Place of its video among all; None while it has nothing to do.
    place: int | None = None
    is_begun: bool = False
    since_s: float = 0.0


class Dividers:
    """A few processes that divide videos. A context manager: leaving it ends them.

    Args:
        videos: how many there will be; no more processes than these are started.
        chunk: frames of a part.
        silence_s: longest time without a packet of a video.
    """

    def __init__(self, videos: int, chunk: int, *, silence_s: float = SILENCE_S) -> None:
        self._chunk = chunk
        self._silence_s = silence_s
        self._false_starts = 0
        self._paths: Sequence[str] = ()
        self._waiting: deque[int] = deque()
        self._done: list[Division] = []
        self._dividers = [_Divider(_spawn()) for _ in range(min(videos, available_cpus(), _MOST_PROCESSES))]

    @property
    def pids(self) -> list[int]:
        """The processes' numbers."""
        return [divider.process.pid for divider in self._dividers]

    def divide(self, paths: Sequence[str]) -> list[Division]:
        """Return what becomes of each video.

        Raises:
            StateError: no process can be started.
        """
        self._paths, self._waiting = paths, deque(range(len(paths)))
        self._done = [Division()] * len(paths)
        while True:
            for divider in self._dividers:
                if divider.place is None and self._waiting:
                    self._give(divider)
            busy = [divider.process.connection for divider in self._dividers if divider.place is not None]
            if not busy:
                return self._done
            for ready in wait(busy, _LOOK_PERIOD_S):
                assert isinstance(ready, Connection)
                self._hear(next(each for each in self._dividers if each.process.connection is ready))
            self._end_overdue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for divider in self._dividers:
            divider.process.kill()

    def _give(self, divider: _Divider) -> None:
        divider.place, divider.since_s, divider.is_begun = self._waiting.popleft(), time.monotonic(), False
        divider.process.send(Divide(self._paths[divider.place], self._chunk))

    def _hear(self, divider: _Divider) -> None:
        try:
            message = divider.process.connection.recv()
        except (EOFError, OSError):
            self._replace(divider, f"the process that read it died of it ({divider.process.death()})")
            return
        divider.since_s = time.monotonic()
        match message:
            case Reading():
                divider.is_begun, self._false_starts = True, 0
            case Divided(parts):
                assert divider.place is not None
                self._done[divider.place] = Division(parts)
                divider.place = None

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for divider in list(self._dividers):
            limit_s = self._silence_s if divider.is_begun else _START_S
            if divider.place is not None and now - divider.since_s > limit_s:
                self._replace(divider, f"nothing came of it within {limit_s:g} s")

    def _replace(self, divider: _Divider, harm: str) -> None:
        """Put a new process in the place of one that is lost, and leave the video that it was lost to whole."""
        divider.process.kill()
        assert divider.place is not None
        if divider.is_begun:
            self._done[divider.place] = Division(None, harm)
        else:
            self._false_starts += 1
            self._waiting.appendleft(divider.place)
        if self._false_starts >= _MOST_FALSE_STARTS:
            divider.place = None
            raise StateError(
                f"the processes that read videos must start, {self._false_starts} of them ended at once ({harm}); look "
                "for a lack of memory, or pass --video-chunk 0"
            )
        self._dividers[self._dividers.index(divider)] = _Divider(_spawn())


def _spawn() -> WorkerProcess:
    # One thread each: there may be as many of them as CPUs.
    return WorkerProcess("vision.batch.divide_worker", [], [], {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
