"""JSON lines: a header, then one FrameResult a line; the format that loses nothing and is read back."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from vision import __version__
from vision.errors import InvalidInputError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer
from vision.types import Frame, FrameResult


class JsonlWriter(Writer):
    """Writes a header line and one line a frame; path ``-`` is standard output, flushed at every line.

    Args:
        path: output file or ``-``.
        class_names: name of each label, kept in the header.
        config: the effective configuration as plain data, so that the file says how it was made.
        source: SOURCE as the user gave it.
        embeddings: whether detections carry their embeddings (long).
        segmentation: whether segmentation maps are written (long).
        stdout: where ``-`` writes to; the process's standard output by default.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        class_names: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        source: str = "",
        embeddings: bool = False,
        segmentation: bool = True,
        overwrite: bool = False,
        stdout: BinaryIO | None = None,
    ) -> None:
        self._embeddings = embeddings
        self._segmentation = segmentation
        self._stdout = (stdout or sys.stdout.buffer) if str(path) == "-" else None
        self._output = None if self._stdout is not None else AtomicFile(path, overwrite=overwrite)
        self._write_line(header_line(class_names=class_names, config=config, source=source))

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Add one line."""
        self._write_line(result_line(result, embeddings=self._embeddings, segmentation=self._segmentation))

    def close(self) -> None:
        """Finish the file; standard output stays open."""
        if self._output is not None:
            self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file; lines on standard output are gone already."""
        if self._output is not None:
            self._output.abort()

    def _write_line(self, data: bytes) -> None:
        if self._stdout is not None:
            self._stdout.write(data)
            self._stdout.flush()
        elif self._output is not None:
            self._output.write(data)


def header_line(*, class_names: Sequence[str] = (), config: Mapping[str, Any] | None = None, source: str = "") -> bytes:
    """Return the first line of a file, its end included; the values are those of JsonlWriter."""
    header = {
        "stride32": __version__,
        "kind": "header",
        "class_names": list(class_names),
        "config": dict(config or {}),
        "source": source,
    }
    return orjson.dumps(header, option=orjson.OPT_APPEND_NEWLINE)


def result_line(result: FrameResult, *, embeddings: bool = False, segmentation: bool = True) -> bytes:
    """Return the line of one frame, its end included."""
    row = result.to_dict(embeddings=embeddings, segmentation=segmentation)
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def read_jsonl(path: str | Path) -> tuple[dict[str, Any], Iterator[FrameResult]]:
    """Return the header and an iterator over the results of a JSON lines file; lines are read as they are asked for.

    Raises:
        InvalidInputError: no header, or (while iterating) a line that is not a frame result; names the line.
    """
    rows = _read_rows(Path(path))
    header = next(rows, None)
    if header is None or header[1].get("kind") != "header":
        raise InvalidInputError(
            f"{path} must begin with the header line that stride32 writes, found none; pass a file made with --jsonl",
            path=path,
        )
    return header[1], (_to_result(row, path, number) for number, row in rows)


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _parse_line(line, path, number)
    except OSError as exc:
        raise InvalidInputError(f"{path} cannot be read: {exc.strerror}; check the path", path=path) from exc


def _parse_line(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise InvalidInputError(f"{path} line {number} must be JSON, {exc}; it may be cut short", path=path) from exc
    if not isinstance(row, dict):
        raise InvalidInputError(f"{path} line {number} must be a JSON object, got {type(row).__name__}", path=path)
    return row


def _to_result(row: dict[str, Any], path: str | Path, number: int) -> FrameResult:
    try:
        return FrameResult.from_dict(row)
    # Numbers that numpy or int() refuse are faults of the line as well.
    except (ValueError, OverflowError, AttributeError) as exc:
        raise InvalidInputError(f"{path} line {number}: {exc}", path=path) from exc
