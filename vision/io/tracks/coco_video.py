"""Tracks as COCO-video JSON: ours, and the like of TAO, of toolkits with ``instance_id``, and of YouTube-VIS."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError, closest_hint
from vision.io.tracks.coco_document import Entry, choose_video, read_document
from vision.io.tracks.rows import Rows, to_trajectories
from vision.io.writers.coco_video import CocoVideoFile
from vision.io.writers.tracks_header import TracksHeader, names_by_label
from vision.tracking.trajectories import Trajectories

_FRAME_KEYS = ("frame_index", "frame_id")
_TRACK_KEYS = ("track_id", "instance_id")


def read_coco_video_tracks(path: Path, *, video: str | None = None) -> tuple[Trajectories, TracksHeader]:
    """Return the tracks of one video.

    Images give the frame (``frame_index`` or ``frame_id``, from 0), annotations the track (``track_id`` or
    ``instance_id``), ``bbox`` xywh, ``category_id`` and ``score`` (1 when missing). An annotation with ``bboxes``
    (YouTube-VIS) is a track: one box or null a frame, its ``id`` the track's. Labels count the categories by rising id.

    Args:
        path: JSON file.
        video: name or id of the video; may be None when there is only one.

    Raises:
        InvalidInputError: names the file and entry (``annotations[3]``) of what does not fit, or the videos to choose
            from.
    """
    document = read_document(path)
    reader = _Reader(path, document, choose_video(document["videos"], video, path))
    for number, annotation in enumerate(document["annotations"]):
        reader.take(number, annotation)
    trajectories = to_trajectories(reader.rows(), reader.place)
    return trajectories, reader.header(trajectories)


def write_coco_video_tracks(
    trajectories: Trajectories, path: Path, *, header: TracksHeader | None = None, overwrite: bool = False
) -> None:
    """Write one video: boxes to 0.001 pixels, scores to 0.00001; ``filled`` stands in the annotations where it holds.

    All ``frame_count`` frames are listed as images where the header has it, else those with tracks.
    """
    header = header or TracksHeader()
    output = CocoVideoFile(path, source=header.source, overwrite=overwrite)
    frames = np.union1d(trajectories.frames, np.arange(header.frame_count or 0))
    first = np.searchsorted(trajectories.frames, frames).tolist()
    columns = [getattr(trajectories, name).tolist() for name in ("ids", "scores", "labels", "filled")]
    try:
        for frame, start, end in zip(
            frames.tolist(), first, [*first[1:], len(trajectories)][: len(first)], strict=True
        ):
            rows = slice(start, end)
            ids, scores, labels, filled = (column[rows] for column in columns)
            output.add(frame, ids, trajectories.boxes[rows], scores, labels, filled)
        output.commit(header)
    except BaseException:
        output.abort()
        raise


@dataclass(slots=True)
class _Reader:
    """Collects the rows of one video; ``take`` is called for each annotation of the file."""

    path: Path
    document: Mapping[str, Sequence[Any]]
    video: Entry
    frame_of: dict[Any, Any] = field(init=False)
    label_of: dict[Any, int] = field(init=False)
    size_hw: tuple[int, int] | None = field(init=False)
    columns: tuple[list[Any], ...] = field(default_factory=lambda: ([], [], [], [], [], []))
    numbers: list[int] = field(default_factory=list)
    frame_count: int = 0

    def __post_init__(self) -> None:
        video_id = self.video.get("id")
        images = self.document["images"]
        self.size_hw = _size_of(self.video) or next(
            (_size_of(image) for image in images if _is_of(image, video_id)), None
        )
        self.frame_of = dict(self._frame(number, image, video_id) for number, image in enumerate(images))
        own = [frame for frame in self.frame_of.values() if isinstance(frame, int)]
        length = self.video.get("length")
        self.frame_count = max([0, length if isinstance(length, int) else 0, *(frame + 1 for frame in own)])
        for number, entry in enumerate(self.document["categories"]):
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
                raise self._fault(f"categories[{number}]", "be an object with a number as id", repr(entry)[:80])
        ids = {entry["id"] for entry in self.document["categories"]}
        self.label_of = {category: label for label, category in enumerate(sorted(ids))}

    def take(self, number: int, annotation: Any) -> None:
        """Add the row, or the rows, of an annotation of this video."""
        if not isinstance(annotation, dict):
            raise self._fault(f"annotations[{number}]", "be an object", type(annotation).__name__)
        if "bboxes" in annotation:
            self._take_track(number, annotation)
            return
        frame = self._known(self.frame_of, annotation, "image_id", number, "one of the images")
        if frame is None:
            return
        track_id = self._first(annotation, _TRACK_KEYS, f"annotations[{number}]")
        self._add(number, annotation, frame, track_id, annotation.get("bbox"))

    def rows(self) -> Rows:
        """Return what was taken as columns; raises InvalidInputError at the first entry that is no number."""
        frames, ids, boxes, scores, labels, filled = self.columns
        boxes_xywh = self._array("four numbers as bbox [x, y, w, h]", boxes, _is_box).reshape(-1, 4)
        return Rows(
            frames=self._array("a whole number as frame of its image", frames, _is_whole),
            ids=self._array("a whole number as track id", ids, _is_whole),
            boxes=np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1),
            scores=self._array("a number as score", scores, _is_number),
            labels=np.asarray(labels, np.int64),
            filled=np.asarray(filled, np.bool_),
        )

    def place(self, row: int) -> str:
        """Return where a row stands."""
        return f"{self.path} annotations[{self.numbers[row]}]"

    def header(self, trajectories: Trajectories) -> TracksHeader:
        """Return what the file says of the video."""
        names = {
            self.label_of[entry["id"]]: str(entry.get("name", self.label_of[entry["id"]]))
            for entry in self.document["categories"]
        }
        rates: list[Any] = [self.video.get(key) for key in ("fps", "frame_rate")]
        last = int(trajectories.frames[-1]) + 1 if len(trajectories) else 0
        return TracksHeader(
            class_names=names_by_label(names) if names else (),
            fps=next((rate for rate in rates if _is_number(rate) and rate > 0), None),
            source=str(self.video.get("name", "")),
            size_hw=self.size_hw,
            frame_count=max(self.frame_count, last),
        )

    def _take_track(self, number: int, annotation: Entry) -> None:
        """Add the boxes of a track as YouTube-VIS writes it."""
        if not _is_of(annotation, self.video.get("id")):
            return
        boxes = annotation["bboxes"]
        if not isinstance(boxes, list):
            raise self._fault(f"annotations[{number}]", "have a list as bboxes", type(boxes).__name__)
        track_id = self._first(annotation, (*_TRACK_KEYS, "id"), f"annotations[{number}]")
        for frame, bbox in enumerate(boxes):
            if bbox is not None:
                self._add(number, annotation, frame, track_id, bbox)
        self.frame_count = max(self.frame_count, len(boxes))

    def _add(self, number: int, annotation: Entry, frame: Any, track_id: Any, bbox: Any) -> None:
        label = self._known(self.label_of, annotation, "category_id", number, "one of the categories")
        row = (frame, track_id, bbox, annotation.get("score", 1.0), label, annotation.get("filled") is True)
        for column, value in zip(self.columns, row, strict=True):
            column.append(value)
        self.numbers.append(number)

    def _frame(self, number: int, image: Any, video_id: Any) -> tuple[Any, Any]:
        """Return id and frame of an image; None for the frame of another video's."""
        if not isinstance(image, dict) or "id" not in image:
            raise self._fault(f"images[{number}]", "be an object with an id", repr(image)[:80])
        if not isinstance(image["id"], int | str):
            raise self._fault(f"images[{number}]", "have a number as id", repr(image["id"])[:80])
        if not _is_of(image, video_id):
            return image["id"], None
        frame = self._first(image, _FRAME_KEYS, f"images[{number}]")
        if not _is_whole(frame):
            raise self._fault(f"images[{number}]", "have a whole number as frame_index", repr(frame)[:80])
        return image["id"], frame

    def _known(self, table: Mapping[Any, Any], annotation: Entry, key: str, number: int, what: str) -> Any:
        """Return what the annotation's ``key`` stands for, or raise."""
        try:
            return table[annotation[key]]
        except (KeyError, TypeError):
            # Without categories there is one class, and an annotation need not name it.
            if key == "category_id" and key not in annotation:
                return 0
            found = repr(annotation[key])[:80] if key in annotation else "none"
            raise self._fault(f"annotations[{number}]", f"have a {key} that is {what}", found) from None

    def _first(self, entry: Entry, keys: Sequence[str], where: str) -> Any:
        for key in keys:
            if entry.get(key) is not None:
                return entry[key]
        found = ", ".join(entry) or "nothing"
        raise self._fault(where, f"have {' or '.join(keys)}", f"{found}{closest_hint(keys[0], entry)}")

    def _array(self, what: str, values: list[Any], fits: Callable[[Any], bool]) -> npt.NDArray[Any]:
        """Return the values as numbers; looks at each of them only when numpy sees that something is odd."""
        try:
            array = np.asarray(values)
        except (ValueError, OverflowError):
            array = np.asarray([], object)
        if (array.dtype.kind in "iuf" and (array.ndim == 1 or array.shape[1:] == (4,))) or not values:
            return array
        row = next((row for row, value in enumerate(values) if not fits(value)), 0)
        raise self._fault(f"annotations[{self.numbers[row]}]", f"have {what}", repr(values[row])[:80])

    def _fault(self, where: str, must: str, found: str) -> InvalidInputError:
        return InvalidInputError(f"{self.path} {where} must {must}, got {found}; correct the entry", path=self.path)


def _is_of(entry: Any, video_id: Any) -> bool:
    return isinstance(entry, dict) and entry.get("video_id") == video_id


def _size_of(entry: Entry) -> tuple[int, int] | None:
    height, width = entry.get("height"), entry.get("width")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and value == int(value) and abs(value) < 2**63


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(_is_number(number) for number in value)
