"""Value types that travel along the path of one frame: Frame -> Detections -> Tracks -> FrameResult.

All are frozen, hold numpy arrays on the CPU and are validated once, at construction. Boxes are always float32 [N, 4]
xyxy in pixels of the original upright frame: x to the right, y down, (0, 0) the outer corner of the first pixel
(docs/conventions.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.validation import as_boxes, as_column, as_embeddings, describe

if TYPE_CHECKING:
    from vision.regions import TrackRegions

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
ImageArray = npt.NDArray[np.uint8]
Selection = npt.NDArray[np.bool_] | npt.NDArray[np.intp] | IntArray | slice | Sequence[int]


class TrackState(IntEnum):
    """Life cycle of a track (Wojke 2017, section 2.2); deleted tracks leave the tracker's output."""

    TENTATIVE = 1
    CONFIRMED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One upright RGB picture.

    Attributes:
        image: uint8 [H, W, 3] RGB. Never written to: the array is marked read-only.
        index: position in its source, from 0.
        timestamp_s: presentation time in seconds from the start of the source, or None for still images.
        source: path or address as the user gave it; used in results and file names, never opened again.
    """

    image: ImageArray
    index: int = 0
    timestamp_s: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        image = self.image
        if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
            raise InvalidInputError(
                f"a frame's image must be uint8 [H, W, 3] RGB, got {describe(image)}; "
                "decode with vision.io.images.decode_image or convert first"
            )
        if image.shape[0] == 0 or image.shape[1] == 0:
            raise InvalidInputError(f"a frame's image must have at least one pixel, got {image.shape}; drop the frame")
        view = image.view()
        view.flags.writeable = False
        object.__setattr__(self, "image", view)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """N detected objects of one frame.

    Attributes:
        boxes: float32 [N, 4] xyxy pixels of the original frame, x1 <= x2, y1 <= y2, finite.
        scores: float32 [N], higher is surer; a probability for our own detectors, any finite number for imported ones.
        labels: int64 [N], index into the detector's class names, >= 0.
        embeddings: float32 [N, D] unit-norm appearance vectors, zero in rows that nobody will compare, or None when not
            computed.
    """

    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    embeddings: FloatArray | None = None

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", as_column("scores", self.scores, np.float32, len(boxes)))
        object.__setattr__(self, "labels", as_column("labels", self.labels, np.int64, len(boxes)))
        if len(boxes) and self.labels.min() < 0:
            raise InvalidInputError(
                f"labels must be >= 0, got {self.labels.min()}; map unknown classes before building"
            )
        if self.embeddings is not None:
            object.__setattr__(self, "embeddings", as_embeddings(self.embeddings, len(boxes)))

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, selection: Selection) -> Self:
        """Return the selected rows (boolean mask, index array or slice) as a new value."""
        return type(self)(
            self.boxes[selection],
            self.scores[selection],
            self.labels[selection],
            None if self.embeddings is None else self.embeddings[selection],
        )

    @classmethod
    def empty(cls) -> Self:
        """Return the value for a frame in which nothing was found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    @classmethod
    def concat(cls, parts: Sequence[Detections]) -> Self:
        """Return the rows of all parts in order; embeddings survive only if every non-empty part has them."""
        filled = [part for part in parts if len(part)]
        if not filled:
            return cls.empty()
        embeddings = [part.embeddings for part in filled if part.embeddings is not None]
        return cls(
            np.concatenate([part.boxes for part in filled]),
            np.concatenate([part.scores for part in filled]),
            np.concatenate([part.labels for part in filled]),
            np.concatenate(embeddings) if len(embeddings) == len(filled) else None,
        )

    def with_embeddings(self, embeddings: FloatArray, rows: npt.NDArray[np.intp] | None = None) -> Self:
        """Return the same detections carrying ``embeddings`` float32 [N, D].

        With ``rows`` [K] they are [K, D] and belong to those rows; the others were not computed and are zero.
        """
        if rows is not None and len(rows) < len(self):
            filled = np.zeros((len(self), embeddings.shape[1]), np.float32)
            filled[rows] = embeddings
            embeddings = filled
        return type(self)(self.boxes, self.scores, self.labels, embeddings)


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """M live tracks of one frame.

    Attributes:
        boxes: float32 [M, 4] xyxy, the filtered position (not the raw detection).
        ids: int64 [M], unique in a frame and never reused by one tracker.
        scores: float32 [M] of the last matched detection.
        labels: int64 [M].
        states: int64 [M], values of TrackState.
        ages: int64 [M], frames since the track began.
        time_since_update: int64 [M], frames since the last matched detection, 0 when matched in this frame.
        detection_index: int64 [M], row of the matched detection in this frame, -1 if none.
    """

    boxes: FloatArray
    ids: IntArray
    scores: FloatArray
    labels: IntArray
    states: IntArray
    ages: IntArray
    time_since_update: IntArray
    detection_index: IntArray

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", as_column("scores", self.scores, np.float32, len(boxes)))
        for name in ("ids", "labels", "states", "ages", "time_since_update", "detection_index"):
            object.__setattr__(self, name, as_column(name, getattr(self, name), np.int64, len(boxes)))
        # Trackers report by rising id; only other orders need the sort.
        if not (self.ids[1:] > self.ids[:-1]).all() and len(np.unique(self.ids)) != len(boxes):
            raise InvalidInputError(
                f"track ids must be unique in a frame, got {self.ids.tolist()}; use one tracker per stream"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, selection: Selection) -> Self:
        """Return the selected rows (boolean mask, index array or slice) as a new value."""
        return type(self)(*(getattr(self, name)[selection] for name in TRACK_FIELDS))

    @classmethod
    def trusted(cls, **columns: npt.NDArray[Any]) -> Self:
        """Return the value of columns whose maker guarantees the laws; for the tracker, which reports ten times a
        millisecond and is tested for them. All fields must be given, with their dtypes."""
        value = object.__new__(cls)
        for name in TRACK_FIELDS:
            object.__setattr__(value, name, columns[name])
        return value

    @classmethod
    def empty(cls) -> Self:
        """Return the value for a frame without tracks."""
        column = np.zeros(0, np.int64)
        return cls(
            np.zeros((0, 4), np.float32), column, np.zeros(0, np.float32), column, column, column, column, column
        )


