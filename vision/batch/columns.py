"""The items of a job as Arrow columns: a million of them take what their names take, and no Python object each.

============  ========  ======================================================================
column        type      meaning
============  ========  ======================================================================
name          string    what rows call the item
address       string    where its bytes are; null where that is the base followed by the name
kind          string    image or video
offset        int64     of a tar's member in the tar; 0 for a whole file
length        int64     of a tar's member; -1 for a whole file
size          int64     bytes of the picture or video; -1 where that was not to be had
stamp         string    changes with the content: time of change in ns, or what a store calls a version
frame_start   int64     of a part of a video, as are the following; null for everything else
frame_stop    int64
start_pts     int64
stop_pts      int64     null at the end of the video too
seek_pts      int64
============  ========  ======================================================================
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from vision.batch.items import FrameRange, Item, ItemKind
from vision.errors import MissingDependencyError

FRAME_COLUMNS = ("frame_start", "frame_stop", "start_pts", "stop_pts", "seek_pts")
# All but the address: a folder that was moved holds the same items.
IDENTITY_COLUMNS = ("name", "kind", "offset", "length", "size", "stamp", *FRAME_COLUMNS)
# Rows that become columns together, and rows of a row group in a manifest.
BLOCK = 4096
# No time of a stream.
_NO_NUMBER = -(2**63)
# Names of files are bytes. Those that are no text are kept by their bytes; an absolute path or URL never begins so.
_BYTES = "bytes:"


def require_arrow(purpose: str) -> Any:
    """Return the module pyarrow.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import pyarrow
    except ModuleNotFoundError as exc:
        raise MissingDependencyError("pyarrow", extra="batch", purpose=purpose) from exc
    return pyarrow


def item_schema() -> Any:
    """Return the Arrow schema of items."""
    pa = require_arrow("a batch job")
    # Strings with 64-bit offsets: the names of some ten million items are more than 2 GB.
    words, number = pa.large_string(), pa.int64()
    return pa.schema(
        [
            pa.field("name", words, nullable=False),
            pa.field("address", words),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("offset", number, nullable=False),
            pa.field("length", number, nullable=False),
            pa.field("size", number, nullable=False),
            pa.field("stamp", words, nullable=False),
            *(pa.field(name, number) for name in FRAME_COLUMNS),
        ]
    )


class ItemRows:
    """Items under construction: rows are added one at a time and become Arrow columns block by block.

    Args:
        base: what makes an address of a name when put before it.
    """

    def __init__(self, base: str = "") -> None:
        self._base = base
        self._pa = require_arrow("a batch job")
        self._schema = item_schema()
        self._batches: list[Any] = []
        self._waiting: list[tuple[str, str | None, str, int, int, int, str]] = []
        self.n_rows = 0

    def add(
        self,
        name: str,
        kind: ItemKind,
        *,
        address: str | None = None,
        offset: int = 0,
        length: int = -1,
        size: int = -1,
        stamp: str = "",
    ) -> None:
        """Add an item; name and address may hold file names that are no text."""
        if not name.isascii() and not _is_text(name):
            address = self._base + name if address is None else address
            name = name.encode("utf-8", "backslashreplace").decode()
        address = None if address is None else encode_text(address)
        self._waiting.append((name, address, kind, offset, length, size, stamp))
        self.n_rows += 1
        if len(self._waiting) >= 16 * BLOCK:
            self._flush()

    def finish(self) -> Any:
        """Return all rows as a table, in the order in which they were added."""
        self._flush()
        return self._pa.Table.from_batches(self._batches, schema=self._schema)

    def _flush(self) -> None:
        if not self._waiting:
            return
        columns = [list(column) for column in zip(*self._waiting, strict=True)]
        n = len(self._waiting)
        fields = [self._schema.field(index) for index in range(len(columns))]
        arrays = [self._pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)]
        arrays += [self._pa.nulls(n, self._pa.int64()) for _ in FRAME_COLUMNS]
        self._batches.append(self._pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._waiting = []


def read_items(table: Any, base: str, first: int) -> Iterator[Item]:
    """Yield the items of a table whose first row has the index ``first``."""
    for index, row in enumerate(table.to_pylist(), first):
        start = row["frame_start"]
        frames = None if start is None else FrameRange(*(row[name] for name in FRAME_COLUMNS))
        yield Item(
            index=index,
            name=row["name"],
            address=decode_address(row["address"], row["name"], base),
            kind=row["kind"],
            offset=row["offset"],
            length=row["length"],
            frames=frames,
        )


def decode_address(address: str | None, name: str, base: str) -> str:
    """Return the path or URL that a row stands for."""
    if address is None:
        return decode_text(base) + name
    return decode_text(address)


def encode_text(path: str) -> str:
    """Return a path as text, whatever its bytes are; ``decode_text`` gives it back."""
    return path if path.isascii() or _is_text(path) else _BYTES + quote_from_bytes(os.fsencode(path))


def decode_text(address: str) -> str:
    """Return the path that ``encode_text`` wrote down."""
    if address.startswith(_BYTES):
        return os.fsdecode(unquote_to_bytes(address[len(_BYTES) :]))
    return address


def identity_digest(table: Any) -> bytes:
    """Return the sha256 of what identifies the rows of a table: all columns but the address, in blocks of BLOCK."""
    whole = hashlib.sha256(str(table.num_rows).encode())
    for first in range(0, table.num_rows, BLOCK):
        whole.update(block_digest(table.slice(first, BLOCK)))
    return whole.digest()


def block_digest(block: Any) -> bytes:
    """Return the sha256 of the identities in a few rows, column by column."""
    import numpy as np

    digest = hashlib.sha256()
    for name in IDENTITY_COLUMNS:
        values = block.column(name).to_pylist()
        if name in ("name", "kind", "stamp"):
            words = [word.encode() for word in values]
            digest.update(np.array([len(word) for word in words], "<i8").tobytes())
            digest.update(b"".join(words))
        else:
            numbers = [_NO_NUMBER if value is None else value for value in values]
            digest.update(np.array(numbers, "<i8").tobytes())
    return digest.digest()


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
