"""Parquet for data frames and SQL: the columns of the CSV, typed, in row groups, so memory stays flat.

Version 1 of the schema. A column is never renamed or given another meaning within a version; new ones may follow.

============  ===========================  =====================================================
column        type                         meaning
============  ===========================  =====================================================
frame_index   int64                        from 0
timestamp_s   float64, null when unknown   seconds from the start of the source
source        string                       what the frame came from
track_id      int64, null for a detection
label         int64                        from 0
class_name    string                       of the label; the number where it has no name
score         float32
x1 y1 x2 y2   float32                      pixels
filled        bool                         no detection stood behind the row
============  ===========================  =====================================================

The file's key-value metadata has ``stride32.tracks``: a JSON object with ``version``, ``class_names``, ``fps``,
``source``, ``size_hw`` and ``frame_count``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from vision.errors import InvalidInputError, MissingDependencyError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer, reported_tracks
from vision.io.writers.tracks_header import TracksHeader
from vision.types import Detections, Frame, FrameResult, Tracks

SCHEMA_VERSION = 1
METADATA_KEY = "stride32.tracks"
# About 4 MB of numbers: large enough to compress and scan well, small enough to wait for in a live run.
ROW_GROUP = 65_536

Column = npt.NDArray[Any]


def require_pyarrow() -> None:
    """Raise MissingDependencyError when pyarrow is not installed; loads nothing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingDependencyError("pyarrow", extra="batch", purpose="a Parquet file")


class ParquetFile:
    """A Parquet file of tracks under construction, to which columns are added piece by piece.

    Args:
        path: output file, which appears when ``commit`` is called.
        class_names: name of each label.
        overwrite: replace a file that exists.
    """

    def __init__(self, path: str | Path, *, class_names: Sequence[str] = (), overwrite: bool = False) -> None:
        require_pyarrow()
        import pyarrow.parquet as pq

        self._names = TracksHeader(class_names=tuple(class_names))
        self._output = AtomicFile(path, overwrite=overwrite)
        self._writer = pq.ParquetWriter(self._output.file, _schema(), compression="zstd")
        self._waiting: list[dict[str, Column]] = []
        self._sources: list[str] = []
        self._n_waiting = 0

    def add(
        self,
        objects: dict[str, Column],
        *,
        frames: Column,
        source: str,
        timestamps_s: Column | None = None,
        track_ids: Column | None = None,
        filled: Column | None = None,
    ) -> None:
        """Add N rows.

        Args:
            objects: "boxes" [N, 4], "scores" [N] and "labels" [N].
            frames: [N] frame indices.
            source: of all these rows.
            timestamps_s: [N] or None when unknown.
            track_ids: [N] or None for detections.
            filled: [N] or None for nowhere.
        """
        n = len(frames)
        if n == 0:
            # Hours without objects must not pile up as empty parts.
            return
        self._waiting.append(
            {
                **objects,
                "frames": frames,
                "timestamps_s": np.full(n, np.nan) if timestamps_s is None else timestamps_s,
                "ids": np.full(n, -1) if track_ids is None else track_ids,
                "filled": np.zeros(n, np.bool_) if filled is None else filled,
            }
        )
        self._sources.append(source)
        self._n_waiting += n
        if self._n_waiting >= ROW_GROUP:
            self._flush()

    def commit(self, header: TracksHeader) -> None:
        """Write what waits and the metadata, and give the file its name; does nothing the second time."""
        if not self._output.is_open:
            return
        self._flush()
        facts = {
            "version": SCHEMA_VERSION,
            "class_names": header.class_names,
            "fps": header.fps,
            "source": header.source,
            "size_hw": header.size_hw,
            "frame_count": header.frame_count,
        }
        self._writer.add_key_value_metadata({METADATA_KEY: orjson.dumps(facts).decode()})
        self._writer.close()
        self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        if self._output.is_open:
            self._writer.close()
            self._output.abort()

    def _flush(self) -> None:
        """Write the waiting rows as one row group."""
        import pyarrow as pa

        if not self._n_waiting:
            return
        columns = {name: np.concatenate([part[name] for part in self._waiting]) for name in self._waiting[0]}
        lengths = [len(part["frames"]) for part in self._waiting]
        boxes, timestamps = columns["boxes"].astype(np.float32).reshape(-1, 4), columns["timestamps_s"]
        arrays = [
            pa.array(columns["frames"], pa.int64()),
            pa.array(timestamps, pa.float64(), mask=np.isnan(timestamps)),
            _dictionary(np.repeat(np.arange(len(lengths)), lengths), self._sources),
            pa.array(columns["ids"], pa.int64(), mask=columns["ids"] < 0),
            pa.array(columns["labels"], pa.int64()),
            _names_of(columns["labels"], self._names),
            pa.array(columns["scores"], pa.float32()),
            *(pa.array(np.ascontiguousarray(corner), pa.float32()) for corner in boxes.T),
            pa.array(columns["filled"], pa.bool_()),
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=_schema()), row_group_size=len(boxes))
        self._waiting, self._sources, self._n_waiting = [], [], 0


