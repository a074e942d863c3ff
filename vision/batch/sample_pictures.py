"""Rows of a job drawn onto what they were computed from, which is read again from its source."""

from __future__ import annotations

import io
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from vision.batch.fetching import fetch_bytes
from vision.batch.items import Item
from vision.batch.output import Output
from vision.batch.report_text import one_line
from vision.batch.rows import Row
from vision.batch.samples import choose_rows, read_row
from vision.batch.shard_summary import ShardHeader, shard_index
from vision.errors import InvalidInputError
from vision.geometry.rle import decode_mask
from vision.io.container import open_container, pick_stream
from vision.io.frame_range import FrameRange
from vision.io.images import ImageLimits, decode_image
from vision.io.video_range import VideoRangeReader
from vision.report.content import PHOTO_QUALITY, Picture
from vision.types import (
    Classification,
    Detections,
    Frame,
    FrameResult,
    ImageArray,
    IntArray,
    SegmentationMap,
    Tracks,
    TrackState,
)

LONGEST_SIDE = 640
# A sample is not worth more than this; a remote video is fetched whole.
MAX_BYTES = 64 * 1024 * 1024
_SAME_TIME_S = 1e-3
_NAMED = 6

logger = logging.getLogger(__name__)


def sample_pictures(
    output: Output, files: Sequence[str], header: ShardHeader, items_of: Callable[[int], Sequence[Item]]
) -> list[Picture]:
    """Return the pictures of a job's report; what cannot be read again is left out.

    Args:
        output: of the job.
        files: names of the committed shards' files, sorted.
        header: of the job's shards.
        items_of: returns the items of a shard by its index.
    """
    pictures = []
    for number, place in enumerate(choose_rows(output, files, header.task)):
        try:
            row = read_row(output, place)
            item = next(item for item in items_of(shard_index(place.file) or 0) if item.index == row["item"])
            image = draw_row(read_picture(item, row), row, header.class_names)
        # Whatever a store or a decoder raises: a picture less is no reason for no report.
        except Exception as exc:
            logger.debug("a sample of %s is left out of the report: %s", place.file, exc)
            continue
        pictures.append(_picture(number, row, image))
    return pictures


def _picture(number: int, row: Row, image: ImageArray) -> Picture:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=PHOTO_QUALITY)
    return Picture(f"sample-{number}", one_line(row["path"]), describe_row(row), b"", file.getvalue())


def read_picture(item: Item, row: Row) -> ImageArray:
    """Return the picture or frame of a row, uint8 RGB [H, W, 3].

    Raises:
        InvalidInputError: it cannot be read any more, or is another one than it was.
        Exception: what the store of a remote item raises.
    """
    # No more than it was; a file may have been replaced by a larger one.
    max_pixels = row["height"] * row["width"]
    if item.kind == "video":
        picture = _read_frame(item, row, max_pixels)
    else:
        picture = decode_image(
            fetch_bytes(item, MAX_BYTES), limits=ImageLimits(max_pixels=max_pixels), source=item.name
        )
    if picture.shape[:2] != (row["height"], row["width"]):
        raise InvalidInputError(
            f"{item.name} must be {row['width']} x {row['height']} pixels as it was, found "
            f"{picture.shape[1]} x {picture.shape[0]}; it was changed since the run"
        )
    return picture


def _read_frame(item: Item, row: Row, max_pixels: int) -> ImageArray:
    with tempfile.TemporaryDirectory(prefix="stride32-") as folder:
        path = Path(item.address)
        if item.is_remote:
            path = Path(folder) / "video"
            path.write_bytes(fetch_bytes(item, MAX_BYTES))
        wanted = _frame_range(path, item, row)
        with VideoRangeReader(path, wanted, max_pixels=max_pixels, name=item.name) as reader:
            frame = next(reader)
    times_s = [time_s for time_s in (frame.timestamp_s, row["timestamp_s"]) if time_s is not None]
    if frame.index != row["frame_index"] or max(times_s, default=0) - min(times_s, default=0) > _SAME_TIME_S:
        raise InvalidInputError(
            f"{item.name} must have frame {row['frame_index']} at {row['timestamp_s']} s, found frame {frame.index} at "
            f"{frame.timestamp_s} s; its clock jumps, or it was changed since the run"
        )
    return frame.image


def _frame_range(path: Path, item: Item, row: Row) -> FrameRange | None:
    """Return the range of the one frame, by its time: decoding a long video up to it would take minutes."""
    index = int(row["frame_index"])
    if index == 0 or row["timestamp_s"] is None:
        return None
    container = open_container(str(path), item.name, 10.0)
    try:
        stream = pick_stream(container, item.name)
        start, time_base = stream.start_time or 0, stream.time_base
    finally:
        container.close()
    if time_base is None:
        return None
    ticks = start + round(row["timestamp_s"] / float(time_base))
    return FrameRange(index, index + 1, ticks, None, ticks)


