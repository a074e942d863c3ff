"""A batch job from SOURCE to a folder of committed shards: ``run_batch`` is what ``stride32 batch`` calls.

Read it from above: list the inputs, begin or take up the job, let the engine work on the shards that are not there,
tell how it went. What is committed stays, whatever ends the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from vision import __version__
from vision.batch.config import BatchConfig, RunOptions
from vision.batch.engine import Engine, RunWatch
from vision.batch.job import Job, known_manifest, open_job, refuse_unasked
from vision.batch.listing import list_inputs
from vision.batch.local import LocalEngine
from vision.batch.manifest import Manifest
from vision.batch.output import Output, open_output
from vision.batch.quarantine import write_quarantine
from vision.batch.stats import RunProgress, RunReport
from vision.io.container import mask_credentials
from vision.runtime.cpus import available_cpus

EngineName = Literal["local", "ray"]
_PACKAGES = ("torch", "torchvision", "onnxruntime", "numpy", "opencv-python-headless", "av", "pyarrow", "ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """Where and how a job runs on Ray.

    Attributes:
        address: of a running cluster, or "auto"; None starts Ray on this machine.
        workers: actors, each with networks of its own; 0 takes as many as the cluster has room for.
        cpus: CPUs of an actor; 0 takes all of the smallest node, or the share of a GPU's node.
        gpus: GPUs of an actor, a fraction shares one.
    """

    address: str | None = None
    workers: int = 0
    cpus: int = 0
    gpus: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """What is asked of a run.

    Attributes:
        source: SOURCE as the user gave it. out: where the job is, a folder or an fsspec URL.
        config: what to compute. options: how.
        engine: this machine, or Ray.
        resume: go on with the job that is there.
        column: of a table of inputs that holds the paths.
        ray: how to use Ray.
    """

    source: str
    out: str
    config: BatchConfig
    options: RunOptions = field(default_factory=RunOptions)
    engine: EngineName = "local"
    resume: bool = False
    column: str = "path"
    ray: RayOptions | None = None


def run_batch(
    request: BatchRequest,
    *,
    on_progress: Callable[[RunProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    finish: Callable[[Output, RunReport], None] | None = None,
) -> RunReport:
    """Run a job, or what is left of it, and return how it went.

    Args:
        request: what is asked for.
        on_progress: told now and then, on this thread.
        should_stop: asked now and then; once True, the run ends with what is committed.
        finish: called at the end, while other runs are still kept out: it may write beside the shards.

    Raises:
        ConfigError, InvalidInputError, ModelError: the job cannot be begun or taken up; nothing is written then.
        StateError: nothing at all gets through; what is committed stays.
    """
    started = time.monotonic()
    output = open_output(request.out)
    with output.lock():
        refuse_unasked(output, resume=request.resume)
        output.clean()
        with ExitStack() as stack:
            # Its processes load the networks while the inputs are listed.
            engine = _open_engine(request, stack)
            with known_manifest(output, request.config) as known:
                inputs = list_inputs(request.source, request.config, column=request.column, known=known)
            manifest = Manifest.build(inputs, request.config)
            facts = engine.facts
            job = open_job(
                output,
                config=facts.config,
                models=facts.models,
                manifest=manifest,
                source=mask_credentials(request.source),
                resume=request.resume,
            )
            watch = RunWatch(job, engine, request.options.max_errors, on_progress, should_stop)
            startup_s = time.monotonic() - started
            for _ in engine.run_job(job, job.pending(), on_progress=watch.tell, should_stop=watch.should_stop):
                watch.committed += 1
            watch.tell(always=True)
            report = _report(request, job, engine, watch, startup_s, started, inputs.notes)
        # The processes have gone with their memory; what follows may need it.
        if finish is not None:
            finish(output, report)
    return report


def _open_engine(request: BatchRequest, stack: ExitStack) -> Engine:
    if request.engine == "local":
        return stack.enter_context(LocalEngine(request.config, request.options))
    from vision.batch.ray_engine import RayEngine

    ray = request.ray or RayOptions()
    return stack.enter_context(RayEngine(request.config, request.options, ray, out=request.out))


def _report(
    request: BatchRequest,
    job: Job,
    engine: Engine,
    watch: RunWatch,
    startup_s: float,
    started: float,
    notes: tuple[str, ...],
) -> RunReport:
    """Write the quarantine and return what the run did; figures of the whole job come from its committed shards."""
    seconds = time.monotonic() - started
    summaries = list(job.summaries())
    write_quarantine(job.output, summaries)
    items, rows, failures = engine.counts
    facts = engine.facts
    return RunReport(
        task=request.config.task,
        source=mask_credentials(request.source),
        out=mask_credentials(request.out),
        engine=request.engine,
        device=facts.device,
        items=items,
        rows=rows,
        failures=failures,
        skipped_items=watch.skipped_items,
        committed_shards=len(summaries),
        total_shards=job.manifest.n_shards,
        total_rows=sum(summary.rows for summary in summaries),
        total_failures=sum(len(summary.failures) for summary in summaries),
        seconds=seconds,
        startup_s=startup_s,
        stages=engine.stages(),
        device_idle_share=min(1.0, engine.idle_s / max(seconds - startup_s, 1e-9)),
        finished=len(summaries) == job.manifest.n_shards,
        interrupted=watch.interrupted,
        stopped_by_errors=watch.stopped_by_errors,
        cpus=available_cpus(),
        versions=_versions(),
        notes=notes,
    )


def _versions() -> dict[str, str]:
    found = {"stride32": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
