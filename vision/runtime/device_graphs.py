"""Functions of tensors at a few fixed shapes, replayed as CUDA graphs once a shape has come often enough.

A small network at a small batch is some hundred kernels, each of which the CPU takes longer to launch than the GPU to
run. A graph launches them as one. It reads and writes the same memory each time, so its inputs are buffers of our own
that are filled before each run.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vision.runtime.device_memory import new_stream, release_cached

log = logging.getLogger(__name__)

Function = Callable[..., Tensor]
# A graph keeps memory and takes most of a second to record: pictures of odd sizes that come once are not worth it.
RUNS_BEFORE_GRAPH = 3
# Pause between two recordings after the start: whoever sends the pictures chooses the shapes, and all others wait.
RECORD_EVERY_S = 5.0
WARM_UP_RUNS = 2


class StaticCall:
    """One function at one shape: its input buffers and, later, its graph.

    Attributes:
        inputs: the buffers, to be filled before each run. The graph reads them, so they live as long as it does.
        is_kept: whether it will come again; others are never recorded.
        is_pinned: made at the start: others are given up first.
    """

    def __init__(
        self, function: Function, inputs: tuple[Tensor, ...], *, is_kept: bool = True, is_pinned: bool = False
    ) -> None:
        self.is_kept, self.is_pinned = is_kept, is_pinned
        self.function = function
        self.inputs = inputs
        self.runs = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.output: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the input buffers."""
        return sum(buffer.nbytes for buffer in self.inputs)


class StaticCalls:
    """Calls by their shape, the least recently used given up. For one thread at a time, on one stream.

    All graphs share one pool of memory, so the output of a run is valid until the next run, as the stream sees it.

    Args:
        device: where the inputs lie; graphs are for CUDA alone.
        capacity: most shapes kept.
        max_bytes: most memory that the input buffers of all shapes take together; the newest is kept whatever it takes.
        graphs: False runs everything as it comes.
        clock: seconds.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        capacity: int = 24,
        max_bytes: int = 2**30,
        graphs: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device = device
        self.max_bytes = max_bytes
        self.capacity = capacity
        self.graphs = graphs and device.type == "cuda"
        self._calls: OrderedDict[Hashable, StaticCall] = OrderedDict()
        self._pool: Any = None
        self._clock = clock
        self._record_from = 0.0
        self._is_starting = False

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def graph_count(self) -> int:
        """Shapes that have a graph by now."""
        return sum(call.graph is not None for call in self._calls.values())

    @contextmanager
    def starting(self) -> Iterator[None]:
        """In this block nobody waits: graphs are recorded without a pause, and what is made here is given up last."""
        before, self._is_starting = self._is_starting, True
        try:
            yield
        finally:
            self._is_starting = before

    def call(
        self, key: Hashable, make: Callable[[], tuple[Function, tuple[Tensor, ...]]], *, keep: bool = True
    ) -> StaticCall:
        """Return the call of a key; ``make`` returns function and input buffers of one that is not there yet.

        Without ``keep`` a new one is for this time alone: it takes no place from those that come again.
        """
        found = self._calls.get(key)
        if found is None:
            found = StaticCall(*make(), is_kept=keep, is_pinned=self._is_starting)
            if not keep:
                return found
            while self._calls and not self._has_room(found):
                self._drop_oldest()
            self._calls[key] = found
        self._calls.move_to_end(key)
        return found

    def run(self, call: StaticCall) -> Tensor:
        """Return the function's output for what the input buffers hold now; it is overwritten by the next run.

        On CUDA this enqueues work on the current stream and does not wait for it, except when it records a graph.
        """
        call.runs += 1
        if call.graph is None and self.graphs and self._is_due(call):
            self._record(call)
            self._record_from = self._clock() + RECORD_EVERY_S
        if call.graph is None or call.output is None:
            return call.function(*call.inputs)
        call.graph.replay()
        return call.output

    def clear(self) -> None:
        """Give up all calls and their memory, after a lack of it."""
        while self._calls:
            self._drop_oldest()
        self._pool = None
        release_cached()

    def _is_due(self, call: StaticCall) -> bool:
        is_paused = not self._is_starting and self._clock() < self._record_from
        return call.is_kept and call.runs > RUNS_BEFORE_GRAPH and not is_paused

    def _has_room(self, new: StaticCall) -> bool:
        taken = sum(call.nbytes for call in self._calls.values())
        return len(self._calls) < self.capacity and taken + new.nbytes <= self.max_bytes

    def _record(self, call: StaticCall) -> None:
        """Record the graph of a call; where that fails, calls go on without graphs."""
        current = torch.cuda.current_stream(self.device)
        side = new_stream(self.device)
        side.wait_stream(current)
        graph = torch.cuda.CUDAGraph()
        try:
            # Libraries choose and set up their algorithms in the first runs, which must not be recorded.
            with torch.cuda.stream(side):
                for _ in range(WARM_UP_RUNS):
                    call.function(*call.inputs)
            current.wait_stream(side)
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            # Other threads upload pictures meanwhile; only what this one does must fit into a graph.
            with torch.cuda.graph(graph, pool=self._pool, stream=side, capture_error_mode="thread_local"):
                output = call.function(*call.inputs)
        except torch.OutOfMemoryError:
            self.graphs = False
            log.warning("no memory for CUDA graphs; the network runs without them")
            raise
        except RuntimeError as exc:
            self.graphs = False
            log.warning("recording a CUDA graph failed, the network runs without them: %s", exc)
            return
        call.graph, call.output = graph, output

    def _drop_oldest(self) -> None:
        """Give up the least recently used of those that came after the start, then of the others."""
        key = next((key for key, call in self._calls.items() if not call.is_pinned), next(iter(self._calls)))
        call = self._calls.pop(key)
        if call.graph is not None:
            # Not while it runs; shapes change seldom, so waiting costs nothing that counts.
            torch.cuda.synchronize(self.device)
            call.output = None
            call.graph.reset()
