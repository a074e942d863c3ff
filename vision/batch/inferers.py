"""The inference processes of a run, one a device: which batches each has, and what it means when one dies."""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from vision.batch.facts import CoreFacts
from vision.batch.messages import Forget, Infer, Inferred, Refused, Setup
from vision.batch.tickets import Group
from vision.batch.worker_process import WorkerProcess
from vision.errors import ModelError

# In a row, without any work in hand: then it is not the pictures.
_MOST_IDLE_DEATHS = 3
# Of the first process, before the run knows what it runs: the first death may be chance.
_MOST_LOADS = 2


@dataclass(slots=True, eq=False)
class _Inferer:
    number: int
    process: WorkerProcess
    setup: Setup
    parallel: int = 0
    groups: dict[int, Group] = field(default_factory=dict)
    own: list[Group] = field(default_factory=list)
    idle_since_s: float | None = None
    idle_s: float = 0.0
    deaths: int = 0

    @property
    def depth(self) -> int:
        """Batches it may have: those it computes at a time, and one that waits so that it never does."""
        return self.parallel + 1

    @property
    def is_ready(self) -> bool:
        """Whether its networks are loaded."""
        return self.parallel > 0

    @property
    def has_suspect(self) -> bool:
        """Whether it has a batch that must run alone."""
        return any(group.is_suspect for group in self.groups.values())