def draw_row(picture: ImageArray, row: Row, class_names: Sequence[str]) -> ImageArray:
    """Return the picture, its longest side at most 640 pixels, with what the row says drawn onto it."""
    from vision.render import Annotator

    scale = min(1.0, LONGEST_SIDE / max(picture.shape[:2]))
    size_wh = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    small: ImageArray = picture
    if scale < 1:
        small = np.asarray(cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
    stretch = np.array([size_wh[0] / picture.shape[1], size_wh[1] / picture.shape[0]] * 2, np.float32)
    result = _result(row, stretch, size_wh, class_names)
    return Annotator(class_names, trace_length=0).draw(Frame(small), result)


def describe_row(row: Row) -> str:
    """Return what a row says in a line: classes with their number or share, a class, or a value; and the time."""
    parts = []
    if row.get("timestamp_s") is not None:
        parts.append(f"frame {row['frame_index']} at {row['timestamp_s']:.2f} s")
    if "mask_labels" in row:
        pixels = max(1, row["height"] * row["width"])
        areas = zip(row["mask_areas"].tolist(), row["mask_names"], strict=True)
        shares = sorted(((area / pixels, name) for area, name in areas), reverse=True)
        parts.append(", ".join(f"{name} {share:.0%}" for share, name in shares[:_NAMED]) or "no class")
    elif "embedding" in row:
        parts.append(f"{len(row['embedding'])} numbers")
    elif row.get("value") is not None:
        parts.append(f"{row['value']:.4g} {row.get('unit') or ''}".rstrip())
    elif "assigned" in row:
        decided = list(zip(row["names"], row["scores"], strict=True))[: max(row["assigned"], 1)]
        parts.append(", ".join(f"{name} {score:.2f}" for name, score in decided[:_NAMED]))
    else:
        counts: Counter[str] = Counter(row["names"])
        parts.append(", ".join(f"{count} {name}" for name, count in counts.most_common(_NAMED)) or "no object")
    return ", ".join(parts)


def _result(row: Row, stretch: Any, size_wh: tuple[int, int], class_names: Sequence[str]) -> FrameResult:
    index = int(row["frame_index"])
    if "mask_labels" in row:
        segmentation = SegmentationMap(_label_map(row, size_wh, len(class_names)), tuple(class_names))
        return FrameResult(frame_index=index, segmentation=segmentation)
    if "assigned" in row or row.get("value") is not None:
        return FrameResult(frame_index=index, classification=_classification(row))
    if "boxes" not in row:
        return FrameResult(frame_index=index)
    labels = np.asarray(row["labels"], np.int64)
    boxes = np.asarray(row["boxes"], np.float32).reshape(-1, 4) * stretch
    scores = np.asarray(row["scores"], np.float32)
    if "track_ids" not in row:
        return FrameResult(frame_index=index, detections=Detections(boxes, scores, labels))
    n = len(labels)
    tracks = Tracks(
        boxes=boxes,
        ids=np.asarray(row["track_ids"], np.int64),
        scores=scores,
        labels=labels,
        states=np.full(n, int(TrackState.CONFIRMED), np.int64),
        ages=np.zeros(n, np.int64),
        time_since_update=np.zeros(n, np.int64),
        detection_index=np.arange(n, dtype=np.int64),
    )
    return FrameResult(frame_index=index, tracks=tracks)


def _classification(row: Row) -> Classification:
    if row.get("value") is not None:
        empty = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return Classification(*empty, value=float(row["value"]), unit=row.get("unit") or "")
    return Classification(
        np.asarray(row["labels"], np.int64),
        np.asarray(row["scores"], np.float32),
        tuple(row["names"]),
        int(row["assigned"]),
    )


def _label_map(row: Row, size_wh: tuple[int, int], n_classes: int) -> IntArray:
    """Return the masks as one map at the size of the small picture; where there is no mask it is class 0."""
    height, width = row["height"], row["width"]
    labels = np.zeros((size_wh[1], size_wh[0]), np.int64)
    for label, counts in zip(row["mask_labels"].tolist(), row["mask_counts"], strict=True):
        if 0 <= label < n_classes:
            pixels = decode_mask({"size": [height, width], "counts": counts})
            small = cv2.resize(pixels.view(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST)
            labels[small.astype(bool)] = label
    return labels
