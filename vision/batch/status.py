"""How far a job is, from what lies in its place; whether or not a run is working in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vision.batch.config import Task
from vision.batch.job_record import read_record
from vision.batch.output import Output
from vision.batch.shard_summary import ROWS_FOLDER, read_summaries, shard_index, shard_names
from vision.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """How far a job is.

    Attributes:
        address: of the job.
        task: of the job. source: SOURCE as the user gave it.
        committed_shards, total_shards: files that are there and whole as far as their footers say, and all.
        done_items, total_items: items of those shards, and all.
        rows: pictures and frames of those shards. failures: items that failed in them.
        damaged: what is wrong with other files below ``rows``, a line each.
        is_running: whether a run is working in it; None where nobody can tell, as in object stores.
    """

    address: str
    task: Task
    source: str
    committed_shards: int
    total_shards: int
    done_items: int
    total_items: int
    rows: int
    failures: int
    damaged: tuple[str, ...] = ()
    is_running: bool | None = None

    @property
    def is_finished(self) -> bool:
        """Whether all shards are there."""
        return self.committed_shards == self.total_shards and not self.damaged

    @property
    def is_whole(self) -> bool:
        """Whether all shards are there and no item failed."""
        return self.is_finished and not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self) | {"damaged": list(self.damaged), "is_finished": self.is_finished}

    def text(self) -> str:
        """Return lines for people, without the last line's end."""
        share = self.done_items / self.total_items if self.total_items else 1.0
        lines = [
            f"{self.address}: {self.task} of {self.source}",
            f"shards    {self.committed_shards:,} of {self.total_shards:,} committed",
            f"items     {self.done_items:,} of {self.total_items:,} done ({share:.0%})",
            f"rows      {self.rows:,}",
            f"failures  {self.failures:,}" + (" (quarantine.jsonl)" if self.failures else ""),
            f"state     {self._state()}",
        ]
        return "\n".join([*lines, *(f"damaged   {line}" for line in self.damaged)])

    def _state(self) -> str:
        if self.is_running:
            return "a run is working on it"
        if self.damaged:
            return "damaged; stride32 batch verify says what to do"
        if self.is_finished:
            return "finished"
        return "not finished; --resume goes on" + ("" if self.is_running is False else ", unless a run is at it")


def read_status(output: Output) -> JobStatus:
    """Return how far the job is; of its shards, the footers are read.

    Raises:
        InvalidInputError: there is no job, or ``job.json`` cannot be read.
    """
    record = read_record(output)
    # Asked before the shards: what a run commits in between is then counted as its work, and not as an end.
    is_running = output.is_running()
    found = list(read_summaries(output, shard_names(output)))
    summaries = [each for each in found if not isinstance(each, InvalidInputError)]
    foreign = [
        f"{output.locate(name)} is no shard; move it elsewhere"
        for name in output.names(ROWS_FOLDER)
        if shard_index(name) is None
    ]
    return JobStatus(
        address=output.address,
        task=record.task,
        source=record.source,
        committed_shards=len(summaries),
        total_shards=record.shards,
        done_items=sum(summary.items for summary in summaries),
        total_items=record.items,
        rows=sum(summary.rows for summary in summaries),
        failures=sum(len(summary.failures) for summary in summaries),
        damaged=(*(str(each) for each in found if isinstance(each, InvalidInputError)), *foreign),
        is_running=is_running,
    )
