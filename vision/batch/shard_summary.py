"""What a shard's file says of itself in its footer: enough for status, quarantine and resuming, without any row."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, BinaryIO

import orjson

from vision import __version__
from vision.batch.config import Task
from vision.batch.items import Failure
from vision.batch.output import Output
from vision.batch.schema import SCHEMA_VERSION, require_pyarrow
from vision.errors import InvalidInputError

METADATA_KEY = "stride32"
ROWS_FOLDER = "rows"
# Behind the footer: its length and "PAR1".
_TAIL_BYTES = 8
_SEAL_KEY, _NO_SEAL = "footer_sha256", "0" * 64
# A store takes as long to answer one question as many.
_READERS = 16
_READ_AHEAD = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardHeader:
    """What every shard of a job says alike.

    Attributes:
        task: of the job.
        config: ``BatchConfig.identity()``.
        models: for each stage the name of its model and the sha256 of its weights.
        class_names: name of each label.
        dim: dimensions of an embedding; 0 for other tasks.
        unit: of what a regression measures; None for classes and other tasks.
        version: of Stride32.
    """

    task: Task
    config: Mapping[str, Any]
    models: Mapping[str, Mapping[str, str]]
    class_names: tuple[str, ...] = ()
    dim: int = 0
    unit: str | None = None
    version: str = __version__

    def __post_init__(self) -> None:
        # As it comes back from a file, so that both are equal.
        object.__setattr__(self, "config", orjson.loads(orjson.dumps(dict(self.config))))
        object.__setattr__(self, "models", {stage: dict(model) for stage, model in self.models.items()})

    @property
    def is_regression(self) -> bool:
        """Whether rows carry a value in place of classes."""
        return self.task == "classify" and self.unit is not None


@dataclass(frozen=True, slots=True)
class ShardChecksum:
    """The sha256 of all bytes before the footer, and how many these are."""

    sha256: str
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSummary:
    """What a shard's file says of itself.

    Attributes:
        index: of the shard. digest: of its items.
        first_item: index of its first item. items: how many it has, those that failed included.
        rows: pictures or frames.
        failures: items that failed, wholly or in part, in order.
        header: what all shards of the job say.
        checksum: of its bytes.
    """

    index: int
    digest: str
    first_item: int
    items: int
    rows: int
    failures: tuple[Failure, ...]
    header: ShardHeader
    checksum: ShardChecksum = field(default_factory=lambda: ShardChecksum("", 0))


def shard_name(index: int) -> str:
    """Return the name of a shard's file below the output.

    >>> shard_name(7)
    'rows/shard-00007.parquet'
    """
    return f"{ROWS_FOLDER}/shard-{index:05d}.parquet"


def shard_index(name: str) -> int | None:
    """Return the index of the shard whose file has this name; None for a file that is none.

    >>> shard_index("rows/shard-123456.parquet"), shard_index("rows/shard-7.parquet")
    (123456, None)
    """
    digits = name.removeprefix(f"{ROWS_FOLDER}/shard-").removesuffix(".parquet")
    is_number = digits.isascii() and digits.isdigit() and len(digits) < 16
    return int(digits) if is_number and shard_name(int(digits)) == name else None


def shard_names(output: Output) -> list[str]:
    """Return the names of the shards' files that are there, in the order of the shards; other files are left out."""
    indices = {name: shard_index(name) for name in output.names(ROWS_FOLDER)}
    # By number: from 100,000 shards on, names sort otherwise.
    return [name for name, index in sorted(indices.items(), key=lambda pair: pair[1] or 0) if index is not None]


def summary_to_json(summary: ShardSummary) -> bytes:
    """Return the JSON text of a footer that is not sealed yet; see ``seal``."""
    header = summary.header
    facts = {
        "schema_version": SCHEMA_VERSION,
        "stride32": header.version,
        "task": header.task,
        "models": header.models,
        "config": header.config,
        "class_names": header.class_names,
        "dim": header.dim,
        "unit": header.unit,
        "shard": summary.index,
        "digest": summary.digest,
        "first_item": summary.first_item,
        "items": summary.items,
        "rows": summary.rows,
        "failures": [asdict(failure) for failure in summary.failures],
        "checksum": {"sha256": summary.checksum.sha256, "bytes": summary.checksum.n_bytes},
        _SEAL_KEY: _NO_SEAL,
    }
    return orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)


