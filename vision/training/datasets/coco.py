"""Detection data in COCO JSON: reading and checking annotations."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vision.errors import InvalidInputError, closest_hint
from vision.geometry.boxes import xywh_to_xyxy
from vision.types import FloatArray, ImageArray, IntArray

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """One picture of a data set with its objects: boxes float32 [N, 4] xyxy pixels, labels int64 [N].

    ``unmarked`` tells that it also shows wanted objects without a usable box (crowds), so it is no background.
    """

    path: Path
    image_id: int
    boxes: FloatArray
    labels: IntArray
    unmarked: bool = False


def read_coco(path: Path, classes: Sequence[str] = ()) -> tuple[list[AnnotatedImage], tuple[str, ...]]:
    """Return the annotated pictures of a COCO file and the class names in label order.

    Crowd regions and boxes without area are left out. Pictures are looked for beside the file, as ``file_name`` says.

    Raises:
        InvalidInputError: the file is not COCO JSON, or lacks a wanted class.
    """
    document = _read_json(path)
    try:
        names = {int(row["id"]): str(row["name"]) for row in document["categories"]}
    except (KeyError, TypeError, ValueError) as exc:
        raise InvalidInputError(
            f"{path.name} must give each category an id and a name; reading failed at {exc!r}", path=path
        ) from exc
    wanted = tuple(classes) or tuple(names[key] for key in sorted(names))
    missing = [name for name in wanted if name not in names.values()]
    if missing:
        raise InvalidInputError(
            f"{path.name} must have the classes {', '.join(wanted)}, lacks {missing[0]!r}"
            f"{closest_hint(missing[0], names.values())}",
            path=path,
        )
    label_of = {key: wanted.index(name) for key, name in names.items() if name in wanted}
    try:
        return [_annotated(path.parent, *entry) for entry in _objects_by_image(document, label_of)], wanted
    except (KeyError, TypeError, ValueError) as exc:
        raise InvalidInputError(
            f"{path.name} must give each image id and file_name, each annotation image_id, category_id and bbox "
            f"[x, y, width, height]; reading failed at {exc!r}",
            path=path,
        ) from exc


def _objects_by_image(
    document: dict[str, Any], label_of: Mapping[int, int]
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]], bool]]:
    """Yield each image row, its usable annotations (label added), and whether it has others of wanted classes."""
    usable: dict[int, list[dict[str, Any]]] = {int(row["id"]): [] for row in document["images"]}
    unmarked = set()
    for row in document["annotations"]:
        if row["category_id"] not in label_of:
            continue
        _, _, width, height = row["bbox"]
        if row.get("iscrowd", 0) or width <= 0 or height <= 0:
            unmarked.add(int(row["image_id"]))
        else:
            usable[int(row["image_id"])].append({**row, "label": label_of[row["category_id"]]})
    for row in document["images"]:
        yield row, usable[int(row["id"])], int(row["id"]) in unmarked


def _annotated(folder: Path, row: dict[str, Any], objects: list[dict[str, Any]], unmarked: bool) -> AnnotatedImage:
    boxes_xywh = np.asarray([item["bbox"] for item in objects], np.float32).reshape(-1, 4)
    return AnnotatedImage(
        folder / row["file_name"],
        int(row["id"]),
        xywh_to_xyxy(boxes_xywh).astype(np.float32),
        np.asarray([item["label"] for item in objects], np.int64),
        unmarked,
    )


def _read_json(path: Path) -> dict[str, Any]:
    """Return the parsed file after checking that it has COCO's three lists."""
    if not path.is_file():
        raise InvalidInputError(
            f"COCO annotations must be a JSON file, found none at {path}; check the path", path=path
        )
    try:
        document: Any = json.loads(path.read_text())
    except ValueError as exc:
        raise InvalidInputError(f"{path.name} must be COCO JSON, cannot parse it: {exc}", path=path) from exc
    table: dict[str, Any] = document if isinstance(document, dict) else {}
    absent = [key for key in ("images", "annotations", "categories") if not isinstance(table.get(key), list)]
    if absent:
        raise InvalidInputError(
            f"{path.name} must be COCO JSON with images, annotations and categories, lacks {absent}", path=path
        )
    return table


def load_rgb(path: Path) -> ImageArray:
    """Return a trusted training picture as RGB uint8 [H, W, 3]; raises InvalidInputError naming an unreadable file."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise InvalidInputError(
            f"training picture {path} cannot be read; remove it from the annotations or mend it", path=path
        )
    return np.asarray(image, np.uint8)


def readable_images(images: Sequence[AnnotatedImage]) -> list[AnnotatedImage]:
    """Return the pictures that exist and have an image header; the others are reported once, by name, and skipped."""
    kept = [image for image in images if image.path.is_file() and cv2.haveImageReader(str(image.path))]
    for image in images:
        if not image.path.is_file() or not cv2.haveImageReader(str(image.path)):
            log.warning("skipped %s: not a readable picture", image.path)
    if not kept:
        raise InvalidInputError(
            f"none of {len(images)} training pictures can be read, first: {images[0].path if images else 'no entry'}"
        )
    return kept
