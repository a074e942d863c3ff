"""``quarantine.jsonl``: the inputs that failed, a line each, gathered from the shards that tell of them."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from vision.batch.items import Failure
from vision.batch.local_output import refused_writes
from vision.batch.output import Output
from vision.batch.shard_summary import ShardSummary

QUARANTINE_FILE = "quarantine.jsonl"


def write_quarantine(output: Output, summaries: Iterable[ShardSummary]) -> int:
    """Write ``quarantine.jsonl`` in place of the last one, and return how many failures it has.

    Args:
        output: of the job.
        summaries: of all committed shards, in any order.
    """
    failures = sorted((each for summary in summaries for each in summary.failures), key=lambda failure: failure.item)
    part = output.scratch(QUARANTINE_FILE)
    with refused_writes(part), part.open("wb") as file:
        file.writelines(failure_line(failure) for failure in failures)
    output.replace(QUARANTINE_FILE, part)
    return len(failures)


def failure_line(failure: Failure) -> bytes:
    """Return the line of a failure, its end included."""
    row = {
        "path": failure.path,
        "stage": failure.stage,
        "error": failure.error,
        "tries": failure.tries,
        "item": failure.item,
        "rows": failure.rows,
    }
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
