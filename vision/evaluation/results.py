"""Detections of a data set as a COCO results file: ``[{"image_id", "category_id", "bbox": [x, y, w, h], "score"}]``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from vision.errors import InvalidInputError
from vision.evaluation.ground_truth import GroundTruth
from vision.geometry.boxes import xywh_to_xyxy, xyxy_to_xywh
from vision.geometry.iou import pairwise_iou
from vision.io.writers.atomic import AtomicFile
from vision.types import Detections

log = logging.getLogger(__name__)

_IDS_SHOWN = 5
# Boxes of a whole picture in relative units end at 1; rounding may add a little.
_RELATIVE_LIMIT = 1.5


def read_results(path: Path, truth: GroundTruth) -> dict[int, Detections]:
    """Return the detections by image id, in the labels of the ground truth.

    Rows of categories that are not measured are left out with a warning.

    Raises:
        InvalidInputError: no results file; ids of images that the ground truth lacks; no row of a known category;
            boxes that are not x, y, width, height in pixels.
    """
    rows = _read_rows(path)
    if not rows:
        return {}
    columns = _columns(rows, path)
    _check_images(columns["image_id"], truth, path)
    labels = _labels(columns["category_id"], truth, path)
    boxes_xywh = np.asarray([row["bbox"] for row in rows], np.float64)
    _check_boxes(boxes_xywh, path)
    known = labels >= 0
    boxes = xywh_to_xyxy(boxes_xywh[known]).astype(np.float32)
    found = _by_image(columns["image_id"][known], boxes, columns["score"][known], labels[known])
    corners = _by_image(columns["image_id"][known], boxes_xywh[known], columns["score"][known], labels[known])
    _check_corners(found, corners, truth, path)
    return found


def write_results(
    path: Path, found: Mapping[int, Detections], category_ids: Sequence[int], *, overwrite: bool = False
) -> None:
    """Write detections by image id as a COCO results file; labels become category ids.

    Boxes keep all their digits, unlike those for other programs: scored again, the file gives the same numbers.
    """
    output = AtomicFile(path, overwrite=overwrite)
    rows = [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for image_id, detections in found.items()
        for box, score, label in zip(
            xyxy_to_xywh(detections.boxes.astype(np.float64)).tolist(),
            detections.scores.tolist(),
            detections.labels.tolist(),
            strict=True,
        )
    ]
    output.write(orjson.dumps(rows))
    output.commit()


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as exc:
        raise InvalidInputError(
            f"detections must be a COCO results file, cannot read {path}: {exc.strerror}; check the path", path=path
        ) from exc
    except orjson.JSONDecodeError as exc:
        raise InvalidInputError(
            f"{path.name} must be a COCO results list in JSON, cannot parse it: {exc}; write it again", path=path
        ) from exc
    if isinstance(content, dict):
        kind = "ground truth" if "annotations" in content else "an object"
        raise InvalidInputError(
            f"{path.name} must be a COCO results list [{{image_id, category_id, bbox, score}}, ...], found {kind}; "
            "ground truth belongs to --gt",
            path=path,
        )
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise InvalidInputError(
            f"{path.name} must be a list of objects with image_id, category_id, bbox and score; write one for each box",
            path=path,
        )
    return content


def _columns(rows: Sequence[Mapping[str, Any]], path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return ids and scores as arrays after checking each row; the message names the first bad one."""
    for index, row in enumerate(rows):
        missing = [key for key in ("image_id", "category_id", "bbox", "score") if key not in row]
        box = row.get("bbox")
        numbers = [row.get("score"), *(box if isinstance(box, list) else [])]
        if missing or not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in numbers):
            found = f"lacks {', '.join(missing)}" if missing else f"has bbox {box} and score {row.get('score')}"
            raise InvalidInputError(
                f"{path.name}: each row must have image_id, category_id, bbox [x, y, width, height] and score, "
                f"row {index} {found}; correct that row",
                path=path,
            )
        if not all(isinstance(row[key], int) for key in ("image_id", "category_id")):
            raise InvalidInputError(
                f"{path.name}: image_id and category_id must be whole numbers, row {index} has "
                f"{row['image_id']!r} and {row['category_id']!r}; take the ids of the ground truth",
                path=path,
            )
    return {
        "image_id": np.asarray([row["image_id"] for row in rows], np.int64),
        "category_id": np.asarray([row["category_id"] for row in rows], np.int64),
        "score": np.asarray([row["score"] for row in rows], np.float32),
    }


