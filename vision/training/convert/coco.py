"""Writing COCO JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision.geometry.boxes import xyxy_to_xywh
from vision.training.convert.rows import ConvertedPicture
from vision.training.datasets.annotations import BoxRow, DetectionAnnotations

# Far below a pixel, and below the 6 digits that JSON files of others carry.
_DIGITS = 3


def write_coco(
    path: Path, pictures: list[ConvertedPicture], names: Mapping[Path, str], annotations: DetectionAnnotations
) -> None:
    """Write one COCO file; category ids are those of COCO data, else counted from 1.

    Args:
        path: the JSON file; its folder exists.
        pictures: what it annotates.
        names: ``file_name`` of each picture, relative to the file.
        annotations: gives classes, category ids and what else a COCO file carries.
    """
    image_ids = _image_ids(pictures)
    ids = annotations.category_ids or tuple(range(1, len(annotations.class_names) + 1))
    objects = [(image_id, row) for image_id, picture in zip(image_ids, pictures, strict=True) for row in picture.rows]
    document: dict[str, Any] = {
        **(annotations.extra or {}),
        "images": [
            {
                **(picture.entry.extra or {}),
                "id": image_id,
                "file_name": names[picture.entry.path],
                "width": picture.size_wh[0],
                "height": picture.size_wh[1],
            }
            for image_id, picture in zip(image_ids, pictures, strict=True)
        ],
        "annotations": [
            _object(number, image_id, row, ids[row.label]) for number, (image_id, row) in enumerate(objects, start=1)
        ],
        "categories": [{"id": key, "name": name} for key, name in zip(ids, annotations.class_names, strict=True)],
    }
    path.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")


def _image_ids(pictures: list[ConvertedPicture]) -> list[int]:
    """Return the ids as read, or new ones where two parts with the same ids were joined."""
    ids = [picture.entry.image_id for picture in pictures]
    return ids if len(set(ids)) == len(ids) else list(range(1, len(ids) + 1))


def _object(number: int, image_id: int, row: BoxRow, category_id: int) -> dict[str, Any]:
    """Return one annotation; ``difficult`` and ``truncated`` are no fields of COCO, which readers pass over."""
    box = [round(float(value), _DIGITS) for value in xyxy_to_xywh(np.asarray(row.box))]
    flags = {name: 1 for name in ("difficult", "truncated") if getattr(row, name)}
    return {
        "area": round(box[2] * box[3], _DIGITS),
        **(row.extra or {}),
        **flags,
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "iscrowd": int(row.crowd),
    }
