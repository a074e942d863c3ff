"""What every export is: a format that fits the task, and a file that is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from vision.batch.local_output import refused_writes
from vision.batch.output import Output
from vision.errors import ConfigError

FORMATS = ("parquet", "jsonl", "coco")
COCO_TASKS = ("detect", "segment")


def check_format(task: str, format: str) -> None:
    """Raise ConfigError for a format that does not exist, or that has no words for what the task finds."""
    if format not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, got {format!r}; pick one")
    if format == "coco" and task not in COCO_TASKS:
        raise ConfigError(
            f"COCO results are of the tasks {' and '.join(COCO_TASKS)}, got {task}; take --format parquet or jsonl"
        )


@contextmanager
def building(output: Output, name: str) -> Iterator[BinaryIO]:
    """Return a file that gets its name, in place of what has it, when the block ends without an error."""
    part = output.scratch(name)
    try:
        with refused_writes(part), part.open("wb") as file:
            yield file
        output.replace(name, part)
    finally:
        part.unlink(missing_ok=True)
