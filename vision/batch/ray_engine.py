"""The Ray engine: Ray Data gives the shards of a job to actors, each of which is a local engine.

Nothing about a shard depends on who makes it, and its commit is put-if-absent. So Ray may run one again wherever it
likes: what was committed is found, and what was not is made anew.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vision.batch.config import BatchConfig, RunOptions
from vision.batch.facts import CoreFacts
from vision.batch.filesystems import is_url, local_path
from vision.batch.ray_board import Board, BoardView, News
from vision.batch.ray_cluster import cluster, divide, live_nodes
from vision.batch.ray_results import Done, Trouble, last_line, totals
from vision.batch.ray_stream import OrderStream
from vision.batch.ray_worker import Place, Setup, ShardWorker, read_facts
from vision.batch.stats import StageSeconds
from vision.errors import ConfigError, StateError

if TYPE_CHECKING:
    from vision.batch.job import Job
    from vision.batch.run import RayOptions
    from vision.batch.shard_summary import ShardSummary

_PERIOD_S = 0.3
# For actors to give up what they have in hand; then they are ended.
_PATIENCE_S = 10.0
# Shards in an order at most: an engine has nothing to do for a moment between two orders.
_MOST_SHARDS = 16
# So many actors in a row may die while they start.
_MOST_DEATHS = 3


class RayEngine:
    """Runs shards on Ray. A context manager: leaving it ends the actors, and Ray where this has started it.

    Args:
        config: what to compute. options: how, on each node. ray: where, and in how many actors.
        out: where the job is.

    Raises:
        ConfigError: settings that do not go together, no cluster, or no room in it.
    """

    def __init__(self, config: BatchConfig, options: RunOptions, ray: RayOptions, *, out: str) -> None:
        _check_devices(config, options, ray)
        # Actors work elsewhere; a path must mean the same there.
        path = local_path(out)
        self._out = out if is_url(path) else str(Path(path).expanduser().absolute())
        self._facts: CoreFacts | None = None
        self._settled = (0, 0, 0)
        self._finished: set[int] = set()
        self._news: dict[int, News] = {}
        self._stages: dict[str, StageSeconds] = {}
        self._idle_s: dict[str, float] = {}
        self._seen_s: dict[str, float] = {}
        with ExitStack() as stack:
            stack.enter_context(cluster(ray.address))
            self._share = divide(ray, live_nodes(), is_fixed=ray.address is None)
            self._setup = Setup(config, options, self._share.cpus, self._share.gpus)
            self._asked = self._remote(read_facts).remote(self._setup)
            self._stack = stack.pop_all()

    @property
    def facts(self) -> CoreFacts:
        """What the networks are, on one of the nodes; waits for them the first time."""
        if self._facts is None:
            import ray

            try:
                found = ray.get(self._asked)
            except ray.exceptions.RayError as exc:
                raise ConfigError(
                    "the nodes of Ray must be able to run stride32, one answered: "
                    f"{last_line(exc)}; install stride32 and its extra ray in the same version on all nodes"
                ) from exc
            if isinstance(found, Trouble):
                raise found.error()
            self._facts = found
        return self._facts

    @property
    def counts(self) -> tuple[int, int, int]:
        """Items, rows and failures that were settled so far, those of unfinished shards included."""
        open_news = [news for order, news in self._news.items() if order not in self._finished]
        items, rows, failures = self._settled
        return (
            items + sum(news.items for news in open_news),
            rows + sum(news.rows for news in open_news),
            failures + sum(news.failures for news in open_news),
        )

    @property
    def idle_s(self) -> float:
        """Seconds in which a device that was ready had nothing to compute, the mean over the actors."""
        return sum(self._idle_s.values()) / max(1, len(self._idle_s))

    def stages(self) -> StageSeconds:
        """Return how long the workers of each stage were busy, in all actors."""
        names = StageSeconds.__dataclass_fields__
        all_stages = self._stages.values()
        return StageSeconds(**{name: sum(getattr(stages, name) for stages in all_stages) for name in names})

    def run_job(
        self,
        job: Job,
        pending: Sequence[int],
        *,
        on_progress: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[ShardSummary]:
        """Yield the summary of each of a job's pending shards some time after it is committed.

        Raises:
            VisionError: what an actor met with that is no item's fault. StateError: actors die again and again.
        """
        if not pending:
            return
        facts = self.facts
        header = job.header(class_names=facts.class_names, dim=facts.dim, unit=facts.unit)
        board = BoardView(self._remote(Board, light=True).remote())
        workers = min(self._share.workers, len(pending))
        place = Place(self._out, job.manifest.digest, facts, header)
        stream = OrderStream(lambda: self._dataset(plan_orders(pending, workers), workers, place, board.handle))
        try:
            yield from self._results(stream, board, workers, on_progress, should_stop)
        finally:
            board.look(stop=True)
            stream.close()
        if stream.is_over and job.output.is_lockable:
            # Of actors that have died.
            job.output.clean()

    def _results(
        self,
        stream: OrderStream,
        board: BoardView,
        workers: int,
        on_progress: Callable[[], None],
        should_stop: Callable[[], bool],
    ) -> Iterator[ShardSummary]:
        """Yield what comes until all is done; once something is wrong or the run should stop, what still comes."""
        trouble: Trouble | None = None
        stopping_s: float | None = None
        stopped: set[str] = set()
        while not stream.is_over and len(stopped) < workers:
            done = stream.next(_PERIOD_S)
            if done is not None:
                self._take(done)
                yield from done.summaries
                trouble = trouble or done.trouble
                stopped |= {done.worker} if done.is_stopped else set()
            self._news |= {news.order: news for news in board.look(stop=stopping_s is not None)}
            on_progress()
            if stopping_s is None and (trouble is not None or should_stop()):
                stopping_s = time.monotonic()
            if stopping_s is not None and time.monotonic() - stopping_s > _PATIENCE_S:
                break
        for worker, seen_s in self._seen_s.items():
            self._idle_s[worker] += time.monotonic() - seen_s
        if trouble is not None:
            raise trouble.error()
        if stream.error is not None and stopping_s is None:
            raise StateError(
                f"the actors of Ray must stay alive, Ray has ended the run: {last_line(stream.error)}; look at memory "
                "and at the logs of Ray, then run again with --resume"
            ) from stream.error

    def _take(self, done: Done) -> None:
        self._finished.add(done.order)
        self._news.pop(done.order, None)
        had, new = self._settled, totals(done.summaries)
        self._settled = had[0] + new[0], had[1] + new[1], had[2] + new[2]
        self._stages[done.worker], self._idle_s[done.worker] = done.stages, done.idle_s
        self._seen_s[done.worker] = time.monotonic()

    def _dataset(self, orders: Sequence[Sequence[int]], workers: int, place: Place, board: Any) -> Iterator[Any]:
        """Return an iterator of rows, one an order, in the order in which they are done."""
        import ray.data

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context = ray.data.DataContext.get_current().copy()
        context.max_consecutive_actor_init_deaths = _MOST_DEATHS
        # A long video may take hours, and nothing comes of its shard before.
        context.execution_no_progress_timeout_s = -1
        rows = [{"order": number, "shards": list(shards)} for number, shards in enumerate(orders)]
        with ray.data.DataContext.current(context):
            # Its blocks are there without a task, which would wait for CPUs that the actors have.
            dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                ShardWorker,
                fn_constructor_args=(self._setup, place, board),
                batch_size=1,
                # One order at a time: a second one would wait for this actor while others have nothing to do.
                compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
                num_cpus=self._share.cpus,
                num_gpus=self._share.gpus,
            )
            return iter(dataset.iter_rows())

    def _remote(self, target: Any, *, light: bool = False) -> Any:
        """Return a function with an actor's share of a node, or an actor that needs next to nothing."""
        import ray

        if light:
            return ray.remote(target).options(num_cpus=0, max_restarts=-1, max_task_retries=-1)
        return ray.remote(target).options(num_cpus=self._share.cpus, num_gpus=self._share.gpus)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()


