"""Whether a job's files are what they say: every byte, every row, and every item once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from vision.batch.items import Shard
from vision.batch.job import MANIFEST_FILE, find_mismatch, stored_manifest
from vision.batch.job_record import JobRecord, read_record
from vision.batch.output import Output
from vision.batch.schema import arrow_schema, require_pyarrow
from vision.batch.shard_laws import ShardLaws
from vision.batch.shard_summary import ROWS_FOLDER, ShardSummary, read_summary, shard_index, shard_name
from vision.errors import InvalidInputError, StateError

if TYPE_CHECKING:
    from vision.batch.manifest import Manifest

_CHUNK = 2**22
_REWRITE = "run again with --resume, which writes it anew, and verify then"


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not what it should be.

    Attributes:
        file: its name below the output.
        expected, found: what it should be and what it is.
        remedy: what to do.
    """

    file: str
    expected: str
    found: str
    remedy: str = "delete it and run again with --resume"

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, found {self.found}; {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What came of looking at a job.

    Attributes:
        address: of the job.
        total_shards: that it has. sound_shards: that are there and are what they should be.
        pending: indices of those that are not there, which is no damage.
        items, rows, failures: of the sound shards.
        damage: what is wrong, in the order of the files.
        is_deep: whether every byte was read, and not the footers alone.
    """

    address: str
    total_shards: int
    sound_shards: int
    pending: tuple[int, ...]
    items: int
    rows: int
    failures: int
    damage: tuple[Problem, ...]
    is_deep: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether all shards are there, nothing is damaged and no item failed."""
        return not self.damage and not self.pending and not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self) | {"pending": list(self.pending), "damage": [asdict(each) for each in self.damage]}

    def text(self) -> str:
        """Return lines for people, without the last line's end."""
        checked = "every byte" if self.is_deep else "the footers"
        lines = [
            f"{self.address}: {self.sound_shards:,} of {self.total_shards:,} shards are sound ({checked} checked)",
            f"items     {self.items:,} in sound shards, each once",
            f"rows      {self.rows:,}",
            f"failures  {self.failures:,}" + (" (quarantine.jsonl)" if self.failures else ""),
        ]
        if self.pending:
            lines.append(f"pending   {len(self.pending):,} shards, from {shard_name(self.pending[0])} on; --resume")
        return "\n".join([*lines, *(f"damage    {problem}" for problem in self.damage)])


def verify_job(output: Output, *, deep: bool = True) -> VerifyReport:
    """Check all files of a job, and return what is wrong; raises InvalidInputError where there is no job.

    Args:
        output: of the job.
        deep: read every byte; else the footers alone.
    """
    require_pyarrow()
    record = read_record(output)
    names = output.names(ROWS_FOLDER)
    try:
        with stored_manifest(output) as manifest:
            return _JobCheck(output, record, manifest, deep=deep).run(names)
    except InvalidInputError as exc:
        return _nothing_known(output, record, exc.actual or str(exc))


def _nothing_known(output: Output, record: JobRecord, found: str) -> VerifyReport:
    """Return the report of a job without its list of inputs, which says what each shard should be."""
    return VerifyReport(
        address=output.address,
        total_shards=record.shards,
        sound_shards=0,
        pending=(),
        items=0,
        rows=0,
        failures=0,
        damage=(Problem(MANIFEST_FILE, "the list of inputs", found, _REWRITE),),
    )


