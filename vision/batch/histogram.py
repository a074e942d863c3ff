"""What the rows of a job show, class by class, counted from its committed shards."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.batch.output import Output
from vision.errors import VisionError

# Rows of a shard that are counted at a time: of label columns alone, so that memory stays flat for any shard.
BATCH_ROWS = 8192
# A store takes as long to answer one question as many.
_READERS = 8
_READ_AHEAD = 256
# The columns that are read of each task; of masks all but the run lengths, which are nearly the whole file.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "detect": ("labels",),
    "track": ("item", "labels", "track_ids"),
    "segment": ("height", "width", "masks.list.element.label", "masks.list.element.area"),
    "embed": ("item",),
    "classify": ("labels", "assigned"),
}
_REGRESSION = ("value",)

logger = logging.getLogger(__name__)

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClassCount:
    """What the rows show of one class.

    Attributes:
        name: of the class.
        objects: boxes, masks, or pictures that a classifier assigned to it.
        pictures: pictures and frames that show it.
        tracks: objects that were followed; 0 unless they were.
        pixels: that its masks cover; 0 without masks.
    """

    name: str
    objects: int
    pictures: int
    tracks: int = 0
    pixels: int = 0


@dataclass(frozen=True, slots=True)
class ClassHistogram:
    """What all rows show.

    Attributes:
        task: of the job.
        rows: pictures and frames.
        empty: of these the ones that show no class at all; 0 for embeddings and measured values.
        pixels: of all pictures together; 0 without masks.
        classes: those that occur, the most frequent first: by pixels where there are masks, else by objects.
        values: count, lowest, mean and highest of what a regression measures; None for classes.
    """

    task: str
    rows: int = 0
    empty: int = 0
    pixels: int = 0
    classes: tuple[ClassCount, ...] = ()
    values: tuple[int, float, float, float] | None = None

    @property
    def objects(self) -> int:
        """Objects of all classes."""
        return sum(item.objects for item in self.classes)


def class_histogram(output: Output, files: Sequence[str], task: str, class_names: Sequence[str]) -> ClassHistogram:
    """Return what the rows of a job show; a file that cannot be read is left out, with a warning.

    Args:
        output: of the job.
        files: names of the committed shards' files.
        task: of the job.
        class_names: name of each label; labels beyond it are counted under their number.
    """
    total = _Counting(task)
    with ThreadPoolExecutor(_READERS) as pool:
        # Some at a time: a job may have a million shards.
        waiting = iter(files)
        while some := list(islice(waiting, _READ_AHEAD)):
            for count in pool.map(lambda name: _count_file(output, name, task), some):
                total.merge(count)
    return total.result(class_names)


def _count_file(output: Output, name: str, task: str) -> _Counting:
    """Return what one shard shows; a track and all else that belongs together never reaches over its end."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = _Counting(task)
    try:
        with output.open(name) as opened, pq.ParquetFile(opened) as file:
            columns = _REGRESSION if "value" in file.schema_arrow.names else _COLUMNS[task]
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
                count.add(batch)
    except (OSError, pa.ArrowException, VisionError) as exc:
        logger.warning("%s is not counted: %s", output.locate(name), str(exc).partition("\n")[0])
    return count