class ParquetWriter(Writer):
    """Writes confirmed tracks matched in the frame, or detections (track_id null) when no tracker ran.

    Args:
        path: output file.
        class_names: name of each label.
        fps: frames a second of the source, or None.
        source: SOURCE as the user gave it.
        overwrite: replace a file that exists.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        class_names: Sequence[str] = (),
        fps: float | None = None,
        source: str = "",
        overwrite: bool = False,
    ) -> None:
        self._header = TracksHeader(class_names=tuple(class_names), fps=fps, source=source)
        self._output = ParquetFile(path, class_names=class_names, overwrite=overwrite)
        self._frame_count = 0
        self._size_hw: tuple[int, int] | None = None

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Add the rows of one frame."""
        objects: Tracks | Detections
        if result.tracks is not None:
            objects = reported_tracks(result.tracks)
        elif result.detections is not None:
            objects = result.detections
        else:
            raise InvalidInputError(
                "a Parquet file needs tracks or detections, got a result with neither; run track or detect"
            )
        self._frame_count = max(self._frame_count, result.frame_index + 1)
        self._size_hw = self._size_hw or result.size_hw
        n = len(objects)
        self._output.add(
            {name: getattr(objects, name) for name in ("boxes", "scores", "labels")},
            frames=np.full(n, result.frame_index),
            source=result.source,
            timestamps_s=None if result.timestamp_s is None else np.full(n, result.timestamp_s),
            track_ids=objects.ids if isinstance(objects, Tracks) else None,
            # Offline results have rows that no detection stood behind.
            filled=objects.detection_index < 0 if isinstance(objects, Tracks) else None,
        )

    def close(self) -> None:
        """Finish the file; without any row it has the columns alone."""
        self._output.commit(
            TracksHeader(
                class_names=self._header.class_names,
                fps=self._header.fps,
                source=self._header.source,
                size_hw=self._size_hw,
                frame_count=self._frame_count,
            )
        )

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()


def _schema() -> Any:
    import pyarrow as pa

    words = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            pa.field("frame_index", pa.int64(), nullable=False),
            pa.field("timestamp_s", pa.float64()),
            pa.field("source", words, nullable=False),
            pa.field("track_id", pa.int64()),
            pa.field("label", pa.int64(), nullable=False),
            pa.field("class_name", words, nullable=False),
            pa.field("score", pa.float32(), nullable=False),
            *(pa.field(name, pa.float32(), nullable=False) for name in ("x1", "y1", "x2", "y2")),
            pa.field("filled", pa.bool_(), nullable=False),
        ]
    )


def _names_of(labels: Column, names: TracksHeader) -> Any:
    """Return the class name of each label as a dictionary column."""
    values, codes = np.unique(labels, return_inverse=True)
    return _dictionary(codes, [names.name_of(label) for label in values.tolist()])


def _dictionary(codes: Column, words: Sequence[str]) -> Any:
    """Return ``words[code]`` of each code as a dictionary column; each word stands once, as pandas' categories must."""
    import pyarrow as pa

    places: dict[str, int] = {}
    moved = np.array([places.setdefault(word, len(places)) for word in words], np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(moved[codes], pa.int32()), pa.array(list(places), pa.string()))
