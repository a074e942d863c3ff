"""A job's place made or taken up again: nothing is done twice, and nothing is mixed with what does not belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vision.batch.config import BatchConfig
from vision.batch.job_record import JOB_FILE, JobRecord, read_record
from vision.batch.local_output import refused_writes
from vision.batch.output import Output
from vision.batch.report_text import one_line
from vision.batch.shard_summary import (
    ROWS_FOLDER,
    ShardHeader,
    ShardSummary,
    damaged,
    read_summaries,
    shard_index,
    shard_names,
)
from vision.errors import ConfigError, InvalidInputError, OutputExistsError

if TYPE_CHECKING:
    from vision.batch.manifest import Manifest

MANIFEST_FILE = "manifest.parquet"
_NAMED_INPUTS = 5


class Job:
    """A job that can be worked on: its inputs, and which of its shards are there.

    Args:
        output: where its files are.
        record: what it was begun with.
        manifest: its inputs.

    Raises:
        InvalidInputError: a file below ``rows`` is damaged or belongs to something else.

    Attributes:
        committed: indices of the shards that were there when the job was opened.
    """

    def __init__(self, output: Output, record: JobRecord, manifest: Manifest) -> None:
        self.output = output
        self.record = record
        self.manifest = manifest
        self.committed: set[int] = {summary.index for summary in self.summaries()}

    def pending(self) -> list[int]:
        """Return the indices of the shards that were not there, in order."""
        return [index for index in range(self.manifest.n_shards) if index not in self.committed]

    def summaries(self) -> Iterator[ShardSummary]:
        """Yield what each shard that is there now says of itself, in order, after a check that it is this job's."""
        foreign = find_foreign(self.output.names(ROWS_FOLDER), self.manifest.n_shards)
        if foreign:
            raise InvalidInputError(
                f"{self.output.locate(ROWS_FOLDER)} must hold the shards of the job alone, found {foreign[0]}; move it "
                "elsewhere"
            )
        names = shard_names(self.output)
        for name, found in zip(names, read_summaries(self.output, names), strict=True):
            if isinstance(found, InvalidInputError):
                raise found
            wrong = find_mismatch(name, found, self.record, self.manifest)
            if wrong is not None:
                raise damaged(self.output, name, *wrong)
            yield found

    def header(self, *, class_names: Sequence[str] = (), dim: int = 0, unit: str | None = None) -> ShardHeader:
        """Return what all shards of the job say; arguments as in ``ShardHeader``."""
        return ShardHeader(
            task=self.record.task,
            config=self.record.identity,
            models=self.record.models,
            class_names=tuple(class_names),
            dim=dim,
            unit=unit,
        )


def find_foreign(names: Sequence[str], n_shards: int) -> list[str]:
    """Return the names that no shard of a job with so many has."""
    indices = [(name, shard_index(name)) for name in names]
    return [name for name, index in indices if index is None or index >= n_shards]


def find_mismatch(name: str, summary: ShardSummary, record: JobRecord, manifest: Manifest) -> tuple[str, str] | None:
    """Return what a shard's file should be and what it is; None for one that belongs to the job."""
    index = shard_index(name)
    if index is None or summary.index != index:
        return f"shard {index}", f"shard {summary.index} under its name"
    if summary.digest != manifest.shard(index).digest:
        return "made from the inputs of this job", "one made from others"
    header = summary.header
    made_with = header.task, header.config, header.models, header.version
    if made_with != (record.task, record.identity, record.models, record.version):
        return "made with the configuration, models and version of this job", "one made with others"
    return None


def open_job(
    output: Output,
    *,
    config: BatchConfig,
    models: Mapping[str, Mapping[str, str]],
    manifest: Manifest,
    source: str,
    resume: bool,
) -> Job:
    """Begin a job in an empty place, or go on with the one that is there; the caller holds ``output.lock()``.

    Args:
        output: where its files go.
        config: what to compute, thresholds in place of "auto".
        models: for each stage the name of its model and the sha256 of its weights.
        manifest: the inputs.
        source: SOURCE as the user gave it.
        resume: go on with a job that is there; where there is none, one is begun all the same.

    Raises:
        OutputExistsError: a job that nobody wants to go on with, or files of something else.
        ConfigError: settings, models, versions or inputs are not those of the job; it lists all differences.
        InvalidInputError: a file of the job is damaged, or the output refuses a file.
    """
    refuse_unasked(output, resume=resume)
    now = JobRecord.of(config, models, manifest, source)
    if not output.exists(JOB_FILE):
        _write_manifest(output, manifest)
        # Last: it is what makes a folder a job.
        if output.put_new(JOB_FILE, now.to_json()):
            return Job(output, now, manifest)
        # Another run has begun at the same moment, in a place that cannot be locked.
    then = read_record(output)
    _refuse_differences(output, then, now, manifest)
    # The same items, and where they are now.
    _replace_manifest(output, manifest)
    return Job(output, then, manifest)