class Inferers:
    """Inference processes, and the batches that wait for them.

    Args:
        setups: what each is to load. arena_fd: of the shared memory.
        timeout_s: longest time for a picture.
    """

    def __init__(self, setups: Sequence[Setup], *, arena_fd: int, timeout_s: float) -> None:
        self._arena_fd = arena_fd
        self._timeout_s = timeout_s
        self._waiting: list[Group] = []
        self.busy_s = 0.0
        self._inferers = [_Inferer(number, self._spawn(setup), setup) for number, setup in enumerate(setups)]

    @property
    def count(self) -> int:
        """How many processes there are."""
        return len(self._inferers)

    @property
    def connections(self) -> list[Connection]:
        """What to wait for."""
        return [inferer.process.connection for inferer in self._inferers]

    @property
    def pids(self) -> list[int]:
        """The processes' numbers."""
        return [inferer.process.pid for inferer in self._inferers]

    @property
    def is_starved(self) -> bool:
        """Whether no process has anything to compute, and none will have when it is ready: while networks are loaded
        again, batches wait for them, and more of those would only fill the memory."""
        return not self._waiting and not any(inferer.groups or inferer.own for inferer in self._inferers)

    @property
    def has_work(self) -> bool:
        """Whether a batch is computed, or waits to be."""
        return bool(self._waiting) or any(inferer.groups or inferer.own for inferer in self._inferers)

    def facts(self) -> CoreFacts:
        """Return what the networks are, once the first process has loaded them; raises what keeps it from that."""
        reason = ""
        for load in range(_MOST_LOADS):
            if load:
                self._replace(self._inferers[0], reason)
            inferer = self._inferers[0]
            try:
                message = inferer.process.connection.recv()
            except (EOFError, OSError):
                reason = inferer.process.death()
                continue
            if isinstance(message, Refused):
                raise message.error
            assert isinstance(message, CoreFacts)
            self._now_ready(inferer, message)
            return message
        raise ModelError(
            f"the networks must load in a process of their own, it died {_MOST_LOADS} times ({reason}); "
            "see what it wrote, and whether there is memory enough"
        )

    def add(self, group: Group) -> None:
        """Have a batch computed as soon as there is room."""
        queue = self._waiting if group.inferer is None else self._inferers[group.inferer].own
        heapq.heappush(queue, group)

    def dispatch(self) -> list[tuple[Group, int]]:
        """Send waiting batches to the processes that have room; return each with its process's number."""
        sent = []
        for inferer in sorted(self._inferers, key=lambda each: len(each.groups)):
            while (group := self._next_for(inferer)) is not None:
                group.sent_s = time.monotonic()
                inferer.groups[group.number] = group
                if inferer.idle_since_s is not None:
                    inferer.idle_s += group.sent_s - inferer.idle_since_s
                    inferer.idle_since_s = None
                inferer.process.send(Infer(group.number, group.pictures))
                sent.append((group, inferer.number))
        return sent

    def _next_for(self, inferer: _Inferer) -> Group | None:
        if not inferer.is_ready or len(inferer.groups) >= inferer.depth or inferer.has_suspect:
            return None
        queues = [queue for queue in (inferer.own, self._waiting) if queue]
        if not queues:
            return None
        queue = min(queues, key=lambda each: each[0])
        if queue[0].is_suspect and inferer.groups:
            return None  # it runs alone: the process finishes what it has first
        return heapq.heappop(queue)

    def receive(self, connection: Connection) -> tuple[Group, Inferred] | None:
        """Return the next answer with its batch; None when a process says that it is ready.

        Raises:
            EOFError: the process has died. ModelError and others: a process that was started again cannot load.
        """
        inferer = self._owner(connection)
        try:
            message = connection.recv()
        except OSError as exc:
            raise EOFError from exc
        if isinstance(message, Refused):
            raise message.error
        if isinstance(message, CoreFacts):
            self._now_ready(inferer, message)
            return None
        assert isinstance(message, Inferred)
        inferer.deaths = 0
        self.busy_s += message.seconds
        group = inferer.groups.pop(message.group)
        if not inferer.groups:
            inferer.idle_since_s = time.monotonic()
        return group, message

    def forget(self, number: int, ticket: int) -> None:
        """Tell a process that a stream has ended."""
        self._inferers[number].process.send(Forget(ticket))

    def bury(self, connection: Connection) -> tuple[str, int, list[Group]]:
        """Put a new process in the place of one that has died.

        Returns:
            how it died; its number; the batches that it had. Batches that only it could compute are dropped: the state
            they needed is gone.

        Raises:
            ModelError: it dies again and again with nothing in hand.
        """
        inferer = self._owner(connection)
        return self._replace(inferer, inferer.process.death())

    def overdue(self) -> list[tuple[str, int, list[Group]]]:
        """End the processes that get nowhere; return of each what ``bury`` does."""
        now = time.monotonic()
        buried = []
        for inferer in self._inferers:
            pictures = sum(len(group.pictures) for group in inferer.groups.values())
            oldest_s = min((group.sent_s for group in inferer.groups.values()), default=now)
            if now - oldest_s > self._timeout_s * max(1, pictures):
                inferer.process.kill()
                buried.append(self._replace(inferer, f"ended after {now - oldest_s:.0f} s without an answer"))
        return buried

    @property
    def idle_share_s(self) -> float:
        """Seconds in which processes that were ready had nothing to compute, summed over them."""
        now = time.monotonic()
        return sum(
            each.idle_s + (0.0 if each.idle_since_s is None else now - each.idle_since_s) for each in self._inferers
        )

    def start_clock(self) -> None:
        """Count idle time from now on: whoever had to wait for the job to be planned was not idle for lack of work."""
        now = time.monotonic()
        for inferer in self._inferers:
            inferer.idle_s, inferer.idle_since_s = 0.0, now if inferer.is_ready else None

    def close(self) -> None:
        """End all processes."""
        for inferer in self._inferers:
            inferer.process.kill()

    def _replace(self, inferer: _Inferer, reason: str) -> tuple[str, int, list[Group]]:
        deaths = inferer.deaths + 1
        if deaths > _MOST_IDLE_DEATHS and not inferer.groups:
            raise ModelError(
                f"the inference process must stay alive, it died {deaths} times with nothing to compute ({reason}); "
                "see what it wrote, and whether there is memory enough"
            )
        inferer.process.kill()
        fresh = _Inferer(inferer.number, self._spawn(inferer.setup), inferer.setup, idle_s=inferer.idle_s)
        fresh.deaths = deaths
        self._inferers[inferer.number] = fresh
        return reason, inferer.number, [*inferer.groups.values(), *inferer.own]

    def _now_ready(self, inferer: _Inferer, facts: CoreFacts) -> None:
        inferer.parallel = facts.parallel
        inferer.idle_since_s = time.monotonic()

    def _spawn(self, setup: Setup) -> WorkerProcess:
        process = WorkerProcess("vision.batch.infer_worker", [str(self._arena_fd)], [self._arena_fd])
        process.send(setup)
        return process

    def _owner(self, connection: Connection) -> _Inferer:
        return next(inferer for inferer in self._inferers if inferer.process.connection is connection)