@dataclass
class _Counting:
    """Sums over labels, as arrays that grow with the highest label met."""

    task: str
    rows: int = 0
    empty: int = 0
    picture_pixels: int = 0
    objects: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    pictures: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    tracks: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    pixels: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    values: tuple[int, float, float, float] | None = None
    # Tracks of the item that was counted last; it may go on in the next batch.
    _item: int = -1
    _met: set[tuple[int, int]] = field(default_factory=set)

    def add(self, batch: Any) -> None:
        """Count some rows, a pyarrow record batch."""
        self.rows += batch.num_rows
        if not batch.num_rows or self.task == "embed":
            return
        if "value" in batch.schema.names:
            self._add_values(batch.column("value").to_numpy(zero_copy_only=False))
        elif self.task == "segment":
            self._add_masks(batch)
        else:
            self._add_labels(batch)

    def merge(self, other: _Counting) -> None:
        """Add what was counted of another shard."""
        self.rows += other.rows
        self.empty += other.empty
        self.picture_pixels += other.picture_pixels
        for name in ("objects", "pictures", "tracks", "pixels"):
            own, more = getattr(self, name), getattr(other, name)
            size = max(len(own), len(more))
            setattr(self, name, np.pad(own, (0, size - len(own))) + np.pad(more, (0, size - len(more))))
        if other.values is not None:
            self._merge_values(*other.values)

    def _add_values(self, values: npt.NDArray[np.float64]) -> None:
        self._merge_values(len(values), float(values.min()), float(values.mean()), float(values.max()))

    def _merge_values(self, count: int, lowest: float, mean: float, highest: float) -> None:
        n, low, own_mean, high = self.values or (0, lowest, 0.0, highest)
        own_mean += (mean - own_mean) * count / (n + count)
        self.values = (n + count, min(low, lowest), own_mean, max(high, highest))

    def _add_masks(self, batch: Any) -> None:
        sizes = [batch.column(name).to_numpy().astype(np.int64) for name in ("height", "width")]
        self.picture_pixels += int((sizes[0] * sizes[1]).sum())
        rows, masks = _flatten(batch.column("masks"))
        labels = masks.field("label").to_numpy().astype(np.int64)
        self._count(rows, labels, batch.num_rows)
        areas = masks.field("area").to_numpy()
        self.pixels = _grown(self.pixels, labels)
        np.add.at(self.pixels, labels, areas)

    def _add_labels(self, batch: Any) -> None:
        rows, flat = _flatten(batch.column("labels"))
        labels = flat.to_numpy().astype(np.int64)
        if self.task == "classify":
            # The labels of a row are the surest; those that the classifier decides for come first.
            place = np.arange(len(rows)) - np.searchsorted(rows, rows)
            decided = place < batch.column("assigned").to_numpy()[rows]
            rows, labels = rows[decided], labels[decided]
        self._count(rows, labels, batch.num_rows)
        if self.task == "track":
            ids = _flatten(batch.column("track_ids"))[1].to_numpy()
            self._count_tracks(batch.column("item").to_numpy()[rows], ids, labels)

    def _count(self, rows: Counts, labels: Counts, n_rows: int) -> None:
        self.objects = _grown(self.objects, labels)
        self.pictures = _grown(self.pictures, labels)
        np.add.at(self.objects, labels, 1)
        # A row and a label as one number: sorting those is many times faster than sorting pairs.
        size = max(len(self.pictures), 1)
        np.add.at(self.pictures, np.unique(rows * size + labels) % size, 1)
        self.empty += n_rows - len(np.unique(rows))

    def _count_tracks(self, items: Counts, ids: Counts, labels: Counts) -> None:
        self.tracks = _grown(self.tracks, labels)
        for item, label, track in np.unique(np.column_stack([items, labels, ids]), axis=0).tolist():
            if item != self._item:
                self._item, self._met = item, set()
            if (label, track) not in self._met:
                self._met.add((label, track))
                self.tracks[label] += 1

    def result(self, class_names: Sequence[str]) -> ClassHistogram:
        """Return what was counted, with names."""
        size = len(self.objects)
        columns = [np.pad(column, (0, size - len(column))).tolist() for column in (self.tracks, self.pixels)]
        classes = [
            ClassCount(class_names[label] if label < len(class_names) else str(label), *counts)
            for label, counts in enumerate(zip(self.objects.tolist(), self.pictures.tolist(), *columns, strict=True))
            if counts[0]
        ]
        classes.sort(key=lambda item: (-item.pixels, -item.objects))
        return ClassHistogram(self.task, self.rows, self.empty, self.picture_pixels, tuple(classes), self.values)


def _flatten(column: Any) -> tuple[Counts, Any]:
    """Return the row of each element of a list column, and the elements."""
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lengths)), lengths), column.flatten()


def _grown(counts: Counts, labels: Counts) -> Counts:
    """Return the counts with room for the highest of the labels."""
    size = int(labels.max()) + 1 if labels.size else 0
    return counts if size <= len(counts) else np.pad(counts, (0, size - len(counts)))
