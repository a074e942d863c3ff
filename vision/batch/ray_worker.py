"""An actor of a run on Ray: a local engine with its share of a node, which takes orders and commits shards."""

from __future__ import annotations

import pickle
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from vision import __version__
from vision.batch.config import BatchConfig, RunOptions
from vision.batch.facts import CoreFacts
from vision.batch.job import stored_manifest
from vision.batch.job_record import JOB_FILE
from vision.batch.local import LocalEngine, default_decoders
from vision.batch.output import open_output
from vision.batch.ray_board import BoardClient
from vision.batch.ray_results import Done, Trouble
from vision.batch.shard_file import ShardWriter
from vision.batch.shard_summary import ShardHeader, ShardSummary, read_summary, shard_name
from vision.batch.stats import StageSeconds
from vision.errors import ConfigError, InvalidInputError, VisionError

# So many actors an order may cost; Ray itself would begin it anew for ever.
_MOST_TRIES = 4


@dataclass(frozen=True, slots=True)
class Setup:
    """What an actor runs.

    Attributes:
        config: of the job. options: of the run.
        cpus, gpus: the actor's share of its node.
    """

    config: BatchConfig
    options: RunOptions
    cpus: int
    gpus: float

    def open(self) -> LocalEngine:
        """Start an engine that takes no more than this share."""
        runtime = self.config.pipeline.runtime
        # Ray shows an actor its own GPUs alone, numbered from 0.
        devices = tuple(f"cuda:{index}" for index in range(max(1, int(self.gpus)))) if self.gpus else ("cpu",)
        pipeline = replace(self.config.pipeline, runtime=replace(runtime, threads=runtime.threads or self.cpus))
        decoders = self.options.decoders or default_decoders(devices[0], self.cpus)
        return LocalEngine(
            replace(self.config, pipeline=pipeline), replace(self.options, decoders=decoders, devices=devices)
        )


@dataclass(frozen=True, slots=True)
class Place:
    """The job that an actor works for.

    Attributes:
        out: where it is. digest: of its inputs.
        facts: of the networks, as all actors must have them. header: of its shards.
    """

    out: str
    digest: str
    facts: CoreFacts
    header: ShardHeader


def read_facts(setup: Setup) -> CoreFacts | Trouble:
    """Return what the networks are on a node, or what keeps them from being loaded."""
    try:
        with setup.open() as engine:
            return engine.facts
    except (VisionError, OSError) as exc:
        return Trouble.of(exc)


class ShardWorker:
    """What Ray Data makes an actor of: called with an order, it commits the order's shards.

    Errors are returned and not raised: they end the run, and Ray must not try them again.

    Args:
        setup: what to run. place: the job. board: handle of the ``Board``.
    """

    def __init__(self, setup: Setup, place: Place, board: Any) -> None:
        self._name = uuid.uuid4().hex
        self._place = place
        self._output = open_output(place.out)
        self._stack = ExitStack()
        self._board = BoardClient(board, self._name)
        self._fetch_s = self._write_s = self._idle_s = 0.0
        self._ended_s: float | None = None
        self._manifest: Any = None
        self._trouble: Trouble | None = None
        try:
            self._engine = self._stack.enter_context(setup.open())
        except (VisionError, OSError) as exc:
            self._trouble = Trouble.of(exc)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Take an order, a batch of one row, and return what came of it as one row."""
        order, shards = int(batch["order"][0]), [int(index) for index in batch["shards"][0]]
        summaries: list[ShardSummary] = []
        tries = self._board.begin(order)
        if tries > _MOST_TRIES and self._trouble is None:
            self._trouble = Trouble(
                "StateError",
                f"the actors of Ray must stay alive, {_MOST_TRIES} have died over the shards {shards[0]} to "
                f"{shards[-1]}; look at memory and at the logs of Ray, then run again with --resume",
            )
        if self._trouble is None and not self._board.is_stopping:
            try:
                self._work(order, shards, summaries)
            except (VisionError, OSError) as exc:
                self._trouble = Trouble.of(exc)
        is_stopped = self._trouble is not None or self._board.is_stopping
        if is_stopped:
            self._stack.close()
        done = Done(order, self._name, tuple(summaries), self._stages(), self._idle_s, self._trouble, is_stopped)
        return {"done": [pickle.dumps(done)]}

    def _work(self, order: int, shards: Sequence[int], summaries: list[ShardSummary]) -> None:
        if self._manifest is None:
            self._manifest = self._open_manifest()
            self._check_facts(self._engine.facts)
        if self._ended_s is not None:
            self._idle_s += time.monotonic() - self._ended_s
        # A worker that died may have committed some of them.
        summaries += [found for index in shards if (found := self._committed(index)) is not None]
        left = [index for index in shards if index not in {summary.index for summary in summaries}]
        known = tuple(summaries)
        try:
            for summary in self._engine.run(
                (self._manifest.shard(index) for index in left),
                lambda shard: ShardWriter(self._output, shard, self._place.header),
                on_progress=lambda: self._board.tell(order, known, self._engine.counts),
                should_stop=lambda: self._board.is_stopping,
            ):
                summaries.append(summary)
        finally:
            self._idle_s += self._engine.idle_s
            if (run := self._engine.run_state) is not None:
                self._fetch_s += run.fetchers.busy_s
                self._write_s += run.writing.busy_s
            self._ended_s = time.monotonic()

    def _open_manifest(self) -> Any:
        """Return the job's list of inputs as it is seen from here."""
        expected = f"{self._output.address} must be seen from all nodes of Ray with the job that was begun there"
        advice = "give an --out in an object store or a folder that the nodes share"
        if not self._output.exists(JOB_FILE):
            raise InvalidInputError(f"{expected}, node {_node()} finds no {JOB_FILE}; {advice}")
        manifest = self._stack.enter_context(stored_manifest(self._output))
        if manifest.digest != self._place.digest:
            raise InvalidInputError(f"{expected}, node {_node()} finds one with other inputs; {advice}")
        return manifest

    def _check_facts(self, own: CoreFacts) -> None:
        """Raise ConfigError where this node would make other rows than its neighbours."""
        job, here = _identity(self._place.facts), _identity(own)
        job["stride32"], here["stride32"] = self._place.header.version, __version__
        different = [name for name in job if job[name] != here[name]]
        if different:
            name = different[0]
            raise ConfigError(
                f"all nodes of Ray must compute the same, on node {_node()} {name} is {here[name]}, in the job "
                f"{job[name]}; install the same stride32 and the same models on all nodes"
            )

    def _committed(self, index: int) -> ShardSummary | None:
        name = shard_name(index)
        if not self._output.exists(name):
            return None
        summary = read_summary(self._output, name)
        mine = self._manifest.shard(index).digest, self._place.header
        # Anything else is found, and told of, when the shard is to be committed.
        return summary if (summary.digest, summary.header) == mine else None

    def _stages(self) -> StageSeconds:
        if self._ended_s is None:
            return StageSeconds(decoders=0, inferers=0, fetchers=0, writers=0)
        return replace(self._engine.stages(), fetch_s=self._fetch_s, write_s=self._write_s)


def _identity(facts: CoreFacts) -> dict[str, Any]:
    """Return what decides the rows."""
    return {
        **{f"model {stage}": dict(model) for stage, model in facts.models.items()},
        "configuration": facts.config.identity(),
        "number of classes": len(facts.class_names),
        "class names": facts.class_names,
        "dimensions": facts.dim,
        "unit": facts.unit,
        "batch": facts.batch,
    }


def _node() -> str:
    import ray.util

    return str(ray.util.get_node_ip_address())