def summary_from_json(text: bytes) -> ShardSummary:
    """Return the summary that ``summary_to_json`` was given; raises ValueError, KeyError or TypeError."""
    facts = orjson.loads(text)
    if facts["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {facts['schema_version']}, this Stride32 reads {SCHEMA_VERSION}")
    header = ShardHeader(
        version=facts["stride32"],
        class_names=tuple(facts["class_names"]),
        **{name: facts[name] for name in ("task", "models", "config", "dim", "unit")},
    )
    return ShardSummary(
        index=facts["shard"],
        failures=tuple(Failure(**failure) for failure in facts["failures"]),
        header=header,
        checksum=ShardChecksum(facts["checksum"]["sha256"], facts["checksum"]["bytes"]),
        **{name: facts[name] for name in ("digest", "first_item", "items", "rows")},
    )


def seal(file: BinaryIO) -> int:
    """Write into the footer of a file its own sha256, and return where the footer begins.

    Parquet has checksums for pages and none for the footer, which says where they are and what they mean.
    """
    start, footer, place = _read_footer(file)
    file.seek(start + place)
    file.write(hashlib.sha256(footer).hexdigest().encode())
    return start


def _read_footer(file: BinaryIO) -> tuple[int, bytes, int]:
    """Return where the footer begins, its bytes as they were before they were sealed, and where in it the seal is."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    start = size - _TAIL_BYTES - int.from_bytes(file.read(_TAIL_BYTES)[:4], "little")
    file.seek(max(0, start))
    footer = file.read()
    mark = f'"{_SEAL_KEY}":"'.encode()
    if footer.count(mark) != 1:
        raise ValueError("no footer that stride32 batch has sealed")
    place = footer.index(mark) + len(mark)
    return start, footer[:place] + _NO_SEAL.encode() + footer[place + len(_NO_SEAL) :], place


def read_summary(output: Output, name: str) -> ShardSummary:
    """Return what a shard's file says; only its footer is read.

    Raises:
        InvalidInputError: it is no whole Parquet file, or none of a batch job.
    """
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with output.open(name) as file:
            start, footer, _ = _read_footer(file)
            metadata = pq.ParquetFile(file).metadata
            text = metadata.metadata[METADATA_KEY.encode()]
            if orjson.loads(text)[_SEAL_KEY] != hashlib.sha256(footer).hexdigest():
                raise ValueError("a footer that does not fit its own sha256")
            summary = summary_from_json(text)
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as exc:
        reason = f"no {exc} in its footer" if isinstance(exc, KeyError) else str(exc).partition("\n")[0]
        raise damaged(output, name, "a whole shard of a batch job", reason) from exc
    if (metadata.num_rows, start) != (summary.rows, summary.checksum.n_bytes):
        raise damaged(
            output,
            name,
            f"{summary.rows} rows in {summary.checksum.n_bytes} bytes, as its footer says",
            f"{metadata.num_rows} rows in {start} bytes",
        )
    return summary


def read_summaries(output: Output, names: Iterable[str]) -> Iterator[ShardSummary | InvalidInputError]:
    """Yield what each of these files says, in order, or the error in its place; many are asked at a time."""

    def read(name: str) -> ShardSummary | InvalidInputError:
        try:
            return read_summary(output, name)
        except InvalidInputError as exc:
            return exc

    with ThreadPoolExecutor(_READERS) as pool:
        # Some at a time: a job may have a million shards.
        waiting = iter(names)
        while some := list(islice(waiting, _READ_AHEAD)):
            yield from pool.map(read, some)


def damaged(output: Output, name: str, expected: str, found: str) -> InvalidInputError:
    """Return the error for a shard's file that cannot be what it should be."""
    return InvalidInputError(
        f"{output.locate(name)} must be {expected}, found {found}; delete it and run again with --resume",
        expected=expected,
        actual=found,
    )
