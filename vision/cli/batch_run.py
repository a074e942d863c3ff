"""``stride32 batch SOURCE``: from the options to a job, and from its run to exports, reports and the exit code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vision.batch.config import BatchConfig, RunOptions
from vision.cli import batch_options as own
from vision.cli import options
from vision.cli.exit_codes import FAILURE, INTERRUPTED, OK, SOME_INPUTS_FAILED
from vision.cli.extras import needs_extra
from vision.errors import ConfigError

if TYPE_CHECKING:
    from vision.batch.output import Output
    from vision.batch.run import BatchRequest, RayOptions
    from vision.batch.stats import RunReport
    from vision.config import PipelineConfig

_JOB, _RUN = BatchConfig(task="detect"), RunOptions()
_TABLES = {
    "detect": "detection",
    "track": "detection",
    "segment": "segmentation",
    "embed": "embedding",
    "classify": "classification",
}
# The tasks that an option belongs to; those that are not here belong to all.
_TASKS_OF = {
    "--weights": ("detect", "track", "segment"),
    "--conf": ("detect", "track"),
    "--classes": ("detect", "track", "segment"),
    "--tile": ("detect", "track", "segment"),
    "--tracker": ("track",),
}
STOPPING = "stopping: finished shards are kept, begun ones are done again by --resume; Ctrl-C again stops at once"
RESUME_HINT = "finished shards are kept; --resume goes on"


def run(
    source: own.Source,
    task: own.Task,
    out: own.Out,
    column: own.Column = "path",
    format: own.Format = own.FormatName.parquet,
    coco_gt: own.CocoGt = None,
    shard_size: own.ShardSize = _JOB.shard_size,
    video_chunk: own.VideoChunk = _JOB.video_chunk,
    batch: own.Batch = _JOB.batch,
    max_pixels: own.MaxPixels = _JOB.max_pixels,
    model: own.Model = None,
    weights: own.Weights = None,
    conf: own.Conf = None,
    classes: own.Classes = None,
    tile: own.Tile = None,
    tracker: own.Tracker = None,
    resume: own.Resume = False,
    engine: own.Engine = own.EngineName.local,
    devices: own.Devices = None,
    decoders: own.Decoders = _RUN.decoders,
    fetchers: own.Fetchers = _RUN.fetchers,
    item_timeout: own.ItemTimeout = _RUN.item_timeout_s,
    max_errors: own.MaxErrors = None,
    ray_address: own.RayAddress = None,
    ray_workers: own.RayWorkers = None,
    ray_cpus: own.RayCpus = None,
    ray_gpus: own.RayGpus = None,
    device: options.Device = None,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
) -> int:
    """Process many inputs into Parquet, each exactly once, whatever stops the run in between."""
    given = {"--weights": weights, "--conf": conf, "--classes": classes, "--tile": tile, "--tracker": tracker}
    settings = _pipeline_config(task.value, model, given, config, overrides, device)
    if print_config:
        from vision.config import to_toml

        typer.echo(to_toml(settings), nl=False)
        return OK
    job = BatchConfig(
        task=task.value,
        pipeline=settings,
        shard_size=shard_size,
        video_chunk=video_chunk,
        batch=batch,
        max_pixels=max_pixels,
    )
    how = RunOptions(
        decoders=decoders,
        fetchers=fetchers,
        devices=_device_list(devices),
        item_timeout_s=item_timeout,
        max_errors=max_errors,
    )
    if coco_gt is not None and format != "coco":
        raise ConfigError(f"--coco-gt is a setting of --format coco, got --format {format}; leave one of them out")
    with needs_extra("batch", "a batch job"):
        from vision.batch.exports import check_format
        from vision.batch.run import BatchRequest

        check_format(task.value, format.value)
    ray = _ray_options(engine, address=ray_address, workers=ray_workers, cpus=ray_cpus, gpus=ray_gpus)
    request = BatchRequest(
        source=source,
        out=out,
        config=job,
        options=how,
        engine=engine.value,
        resume=resume,
        column=column,
        ray=ray,
    )
    return _run_job(request, format, coco_gt)


def _pipeline_config(
    task: str,
    model: str | None,
    given: Mapping[str, str | float | Path | None],
    config: Path | None,
    overrides: list[str] | None,
    device: str | None,
) -> PipelineConfig:
    """Return the settings of all stages; raise ConfigError for an option that the task has no use for."""
    for name, value in given.items():
        if value is not None and task not in _TASKS_OF[name]:
            fitting = " and ".join(_TASKS_OF[name])
            raise ConfigError(f"{name} is an option of the tasks {fitting}, got --task {task}; leave it out")
    values: dict[str, str | float | Path | None] = {"model": model}
    values |= {name.removeprefix("--"): value for name, value in given.items() if name != "--tracker"}
    # JSON writes texts and numbers as TOML does.
    texts = [
        f"{_TABLES[task]}.{name}={json.dumps(str(value) if isinstance(value, Path) else value)}"
        for name, value in values.items()
        if value is not None
    ]
    preset = given["--tracker"]
    return options.pipeline_config(
        config, [*texts, *(overrides or [])], device=device, tracker=None if preset is None else str(preset)
    )


def _device_list(text: str | None) -> tuple[str, ...]:
    """Return the devices of ``--devices``, each checked."""
    if text is None:
        return ()
    from vision.runtime.config import RuntimeConfig

    return tuple(RuntimeConfig(device=name.strip()).device for name in text.split(","))


def _ray_options(engine: own.EngineName, **given: Any) -> RayOptions | None:
    """Return what ``--ray-...`` says, or None with the engine of this machine; what was not given is its default."""
    known = {name: value for name, value in given.items() if value is not None}
    if engine is own.EngineName.ray:
        with needs_extra("ray", "--engine ray"):
            from vision.batch.run import RayOptions

            return RayOptions(**known)
    if known:
        raise ConfigError(f"--ray-{min(known)} is an option of --engine ray, got --engine {engine}; leave one out")
    return None


def _run_job(request: BatchRequest, format: own.FormatName, coco_gt: Path | None) -> int:
    """Run the job to its end, its exports and its report; return the exit code."""
    from vision.batch.report import write_report
    from vision.batch.run import run_batch
    from vision.cli.batch_progress import BatchProgress
    from vision.cli.frames import GracefulStop

    try:
        with ExitStack() as shown:
            stop = shown.enter_context(GracefulStop(STOPPING))
            progress = shown.enter_context(BatchProgress(request.config.task))

            def finish(output: Output, report: RunReport) -> None:
                # From here on Ctrl-C ends at once: exports and reports are made anew by the next run.
                shown.close()
                _export(output, report, format, coco_gt)
                typer.echo(write_report(output, report, page=report.finished or not report.interrupted), nl=False)

            report = run_batch(request, on_progress=progress.show, should_stop=lambda: stop.requested, finish=finish)
    except KeyboardInterrupt:
        typer.echo(RESUME_HINT, err=True)
        raise
    return _exit_code(report)


def _export(output: Output, report: RunReport, format: own.FormatName, coco_gt: Path | None) -> None:
    """Write the other format from all committed shards, unless the job is not finished: it would be half a result."""
    from vision.batch.exports import write_coco, write_jsonl

    if format is own.FormatName.parquet:
        return
    if not report.finished:
        typer.echo(f"--format {format} is written when the job is finished", err=True)
    elif format is own.FormatName.jsonl:
        write_jsonl(output)
    else:
        write_coco(output, coco_gt)


def _exit_code(report: RunReport) -> int:
    """Say on stderr what is not well, and return the code for it."""
    if report.interrupted and not report.finished:
        typer.echo(RESUME_HINT, err=True)
        return INTERRUPTED
    items = f"{report.total_failures} item{'s' * (report.total_failures != 1)}"
    if report.stopped_by_errors:
        typer.echo(
            f"error: {items} failed, more than --max-errors allows; see quarantine.jsonl in "
            f"{report.out}, and go on with --resume and a larger number",
            err=True,
        )
        return FAILURE
    if not report.finished:
        missing = report.total_shards - report.committed_shards
        typer.echo(f"error: {missing} of {report.total_shards} shards are not written; --resume goes on", err=True)
        return FAILURE
    if report.total_failures:
        typer.echo(f"error: {items} failed, see quarantine.jsonl; the others are written", err=True)
        return SOME_INPUTS_FAILED if report.total_rows else FAILURE
    return OK