TRACK_FIELDS = ("boxes", "ids", "scores", "labels", "states", "ages", "time_since_update", "detection_index")


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationMap:
    """One class index for each pixel of a frame.

    Attributes:
        labels: uint8 or int64 [H, W], index into class_names; the same H, W as the frame.
        class_names: the name of each index.
        scores: float32 [H, W] probability of the chosen class, or None.
    """

    labels: npt.NDArray[np.uint8] | IntArray
    class_names: tuple[str, ...]
    scores: FloatArray | None = None

    def __post_init__(self) -> None:
        labels = self.labels
        if labels.ndim != 2 or labels.dtype not in (np.uint8, np.int64):
            raise InvalidInputError(
                f"segmentation labels must be uint8 or int64 [H, W], got {describe(labels)}; pass argmax"
            )
        if self.scores is not None and self.scores.shape != labels.shape:
            raise InvalidInputError(
                f"segmentation scores must have the labels' shape {labels.shape}, got {self.scores.shape}; "
                "resize both to the frame"
            )
        lowest, highest = (int(labels.min()), int(labels.max())) if labels.size else (0, -1)
        if lowest < 0 or highest >= len(self.class_names):
            raise InvalidInputError(
                f"segmentation labels must be < {len(self.class_names)} (the class names) and not negative, got "
                f"{lowest} to {highest}; give a name for each class"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """What a classifier says of one whole frame: classes by falling score, or a measured value.

    Attributes:
        labels: int64 [M], indices into the classifier's class names, surest first; none for a regression.
        scores: float32 [M], the probability of each in [0, 1], falling.
        names: the name of each label.
        assigned: how many of the first labels the classifier decides for: 1 where classes exclude each other, those
            with a score of at least the threshold where several may hold.
        value: what a regression measures, finite, in ``unit``; None for classes.
        unit: name of the unit, may be empty.
    """

    labels: IntArray
    scores: FloatArray
    names: tuple[str, ...] = ()
    assigned: int = 0
    value: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        count = len(self.names)
        for name, dtype in (("labels", np.int64), ("scores", np.float32)):
            column = np.asarray(getattr(self, name))
            if column.shape != (count,):
                raise InvalidInputError(
                    f"a classification's {name} must be [M] with one entry a name (M={count}), got {column.shape}; "
                    "cut all three alike"
                )
            object.__setattr__(self, name, column.astype(dtype, copy=False))
        if not np.isfinite(self.scores).all() or (np.diff(self.scores) > 0).any():
            raise InvalidInputError(
                f"a classification's scores must be finite and fall, got {self.scores.tolist()}; sort by score first"
            )
        if not 0 <= self.assigned <= count:
            raise InvalidInputError(
                f"a classification can assign 0 to {count} of its labels, got {self.assigned}; count the first ones"
            )
        if self.value is not None and not np.isfinite(self.value):
            raise InvalidInputError(f"a measured value must be finite, got {self.value}; check the network's input")

    def __len__(self) -> int:
        return len(self.names)

    def top(self, count: int) -> Self:
        """Return the same with the ``count`` surest classes only (0 keeps none)."""
        return type(self)(
            self.labels[:count],
            self.scores[:count],
            self.names[:count],
            min(self.assigned, count),
            self.value,
            self.unit,
        )


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """All that was found in one frame; what writers and the service receive.

    Attributes:
        frame_index: position in its source, from 0.
        timestamp_s: seconds from the start of the source, or None for still images.
        source: the frame's source as the user gave it.
        size_hw: height and width of the original frame in pixels, or None when no picture was read (association alone).
        detections, tracks, segmentation, classification: each None when that stage did not run.
        regions: pixels and surface of each row of ``tracks``; None unless there are tracks and a segmentation.
        timings_ms: wall milliseconds by stage name.
    """

    frame_index: int
    timestamp_s: float | None = None
    source: str = ""
    size_hw: tuple[int, int] | None = None
    detections: Detections | None = None
    tracks: Tracks | None = None
    segmentation: SegmentationMap | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    classification: Classification | None = None
    regions: TrackRegions | None = None

    def __post_init__(self) -> None:
        regions = self.regions
        if regions is None:
            return
        if self.tracks is None or len(regions) != len(self.tracks):
            tracks = "no tracks" if self.tracks is None else f"{len(self.tracks)} tracks"
            raise InvalidInputError(
                f"a frame's regions must be those of its tracks, got {len(regions)} regions and {tracks}; select rows "
                "of both alike"
            )
        if regions.owners.shape != self.size_hw:
            raise InvalidInputError(
                f"a frame's regions must have its size {self.size_hw}, got {regions.owners.shape}; make them from the "
                "segmentation of the frame itself"
            )

    def to_dict(self, *, embeddings: bool = False, segmentation: bool = True) -> dict[str, Any]:
        """Return plain JSON data, from which ``from_dict`` restores the value without what is too long for JSON.

        Embeddings are left out unless asked for, the scores of a segmentation always: a number a pixel. Its labels are
        written as run lengths, unless they are not wanted: a street scene's take some 50 kB.
        """
        from vision.result_json import result_to_dict

        return result_to_dict(self, embeddings=embeddings, segmentation=segmentation)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Rebuild the value that ``to_dict`` wrote; the scores of a segmentation are None, for it leaves them out.

        Raises:
            InvalidInputError: a field is missing or malformed, or two contradict each other.
        """
        from vision.result_json import result_fields

        return cls(**result_fields(row))
