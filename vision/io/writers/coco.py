"""COCO results: a JSON list of ``{"image_id", "category_id", "bbox", "score"}``, bbox xywh; streamed, so memory stays
flat."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import orjson

from vision.errors import InvalidInputError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer, rounded_xywh
from vision.types import Frame, FrameResult


@dataclass(frozen=True, slots=True)
class CocoIndex:
    """The numbers that a COCO ground truth file gives to its images and categories.

    Attributes:
        image_ids: file_name -> image id.
        category_ids: category name -> category id.
    """

    image_ids: Mapping[str, int]
    category_ids: Mapping[str, int]


def read_coco_index(path: str | Path) -> CocoIndex:
    """Return the image and category ids of a COCO ground truth JSON; raises InvalidInputError when it is not one."""
    try:
        content = orjson.loads(Path(path).read_bytes())
        images = {str(image["file_name"]): int(image["id"]) for image in content["images"]}
        categories = {str(category["name"]): int(category["id"]) for category in content["categories"]}
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as exc:
        raise InvalidInputError(
            f"{path} must be a COCO ground truth JSON with images and categories, failed at {exc!r}",
            path=path,
        ) from exc
    return CocoIndex(images, categories)


class CocoWriter(Writer):
    """Writes the detections of each image.

    Args:
        path: output file.
        category_ids: COCO category id of each label, in label order.
        image_ids: file_name -> image id from the ground truth (read_coco_index); without it the id is the last number
            in the file name, as in ``000000000139.jpg``.
        relative_name: name of a frame (Source.relative_name), whose number is the id of a video's frame: 1, 2, ...

    Raises (from write):
        InvalidInputError: no image id can be derived, two images would get the same one, or a label has no category id.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        category_ids: Sequence[int],
        image_ids: Mapping[str, int] | None = None,
        relative_name: Callable[[Frame], str] | None = None,
        overwrite: bool = False,
    ) -> None:
        self._category_ids = tuple(category_ids)
        self._image_ids = image_ids
        self._relative_name = relative_name
        self._owners: dict[int, int] = {}
        self._has_rows = False
        self._output = AtomicFile(path, overwrite=overwrite)
        self._output.write(b"[")

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Add the detections of one image."""
        detections = result.detections
        if detections is None:
            raise InvalidInputError("COCO results need detections, got a result without; run detect")
        image_id = self._claim_image_id(frame, result)
        boxes_xywh, scores = rounded_xywh(detections.boxes), detections.scores.tolist()
        for label, bbox, score in zip(detections.labels.tolist(), boxes_xywh, scores, strict=True):
            row = {
                "image_id": image_id,
                "category_id": self._category_id(label),
                "bbox": bbox,
                "score": round(score, 5),
            }
            self._write_row(row)

    def close(self) -> None:
        """Finish the list; without detections it is empty and valid."""
        if self._output.is_open:
            self._output.write(b"\n]\n" if self._has_rows else b"]\n")
            self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()

    def _write_row(self, row: Mapping[str, Any]) -> None:
        self._output.write((b",\n" if self._has_rows else b"\n") + orjson.dumps(row))
        self._has_rows = True

    def _category_id(self, label: int) -> int:
        if label >= len(self._category_ids):
            raise InvalidInputError(
                f"category_ids must have an id for each label, got {len(self._category_ids)} ids and label {label}; "
                "give the ids of all classes of the model"
            )
        return self._category_ids[label]

    def _claim_image_id(self, frame: Frame | None, result: FrameResult) -> int:
        """Return the image id of the frame and remember it, so that two frames never share one."""
        image_id = find_image_id(self._image_name(frame, result), self._image_ids)
        if self._owners.setdefault(image_id, result.frame_index) != result.frame_index:
            raise InvalidInputError(
                f"each image needs its own COCO image id, {result.source} gets {image_id} again; "
                "give the ids with --coco-gt",
                path=result.source or None,
            )
        return image_id

    def _image_name(self, frame: Frame | None, result: FrameResult) -> str:
        """Return the path of a picture, or what a frame of a video would be called as a picture."""
        if frame is None or self._relative_name is None:
            return result.source
        name = self._relative_name(frame)
        return result.source if PurePath(name).name == PurePath(result.source).name else name


def find_image_id(source: str, image_ids: Mapping[str, int] | None = None) -> int:
    """Return the COCO image id of a picture: looked up by the longest matching path end, or the last number in its
    name.

    >>> find_image_id("val2014/COCO_val2014_000000000042.jpg")
    42
    """
    parts = PurePath(source).parts
    if image_ids is not None:
        for start in range(len(parts)):
            found = image_ids.get("/".join(parts[start:]))
            if found is not None:
                return found
        raise InvalidInputError(
            f"{source} must be named in the COCO ground truth, its file_name is not among {len(image_ids)} images; "
            "pass the ground truth of these images",
            path=source or None,
        )
    numbers = re.findall(r"\d+", PurePath(source).stem)
    if not numbers:
        raise InvalidInputError(
            f"a COCO image id must come from digits in the file name, {source or 'the input'} has none; pass --coco-gt",
            path=source or None,
        )
    return int(numbers[-1])