def plan_orders(pending: Sequence[int], workers: int) -> list[list[int]]:
    """Divide shards into orders: several at a time while there are many, one by one towards the end, so that all
    actors end at about the same time.

    >>> [len(order) for order in plan_orders(range(40), 2)]
    [10, 7, 5, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1]
    """
    orders, first = [], 0
    while first < len(pending):
        size = max(1, min(_MOST_SHARDS, (len(pending) - first) // (2 * workers)))
        orders.append(list(pending[first : first + size]))
        first += size
    return orders


def _check_devices(config: BatchConfig, options: RunOptions, ray: RayOptions) -> None:
    """Raise ConfigError for devices that are not those of the actors."""
    device = config.pipeline.runtime.device
    if options.devices:
        raise ConfigError(
            f"--devices is an option of --engine local, got {','.join(options.devices)}; give --ray-gpus for "
            "--engine ray"
        )
    if ray.gpus < 0 or (ray.gpus > 1 and ray.gpus != int(ray.gpus)):
        raise ConfigError(f"--ray-gpus must be a share below 1 or a whole number, got {ray.gpus:g}; correct it")
    if device.startswith("cuda") and not ray.gpus:
        raise ConfigError(f"--device {device} needs actors with GPUs, got --ray-gpus 0; give --ray-gpus 1 or a share")
    if device == "cpu" and ray.gpus:
        raise ConfigError(f"--device cpu needs no GPUs, got --ray-gpus {ray.gpus:g}; leave one of them out")
