"""A batch run as a small discrete-event simulation: fetchers, decoders, bounded memory, batches, devices, coordinator.

Whatever computes shares the CPUs of the machine evenly (processor sharing); a device and the answers of a store take
time beside them. The coordinator's Python runs one thing at a time, its writer and fetchers included. Costs of single
pictures are drawn from log-normal distributions with the measured mean and spread. Times are in seconds.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a picture costs, in milliseconds of one CPU unless it says otherwise.

    Attributes:
        decode, decode_cv: its decoding, and standard deviation / mean over the pictures.
        infer, infer_cv: its inference on the CPU; beside a GPU what the inference process does for it.
        coordinator: orders and answers, and its share of a shard's file.
        fetch_cpu: getting its bytes from a store, in the coordinator's process.
        fetch_wait, fetch_cv: until the store has answered, milliseconds of nobody's CPU.
        device_per_s: pictures a second that one device does; 0 without one.
    """

    decode: float
    infer: float
    coordinator: float
    decode_cv: float = 0.0
    infer_cv: float = 0.0
    fetch_cpu: float = 0.0
    fetch_wait: float = 0.0
    fetch_cv: float = 0.5
    device_per_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one engine has.

    Attributes:
        cpus: cores. decoders: processes.
        inferers: threads that infer on the CPU, or devices. batch: pictures in a forward pass.
        waiting: decoded pictures that memory holds.
        fetchers: threads that wait for a store.
    """

    cpus: int
    decoders: int
    inferers: int
    batch: int = 1
    waiting: int = 500
    fetchers: int = 16


@dataclass(frozen=True)
class Outcome:
    """What came of a run: pictures a second, and the busy share of each resource in [0, 1]."""

    per_s: float
    busy: dict[str, float]

    @property
    def bottleneck(self) -> str:
        """The busiest resource. Cores are shared by all stages, so a stage comes first when it is as busy."""
        return max(self.busy, key=lambda name: (round(self.busy[name], 2), name != "cores"))


@dataclass
class _Station:
    """Servers that do one thing at a time each."""

    servers: int
    working: int = 0
    busy_s: float = 0.0


class Simulation:
    """One run of one engine.

    Args:
        machine: what there is. costs: what a picture takes.
        seed: of the spread.
    """

    def __init__(self, machine: Machine, costs: Costs, seed: int = 32) -> None:
        self._machine = machine
        self._costs = costs
        self._random = random.Random(seed)
        self._now = self._shared = self._cpu_s = 0.0
        self._computing: list[tuple[float, int, Callable[[], None]]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._fetch = _Station(machine.fetchers)
        self._decode = _Station(machine.decoders)
        self._infer = _Station(machine.inferers)
        self._coordinator = _Station(1)
        self._orders: deque[tuple[float, Callable[[], None]]] = deque()
        self._total = self._fetched = self._begun = self._undecoded = self._decoded = self._held = self._done = 0

    def run(self, pictures: int) -> Outcome:
        """Return what came of a run of so many pictures."""
        self._total = pictures
        self._fetched = 0 if self._costs.fetch_wait else pictures
        self._give_out()
        while self._done < pictures:
            self._advance()
        stations = {
            "decoders": self._decode,
            "inference": self._infer,
            "coordinator": self._coordinator,
            "fetchers": self._fetch,
        }
        busy = {name: each.busy_s / (each.servers * self._now) for name, each in stations.items()}
        return Outcome(pictures / self._now, {"cores": self._cpu_s / (self._machine.cpus * self._now), **busy})

    def _advance(self) -> None:
        """Go to the next moment at which something ends."""
        rate = min(1.0, self._machine.cpus / len(self._computing)) if self._computing else 1.0
        cpu_s = (self._computing[0][0] - self._shared) / rate if self._computing else math.inf
        timer_s = self._timers[0][0] - self._now if self._timers else math.inf
        step = max(0.0, min(cpu_s, timer_s))
        self._now += step
        self._shared += step * rate
        self._cpu_s += step * rate * len(self._computing)
        for station in (self._fetch, self._decode, self._infer, self._coordinator):
            station.busy_s += step * station.working
        done = heapq.heappop(self._computing if cpu_s <= timer_s else self._timers)[2]
        done()
        self._give_out()

    def _give_out(self) -> None:
        """Let every server that is free take what waits for it."""
        machine, costs = self._machine, self._costs
        while self._fetch.working < machine.fetchers and self._ahead < machine.fetchers + machine.decoders:
            self._begin_fetch()
        while self._decode.working < machine.decoders and self._begun < self._fetched and self._held < machine.waiting:
            self._begun += 1
            self._undecoded += 1
            self._held += 1
            self._decode.working += 1
            self._compute(self._draw(costs.decode, costs.decode_cv), self._end_decode)
        while self._infer.working < machine.inferers and (size := self._next_batch()):
            self._decoded -= size
            self._infer.working += 1
            if costs.device_per_s:
                self._wait(size / costs.device_per_s, lambda size=size: self._end_infer(size))  # type: ignore[misc]
            else:
                cost = sum(self._draw(costs.infer, costs.infer_cv) for _ in range(size))
                self._compute(cost, lambda size=size: self._end_infer(size))  # type: ignore[misc]
        if not self._coordinator.working and self._orders:
            cost, then = self._orders.popleft()
            self._coordinator.working = 1
            self._compute(cost, lambda: self._end_order(then))

    @property
    def _ahead(self) -> float:
        """Pictures whose bytes are there or on their way and that no decoder has; endless when there are no more."""
        begun = self._fetched + self._fetch.working
        return math.inf if begun >= self._total else begun - self._begun

    def _next_batch(self) -> int:
        """Return how many pictures the next batch has: a whole one, or what is left at the end."""
        batch = self._machine.batch
        is_end = self._begun == self._total and not self._undecoded
        return batch if self._decoded >= batch else self._decoded if is_end else 0

    def _begin_fetch(self) -> None:
        self._fetch.working += 1
        self._wait(self._draw(self._costs.fetch_wait, self._costs.fetch_cv), self._end_wait)

    def _end_wait(self) -> None:
        # The thread holds its place until Python has had the time to take the bytes.
        self._order(self._costs.fetch_cpu / 1000, self._end_fetch)

    def _end_fetch(self) -> None:
        self._fetch.working -= 1
        self._fetched += 1

    def _end_decode(self) -> None:
        self._decode.working -= 1
        self._order(self._costs.coordinator / 2000, self._take_decoded)

    def _take_decoded(self) -> None:
        self._undecoded -= 1
        self._decoded += 1

    def _end_infer(self, size: int) -> None:
        self._infer.working -= 1
        host = self._costs.infer if self._costs.device_per_s else 0.0
        if host:
            self._compute(size * host / 1000, lambda: None)
        self._order(size * self._costs.coordinator / 2000, lambda: self._finish(size))

    def _finish(self, size: int) -> None:
        self._held -= size
        self._done += size

    def _order(self, cost: float, then: Callable[[], None]) -> None:
        self._orders.append((cost, then))

    def _end_order(self, then: Callable[[], None]) -> None:
        self._coordinator.working = 0
        then()

    def _compute(self, cost: float, then: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._computing, (self._shared + cost, self._serial, then))

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._timers, (self._now + seconds, self._serial, then))

    def _draw(self, mean_ms: float, cv: float) -> float:
        """Return seconds with that mean, log-normal."""
        if not cv or not mean_ms:
            return mean_ms / 1000
        sigma = math.sqrt(math.log1p(cv * cv))
        return mean_ms / 1000 * self._random.lognormvariate(-sigma * sigma / 2, sigma)


def simulate(machine: Machine, costs: Costs, pictures: int = 2000, seed: int = 32) -> Outcome:
    """Return what a run of so many pictures comes to."""
    return Simulation(machine, costs, seed).run(pictures)