def _is_number(value: object) -> bool:
    # JSON knows no NaN, and orjson refuses it: what is a number here is finite.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_images(image_ids: npt.NDArray[np.int64], truth: GroundTruth, path: Path) -> None:
    known = np.asarray([image.image_id for image in truth.images], np.int64)
    unknown = np.unique(image_ids[~np.isin(image_ids, known)])
    if len(unknown):
        raise InvalidInputError(
            f"{path.name}: image ids must be those of the ground truth ({len(known)} pictures, such as "
            f"{_some(known)}), {len(unknown)} are not, such as {_some(unknown)}; use the annotations of these "
            "pictures, or write the ids with stride32 detect --coco-gt",
            path=path,
        )


def _labels(category_ids: npt.NDArray[np.int64], truth: GroundTruth, path: Path) -> npt.NDArray[np.int64]:
    """Return the label of each row, -1 where its category is not measured."""
    labels = np.full(len(category_ids), -1, np.int64)
    for label, category_id in enumerate(truth.category_ids):
        labels[category_ids == category_id] = label
    unknown = np.unique(category_ids[labels < 0])
    if not len(unknown):
        return labels
    pairs = ", ".join(f"{key} {name}" for key, name in zip(truth.category_ids, truth.class_names, strict=True))
    # Labels that count from 0 would shift every class, so that is no row to leave out.
    if 0 in unknown or (labels < 0).all():
        raise InvalidInputError(
            f"{path.name}: category ids must be those of the ground truth ({pairs}), found {_some(unknown)}; "
            "write category ids, not labels from 0",
            path=path,
        )
    log.warning(
        "%s: %d of %d rows left out, their categories are not in the ground truth: %s",
        path.name,
        int((labels < 0).sum()),
        len(labels),
        _some(unknown),
    )
    return labels


def _check_boxes(boxes_xywh: npt.NDArray[np.float64], path: Path) -> None:
    if (boxes_xywh[:, 2:] < 0).any():
        row = int(np.flatnonzero((boxes_xywh[:, 2:] < 0).any(axis=1))[0])
        raise InvalidInputError(
            f"{path.name}: bbox must be [x, y, width, height] with sizes >= 0, row {row} has "
            f"{boxes_xywh[row].tolist()}; write width and height",
            path=path,
        )
    if boxes_xywh.max() <= _RELATIVE_LIMIT:
        raise InvalidInputError(
            f"{path.name}: bbox must be in pixels, but no number is above {boxes_xywh.max():.3g}: these are shares of "
            "the picture; multiply x and width by its width, y and height by its height",
            path=path,
        )


def _check_corners(
    found: Mapping[int, Detections], corners: Mapping[int, Detections], truth: GroundTruth, path: Path
) -> None:
    """Refuse boxes that hit almost nothing as x, y, width, height and much as two corners."""
    hits, hits_as_corners = _hits(found, truth), _hits(corners, truth)
    if hits_as_corners > 10 * max(hits, 1):
        raise InvalidInputError(
            f"{path.name}: bbox must be [x, y, width, height]; read so, {hits} boxes meet an object, read as two "
            f"corners {hits_as_corners} do; write width and height in place of the second corner",
            path=path,
        )


def _hits(found: Mapping[int, Detections], truth: GroundTruth) -> int:
    count = 0
    for image in truth.images:
        if image.image_id in found and len(image.boxes):
            count += int((pairwise_iou(found[image.image_id].boxes, image.boxes).max(axis=1) >= 0.5).sum())
    return count


def _by_image(
    image_ids: npt.NDArray[np.int64],
    boxes: npt.NDArray[Any],
    scores: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
) -> dict[int, Detections]:
    """Return Detections by image id; corners in the wrong order, which only a wrong reading has, make no box."""
    valid = (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    order = np.argsort(image_ids[valid], kind="stable")
    ids, starts = np.unique(image_ids[valid][order], return_index=True)
    parts = (
        np.split(column[valid][order], starts[1:]) if len(ids) else []
        for column in (boxes.astype(np.float32), scores, labels)
    )
    return {int(key): Detections(*row) for key, *row in zip(ids, *parts, strict=True)}


def _some(ids: npt.NDArray[np.int64]) -> str:
    listing = ", ".join(str(value) for value in ids[:_IDS_SHOWN].tolist())
    return f"{listing} ..." if len(ids) > _IDS_SHOWN else listing
