"""A shard's one file under construction: rows in row groups, and in its footer all that the shard says of itself.

The file holds nothing that depends on when, where or after which crash it was made, so it is the same byte by byte
whoever makes it; that lets a store keep whichever comes first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from vision.batch.items import Failure, Shard
from vision.batch.local_output import refused_writes
from vision.batch.output import Output
from vision.batch.rows import Row
from vision.batch.schema import arrow_schema, require_pyarrow, to_record_batch
from vision.batch.shard_laws import ShardLaws
from vision.batch.shard_summary import (
    METADATA_KEY,
    ShardChecksum,
    ShardHeader,
    ShardSummary,
    read_summary,
    seal,
    shard_name,
    summary_to_json,
)
from vision.errors import InvalidInputError, StateError

# Fixed, so that the bytes of a file do not depend on how many rows came at a time.
ROWS_OF_A_GROUP = 256
# Only texts repeat; a dictionary of floats is tried and thrown away again in each row group.
_REPEATING = ("path", "unit", "names.list.element", "masks.list.element.name")

__all__ = ["METADATA_KEY", "ShardHeader", "ShardSummary", "ShardWriter", "read_summary", "shard_name"]


class ShardWriter:
    """Writes the rows of a shard; nothing is there under its name before ``commit``.

    Args:
        output: of the job.
        shard: whose rows they are.
        header: what all shards of the job say.
    """

    def __init__(self, output: Output, shard: Shard, header: ShardHeader) -> None:
        require_pyarrow()
        import pyarrow.parquet as pq

        self.name = shard_name(shard.index)
        self._output = output
        self._shard = shard
        self._header = header
        self._laws = ShardLaws(shard)
        self._failures: dict[int, Failure] = {}
        self._waiting: list[Row] = []
        self._schema = arrow_schema(header.task, header.dim, regression=header.is_regression)
        self._part: Path | None = output.scratch(self.name)
        with refused_writes(self._part):
            self._file = _HashedFile(self._part.open("wb"))
            self._writer = pq.ParquetWriter(
                self._file,
                self._schema,
                compression="zstd",
                use_dictionary=[name for name in _REPEATING if name.partition(".")[0] in self._schema.names],
                write_page_checksum=True,
            )

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows, in the order of their items and frames.

        Raises:
            StateError: a row of an item that is not the shard's, or out of order.
            InvalidInputError: the disk takes no more.
        """
        self._require_open()
        for row in rows:
            self._laws.add(row["item"], row["frame_index"])
        self._waiting += rows
        while len(self._waiting) >= ROWS_OF_A_GROUP:
            self._flush()

    def fail(self, failure: Failure) -> None:
        """Say that an item, or a part of it, has failed; how many rows it has nevertheless is counted here."""
        self._require_open()
        if failure.item in self._failures or failure.item not in self._laws.items:
            raise StateError(
                f"shard {self._shard.index} must be told of the failure of each of its items once, got item "
                f"{failure.item}; this is an error of Stride32, report it"
            )
        self._failures[failure.item] = failure

    def commit(self) -> ShardSummary:
        """Give the file its name, and return what it says of itself.

        A file that is there already was made by another run from the same items, and stays.

        Raises:
            StateError: an item has neither rows nor a failure.
            InvalidInputError: the output refuses the file, or has another one of that name.
        """
        part = self._require_open()
        self._laws.close(self._failures.keys())
        if self._waiting:
            self._flush()
        summary = self._summary()
        with refused_writes(part):
            self._writer.add_key_value_metadata({METADATA_KEY: summary_to_json(summary).decode()})
            self._writer.close()
            self._file.close()
            with part.open("rb+") as file:
                start = seal(file)
        if start != summary.checksum.n_bytes:
            raise StateError(
                f"pyarrow must write whole row groups at once, found {start} bytes before the footer of {self.name} "
                f"where {summary.checksum.n_bytes} were hashed; use another version of pyarrow"
            )
        is_new = self._output.put_new(self.name, part)
        self._part = None
        return summary if is_new else self._existing(summary)

    def abort(self) -> None:
        """Remove the unfinished file; does nothing after ``commit``."""
        part, self._part = self._part, None
        if part is not None:
            self._file.discard()
            # What the disk still has to say no longer matters.
            with suppress(Exception):
                self._writer.close()
            part.unlink(missing_ok=True)

    def _summary(self) -> ShardSummary:
        shard = self._shard
        failures = [
            replace(failure, error=_as_text(failure.error), rows=self._laws.rows_of.get(item, 0))
            for item, failure in sorted(self._failures.items())
        ]
        return ShardSummary(
            index=shard.index,
            digest=shard.digest,
            first_item=shard.items[0].index if shard.items else 0,
            items=len(shard.items),
            rows=self._laws.n_rows,
            failures=tuple(failures),
            header=self._header,
            checksum=ShardChecksum(self._file.hash.hexdigest(), self._file.n_bytes),
        )

    def _existing(self, own: ShardSummary) -> ShardSummary:
        """Return what the file says that another run has put there."""
        other = read_summary(self._output, self.name)
        if (other.digest, other.header) != (own.digest, own.header):
            raise InvalidInputError(
                f"{self._output.locate(self.name)} must be of this job, found one of other inputs or another "
                "configuration; delete it and run again with --resume, or give another --out"
            )
        return other

    def _flush(self) -> None:
        """Write a row group."""
        import pyarrow as pa

        rows, self._waiting = self._waiting[:ROWS_OF_A_GROUP], self._waiting[ROWS_OF_A_GROUP:]
        batch = to_record_batch(self._schema, rows, self._header.class_names)
        with refused_writes(self._require_open()):
            self._writer.write_table(pa.Table.from_batches([batch]), row_group_size=ROWS_OF_A_GROUP)

    def _require_open(self) -> Path:
        if self._part is None:
            raise StateError(f"shard {self._shard.index} is closed already; add rows before commit")
        return self._part


class _HashedFile:
    """A file that is written once from its start to its end, and the hash of what was written before the footer."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.n_bytes = 0
        self.closed = False
        self._is_discarded = False

    def write(self, data: Any) -> int:
        if self._is_discarded:
            return len(data)
        self.hash.update(data)
        self.n_bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.n_bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Close the file, which writes what is still on its way."""
        self.closed = True
        self._file.close()

    def discard(self) -> None:
        """Close the file whatever comes, and take no more."""
        self._is_discarded = True
        with suppress(OSError):
            self._file.close()


def _as_text(error: str) -> str:
    """Return a line that JSON can hold: names of files may have bytes that are no text."""
    return " ".join(error.encode("utf-8", "backslashreplace").decode().split())
