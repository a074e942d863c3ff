"""The local engine: shards to committed files on one machine, with its processes started, watched and ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Self

from vision.batch.arena import Arena
from vision.batch.config import BatchConfig, RunOptions
from vision.batch.coordinator import Coordinator
from vision.batch.decoders import Decoders
from vision.batch.facts import CoreFacts
from vision.batch.health import Health
from vision.batch.inferers import Inferers
from vision.batch.items import Shard
from vision.batch.messages import Setup
from vision.batch.shard_file import ShardWriter
from vision.batch.shard_summary import ShardSummary
from vision.batch.spool import spool_folder
from vision.batch.stats import StageSeconds
from vision.runtime.cpus import available_cpus

if TYPE_CHECKING:
    from vision.batch.job import Job


def default_decoders(device: str, cpus: int = 0) -> int:
    """Return how many processes should decode with so many CPUs (0: all): beside a GPU all but one, beside networks on
    the CPU a few, which take what they need from them."""
    cpus = cpus or available_cpus()
    return max(1, cpus - 1) if device.startswith("cuda") else min(cpus, max(2, cpus // 4))


class LocalEngine:
    """Runs shards on this machine. A context manager: leaving it ends all processes.

    Args:
        config: what to compute. options: how.

    Attributes:
        run_state: of the latest run: what it has settled.
    """

    def __init__(self, config: BatchConfig, options: RunOptions) -> None:
        self.run_state: Coordinator | None = None
        self._config = config
        self._options = options
        self._arena = Arena()
        self._numbers = count(1)
        self._health = Health()
        devices = options.devices or (None,)
        threads = max(1, available_cpus() // len(devices)) if len(devices) > 1 else 0
        self._inferers = Inferers(
            [Setup(config, device, threads) for device in devices],
            arena_fd=self._arena.fd,
            timeout_s=options.item_timeout_s,
        )
        # They start while the networks are loaded; if those turn out to be on a GPU, there will be more.
        self._decoders = Decoders(
            options.decoders or default_decoders("cpu"),
            arena_fd=self._arena.fd,
            max_pixels=config.max_pixels,
            timeout_s=options.item_timeout_s,
        )
        self._facts: CoreFacts | None = None

    @property
    def facts(self) -> CoreFacts:
        """What the networks are; waits for them the first time. Raises what keeps them from being loaded."""
        if self._facts is None:
            self._facts = self._inferers.facts()
        return self._facts

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes that work for this one."""
        return [*self._inferers.pids, *self._decoders.pids]

    def run(
        self,
        shards: Iterable[Shard],
        open_writer: Callable[[Shard], ShardWriter],
        *,
        on_progress: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[ShardSummary]:
        """Yield the summary of each shard when it is committed, in about their order.

        Args:
            shards: asked for one by one, shortly before there is room for them.
            open_writer: called on the writing thread.
            on_progress: called now and then, and after items were settled.
            should_stop: once True, what is not committed is given up.
        """
        if not self._options.decoders:
            self._decoders.grow(default_decoders(self.facts.device))
        self._inferers.start_clock()
        with spool_folder() as folder:
            run = Coordinator(
                shards,
                open_writer,
                facts=self.facts,
                options=self._options,
                arena=self._arena,
                decoders=self._decoders,
                inferers=self._inferers,
                folder=folder,
                numbers=self._numbers,
                health=self._health,
            )
            self.run_state = run
            try:
                yield from run.summaries(on_progress, should_stop)
            finally:
                run.close()

    def run_job(
        self,
        job: Job,
        pending: Sequence[int],
        *,
        on_progress: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[ShardSummary]:
        """Yield the summary of each of a job's pending shards when it is committed; see ``run``."""
        facts = self.facts
        header = job.header(class_names=facts.class_names, dim=facts.dim, unit=facts.unit)
        shards = (job.manifest.shard(index) for index in pending)
        return self.run(
            shards,
            lambda shard: ShardWriter(job.output, shard, header),
            on_progress=on_progress,
            should_stop=should_stop,
        )

    @property
    def counts(self) -> tuple[int, int, int]:
        """Items, rows and failures that the latest run has settled so far."""
        run = self.run_state
        return (0, 0, 0) if run is None else run.counts

    def stages(self) -> StageSeconds:
        """Return how long the workers of each stage were busy."""
        run = self.run_state
        return StageSeconds(
            fetch_s=0.0 if run is None else run.fetchers.busy_s,
            decode_s=self._decoders.busy_s,
            infer_s=self._inferers.busy_s,
            write_s=0.0 if run is None else run.writing.busy_s,
            fetchers=self._options.fetchers,
            decoders=self._decoders.count,
            inferers=self._inferers.count * (1 if self._facts is None else self._facts.parallel),
            writers=1,
        )

    @property
    def idle_s(self) -> float:
        """Seconds in which a device that was ready had nothing to compute, the mean over the devices."""
        return self._inferers.idle_share_s / self._inferers.count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._inferers.close()
        self._decoders.close()
        self._arena.close()