def refuse_unasked(output: Output, *, resume: bool) -> None:
    """Raise OutputExistsError for a job that nobody wants to go on with, or files of something else; costs no model's
    load."""
    if not output.exists(JOB_FILE):
        foreign = [name for name in output.names() if name != MANIFEST_FILE]
        if foreign:
            raise OutputExistsError(
                f"{output.address} must be new or empty, or hold a batch job, found {len(foreign)} other files, "
                f"{foreign[0]!r} among them; give another --out",
                expected="an empty folder",
                actual=f"{len(foreign)} files",
            )
    elif not resume:
        found = f"a job with {len(shard_names(output))} of {read_record(output).shards} shards"
        raise OutputExistsError(
            f"{output.address} must be new or empty, it holds {found}; pass --resume to go on, or another --out",
            expected="an empty folder",
            actual=found,
        )


def _write_manifest(output: Output, manifest: Manifest) -> None:
    if output.put_new(MANIFEST_FILE, _build_manifest(output, manifest)):
        return
    # Left by a run that ended before it was a job. The same inputs may lie elsewhere by now.
    with stored_manifest(output) as stored:
        is_same = stored.digest == manifest.digest
    if not is_same and not output.is_lockable:
        raise OutputExistsError(
            f"{output.locate(MANIFEST_FILE)} must list the inputs as they are now, found others and no {JOB_FILE}; if "
            "no other run is starting there, delete it, else give another --out"
        )
    _replace_manifest(output, manifest)


def _replace_manifest(output: Output, manifest: Manifest) -> None:
    output.replace(MANIFEST_FILE, _build_manifest(output, manifest))


def _build_manifest(output: Output, manifest: Manifest) -> Path:
    part = output.scratch(MANIFEST_FILE)
    with refused_writes(part):
        manifest.write(part)
    return part


@contextmanager
def stored_manifest(output: Output) -> Iterator[Manifest]:
    """Open the list of inputs that a job was begun with."""
    from vision.batch.manifest import Manifest

    with output.open(MANIFEST_FILE) as file:
        yield Manifest.open(file)


@contextmanager
def known_manifest(output: Output, config: BatchConfig) -> Iterator[Manifest | None]:
    """Open the list of inputs of a job that is there, if its videos are divided as ``config`` asks; else give None.

    What is wrong with the job is not told here: ``open_job`` does.
    """
    with ExitStack() as stack:
        manifest = None
        with suppress(InvalidInputError):
            if output.exists(JOB_FILE):
                then = read_record(output)
                if (then.task, then.identity.get("video_chunk")) == (config.task, config.video_chunk):
                    manifest = stack.enter_context(stored_manifest(output))
        yield manifest


def _refuse_differences(output: Output, then: JobRecord, now: JobRecord, manifest: Manifest) -> None:
    """Raise ConfigError when a job was begun with anything else than what is wanted now."""
    differences = then.differences(now)
    if then.digest != now.digest:
        differences += _input_differences(output, then, manifest)
    if differences:
        raise ConfigError(
            f"--resume must go on with what the job in {output.address} was begun with, "
            f"{len(differences)} {'things differ' if len(differences) > 1 else 'thing differs'}:\n  "
            + "\n  ".join(one_line(line) for line in differences)
            + "\nundo that, or give another --out"
        )


def _input_differences(output: Output, then: JobRecord, manifest: Manifest) -> list[str]:
    from vision.batch.manifest import differences

    found: list[str] = []
    # Where the list is damaged, their numbers are all that is known.
    with suppress(InvalidInputError), stored_manifest(output) as stored:
        found = differences(stored, manifest, limit=_NAMED_INPUTS)
    return [f"inputs: {line}" for line in found] or [
        f"inputs: {then.items} items in {then.shards} shards in the job, {manifest.n_items} in {manifest.n_shards} now"
    ]
