"""What a job was planned from: all items in order, and which of them share a shard.

A manifest is made from a listing, kept beside the results, and read shard by shard: memory does not grow with the job.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from vision.batch.columns import (
    BLOCK,
    decode_text,
    encode_text,
    identity_digest,
    item_schema,
    read_items,
    require_arrow,
)
from vision.batch.config import BatchConfig
from vision.batch.items import Shard
from vision.batch.listing import Inputs
from vision.batch.manifest_differences import differences
from vision.errors import InvalidInputError

__all__ = ["Manifest", "differences"]

VERSION = 1
METADATA_KEY = b"stride32"


class _Rows(Protocol):
    """Where the rows of a manifest are; they carry a column ``shard`` beside those of items."""

    def read_shard(self, index: int) -> tuple[Any, int]:
        """Return the rows of a shard and the index of the first one."""
        ...

    def read_blocks(self) -> Iterator[Any]:
        """Yield all rows in order, BLOCK at a time."""
        ...


class Manifest:
    """The items of a job, divided into shards.

    Resuming replaces the manifest of the first run by that of a new listing when their digests are equal: the items
    are the same, and the new one knows where they are now.

    Attributes:
        n_items, n_shards: how many there are.
        digest: sha256 of what identifies all items, hexadecimal; where they lie is not part of it.
        shard_size: that they were divided by.
        base: folder or prefix that most names start from.
    """

    def __init__(self, rows: _Rows, *, n_items: int, n_shards: int, digest: str, shard_size: int, base: str) -> None:
        self.n_items = n_items
        self.n_shards = n_shards
        self.digest = digest
        self.shard_size = shard_size
        self.base = base
        self._rows = rows

    @classmethod
    def build(cls, inputs: Inputs, config: BatchConfig) -> Manifest:
        """Return the manifest of a listing: consecutive items share a shard until it has ``shard_size`` frames."""
        table = inputs.table
        starts = _divide(table, config.shard_size)
        rows = _TableRows(table, starts)
        digest = hashlib.sha256(identity_digest(table)).hexdigest()
        return cls(
            rows,
            n_items=table.num_rows,
            n_shards=len(starts) - 1,
            digest=digest,
            shard_size=config.shard_size,
            base=inputs.base,
        )

    @classmethod
    def open(cls, file: str | Path | BinaryIO) -> Manifest:
        """Return the manifest in a Parquet file; a file object must stay open for as long as it is used.

        Raises:
            InvalidInputError: it cannot be read, or is no manifest.
        """
        pa = require_arrow("a manifest")
        import pyarrow.parquet as pq

        name = str(getattr(file, "name", file))
        try:
            table = pq.ParquetFile(file, page_checksum_verification=True)
            facts = orjson.loads((table.schema_arrow.metadata or {})[METADATA_KEY])
            if facts["version"] != VERSION:
                raise InvalidInputError(
                    f"{name} must be a manifest of version {VERSION}, got {facts['version']}; "
                    "use the version of stride32 that made it"
                )
            found, wanted = table.schema_arrow, item_schema().append(_shard_field())
            if not found.equals(wanted):
                raise ValueError(f"the columns {', '.join(found.names)}")
            return cls(
                _FileRows(table, name),
                n_items=int(facts["items"]),
                n_shards=int(facts["shards"]),
                digest=str(facts["digest"]),
                shard_size=int(facts["shard_size"]),
                base=decode_text(facts["base"]),
            )
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as exc:
            if isinstance(exc, InvalidInputError):
                raise
            raise _damaged(name, exc) from exc

    def shard(self, index: int) -> Shard:
        """Return a shard with its items; threads may call this."""
        if not 0 <= index < self.n_shards:
            raise InvalidInputError(f"a shard must be in [0, {self.n_shards}), got {index}; correct the index")
        table, first = self._rows.read_shard(index)
        items = tuple(read_items(table, encode_text(self.base), first))
        return Shard(index, items, identity_digest(table).hex())

    def blocks(self) -> Iterator[Any]:
        """Yield the rows of all items in order as small Arrow tables."""
        return self._rows.read_blocks()

    def write(self, file: str | Path | BinaryIO) -> None:
        """Write the manifest as Parquet; the same items give the same bytes."""
        import pyarrow.parquet as pq

        blocks = self.blocks()
        first = next(blocks)
        facts = {
            "version": VERSION,
            "items": self.n_items,
            "shards": self.n_shards,
            "shard_size": self.shard_size,
            "digest": self.digest,
            "base": encode_text(self.base),
        }
        schema = first.schema.with_metadata({METADATA_KEY: orjson.dumps(facts)})
        with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
            for block in chain([first], blocks):
                writer.write_table(block.cast(schema), row_group_size=BLOCK)


def _divide(table: Any, shard_size: int) -> npt.NDArray[np.int64]:
    """Return the row at which each shard begins, and behind them the number of rows."""
    import pyarrow.compute as pc

    is_video = pc.equal(table.column("kind"), "video").to_numpy()
    frames = pc.fill_null(pc.subtract(table.column("frame_stop"), table.column("frame_start")), 0).to_numpy()
    whole = is_video & (frames == 0)
    ends = np.cumsum(np.where(is_video, frames, 1))
    # How long they are is not known, so each has a shard of its own.
    borders = np.flatnonzero(whole)
    n_rows = table.num_rows
    starts = [0]
    for border in [*borders.tolist(), n_rows]:
        while starts[-1] < border:
            done = ends[starts[-1] - 1] if starts[-1] else 0
            full = int(np.searchsorted(ends, done + shard_size)) + 1
            starts.append(min(full, border))
        if border < n_rows:
            starts.append(border + 1)
    return np.array(starts, np.int64)


class _TableRows:
    """Rows in memory."""

    def __init__(self, table: Any, starts: npt.NDArray[np.int64]) -> None:
        self._table = table
        self._starts = starts

    def read_shard(self, index: int) -> tuple[Any, int]:
        first, end = int(self._starts[index]), int(self._starts[index + 1])
        return self._table.slice(first, end - first), first

    def read_blocks(self) -> Iterator[Any]:
        import pyarrow as pa

        field = _shard_field()
        for first in range(0, self._table.num_rows, BLOCK):
            block = self._table.slice(first, BLOCK)
            rows = np.arange(first, first + block.num_rows)
            shards = np.searchsorted(self._starts, rows, side="right") - 1
            yield block.append_column(field, pa.array(shards, pa.int64()))


class _FileRows:
    """Rows in a Parquet file; only the row groups of a shard are read, and the last ones are kept."""

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self._name = name
        # Readers of Arrow share a position in the file.
        self._lock = threading.Lock()
        place = file.schema_arrow.get_field_index("shard")
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        bounds = [group.column(place).statistics for group in groups]
        self._lows = np.array([bound.min for bound in bounds], np.int64)
        self._highs = np.array([bound.max for bound in bounds], np.int64)
        self._firsts = np.concatenate([[0], np.cumsum([group.num_rows for group in groups])]).astype(np.int64)
        self._kept: tuple[range, Any] = (range(0), None)

    def read_shard(self, index: int) -> tuple[Any, int]:
        groups = range(int(np.searchsorted(self._highs, index)), int(np.searchsorted(self._lows, index, side="right")))
        with self._lock:
            if self._kept[0] != groups:
                self._kept = (groups, self._read(groups))
            table = self._kept[1]
        first, end = np.searchsorted(table.column("shard").to_numpy(), [index, index + 1]).tolist()
        return table.slice(first, end - first), int(self._firsts[groups.start]) + first

    def read_blocks(self) -> Iterator[Any]:
        for group in range(self._file.metadata.num_row_groups):
            with self._lock:
                block = self._read(range(group, group + 1))
            yield block

    def _read(self, groups: range) -> Any:
        pa = require_arrow("a manifest")
        try:
            return self._file.read_row_groups(list(groups))
        except (pa.ArrowException, OSError) as exc:
            raise _damaged(self._name, exc) from exc


def _shard_field() -> Any:
    """Return the column that says in which shard an item is."""
    pa = require_arrow("a manifest")
    return pa.field("shard", pa.int64(), nullable=False)


def _damaged(name: str, exc: Exception) -> InvalidInputError:
    return InvalidInputError(
        f"{name} must be a manifest of a batch job, failed to read it: {' '.join(str(exc).split())}; "
        "begin the job anew in another folder",
        path=name,
    )