class _JobCheck:
    """One look at all files."""

    def __init__(self, output: Output, record: JobRecord, manifest: Manifest, *, deep: bool) -> None:
        self._output = output
        self._record = record
        self._manifest = manifest
        self._deep = deep
        self._sound: list[ShardSummary] = []

    def run(self, names: list[str]) -> VerifyReport:
        """Return what is wrong with the manifest and with each file below ``rows``."""
        damage = list(self._check_manifest())
        for name in names:
            problem = self._check_file(name)
            if problem is not None:
                damage.append(problem)
        there = {shard_index(name) for name in names}
        return VerifyReport(
            address=self._output.address,
            total_shards=self._manifest.n_shards,
            sound_shards=len(self._sound),
            pending=tuple(index for index in range(self._manifest.n_shards) if index not in there),
            items=sum(summary.items for summary in self._sound),
            rows=sum(summary.rows for summary in self._sound),
            failures=sum(len(summary.failures) for summary in self._sound),
            damage=tuple(damage),
            is_deep=self._deep,
        )

    def _check_manifest(self) -> Iterator[Problem]:
        """Yield what is wrong with the list of inputs: it must be the job's, and divide all items among the shards."""
        manifest, record = self._manifest, self._record
        found = (manifest.n_items, manifest.n_shards, manifest.digest)
        if found != (record.items, record.shards, record.digest):
            expected = f"{record.items} items in {record.shards} shards with the digest {record.digest[:12]}…"
            actual = f"{found[0]} in {found[1]} with {found[2][:12]}…"
            yield Problem(MANIFEST_FILE, f"{expected}, as job.json says", actual, _REWRITE)
        following = 0
        for index in range(manifest.n_shards):
            items = [item.index for item in manifest.shard(index).items]
            if items != list(range(following, following + len(items))):
                expected = f"items from {following} on in shard {index}"
                yield Problem(MANIFEST_FILE, expected, f"{items[:1]}", _REWRITE)
                return
            following += len(items)
        if following != manifest.n_items:
            yield Problem(MANIFEST_FILE, f"{manifest.n_items} items in its shards", str(following), _REWRITE)

    def _check_file(self, name: str) -> Problem | None:
        index = shard_index(name)
        if index is None or index >= self._manifest.n_shards:
            expected = f"the shards of the job alone, of which there are {self._manifest.n_shards}"
            return Problem(name, expected, "another file", "move it elsewhere")
        try:
            summary = read_summary(self._output, name)
            wrong = find_mismatch(name, summary, self._record, self._manifest)
            if wrong is None:
                shard = self._manifest.shard(index)
                wrong = _footer_mismatch(summary, shard) or (
                    _content_mismatch(self._output, name, summary, shard) if self._deep else None
                )
        except InvalidInputError as exc:
            wrong = exc.expected or "a file that can be read", exc.actual or str(exc)
        if wrong is not None:
            return Problem(name, *wrong)
        self._sound.append(summary)
        return None


def _footer_mismatch(summary: ShardSummary, shard: Shard) -> tuple[str, str] | None:
    """Return what a footer should say of the shard's items and what it says."""
    first = shard.items[0].index if shard.items else 0
    if (summary.items, summary.first_item) != (len(shard.items), first):
        return f"{len(shard.items)} items from {first} on", f"{summary.items} from {summary.first_item} on"
    return None


def _content_mismatch(output: Output, name: str, summary: ShardSummary, shard: Shard) -> tuple[str, str] | None:
    """Return what the bytes and rows of a file should be and what they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with output.open(name) as raw:
            found = _hash(raw, summary.checksum.n_bytes)
            if found != summary.checksum.sha256:
                return f"bytes with the sha256 {summary.checksum.sha256[:12]}…", f"{found[:12]}…"
            with pq.ParquetFile(raw, page_checksum_verification=True) as file:
                return _rows_mismatch(file, summary, shard)
    except (OSError, pa.ArrowException) as exc:
        return "rows that can be read", str(exc).partition("\n")[0]


def _rows_mismatch(file: Any, summary: ShardSummary, shard: Shard) -> tuple[str, str] | None:
    header = summary.header
    schema = arrow_schema(header.task, header.dim, regression=header.is_regression)
    if not file.schema_arrow.remove_metadata().equals(schema):
        return "the columns of schema version 1", f"{', '.join(file.schema_arrow.names)}"
    laws = ShardLaws(shard)
    try:
        for group in range(file.num_row_groups):
            # All columns: a page that nobody reads is a page that nobody checks.
            table = file.read_row_group(group)
            for item, frame in zip(*(table.column(name).to_pylist() for name in ("item", "frame_index")), strict=True):
                laws.add(item, frame)
        laws.close({failure.item for failure in summary.failures})
    except StateError as exc:
        return "rows of each item, in order and once", exc.actual or str(exc)
    told = {failure.item: failure.rows for failure in summary.failures}
    counted = {item: laws.rows_of.get(item, 0) for item in told}
    return None if told == counted else (f"{told} rows of items that failed", f"{counted}")


def _hash(file: BinaryIO, n_bytes: int) -> str:
    """Return the sha256 of the first bytes of a file."""
    digest = hashlib.sha256()
    file.seek(0)
    while n_bytes > 0 and (chunk := file.read(min(_CHUNK, n_bytes))):
        digest.update(chunk)
        n_bytes -= len(chunk)
    return digest.hexdigest()
