"""A finished job as a COCO results list: boxes or masks with the ids that COCO's tools compare them by."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from vision.batch.coco_runs import bound_runs
from vision.batch.export_file import building, check_format
from vision.batch.job import stored_manifest
from vision.batch.job_record import read_record
from vision.batch.output import Output
from vision.batch.rows import Row, read_rows
from vision.batch.shard_summary import read_summary, shard_index, shard_names
from vision.errors import InvalidInputError
from vision.geometry.rle import compress_counts
from vision.io.writers.base import rounded_xywh
from vision.io.writers.coco import find_image_id, read_coco_index
from vision.segmentation.categories import category_ids

if TYPE_CHECKING:
    from vision.batch.manifest import Manifest

COCO_FILE = "results.coco.json"
_MAX_ID = 2**63 - 1


def write_coco(output: Output, coco_gt: Path | None = None) -> int:
    """Write ``results.coco.json`` and return how many results it has.

    Args:
        output: of the job.
        coco_gt: COCO annotations that give the ids; without them an image's id is the last number in its name, and a
            category's id its label + 1.

    Raises:
        ConfigError: the task has no COCO form, or the annotations lack a class of the model.
        InvalidInputError: a picture has no id, or two have the same; a shard is damaged; the output takes no more.
    """
    record, names = read_record(output), shard_names(output)
    check_format(record.task, "coco")
    known = None if coco_gt is None else read_coco_index(coco_gt)
    class_names = read_summary(output, names[0]).header.class_names if names else ()
    is_mask = record.task == "segment"
    numbers = category_ids(class_names, known.category_ids if known else None, segments=is_mask, coco_gt=coco_gt)
    categories = dict(enumerate(numbers))
    # All of them before anything is written: whoever has to give ids should not wait for the rest.
    image_ids = iter(_image_ids(output, names, known.image_ids if known else None))
    results_of = _mask_results if is_mask else _box_results
    count = 0
    with building(output, COCO_FILE) as file:
        file.write(b"[")
        for name in names:
            for row in read_rows(output, name):
                image_id = next(image_ids)
                for label, result in results_of(row):
                    category_id = categories.get(label, label + 1)
                    if category_id is None:
                        continue
                    ids = {"image_id": image_id, "category_id": category_id}
                    file.write((b",\n" if count else b"\n") + orjson.dumps(ids | result))
                    count += 1
        file.write(b"\n]\n" if count else b"]\n")
    return count


def _image_ids(output: Output, names: Sequence[str], known: Mapping[str, int] | None) -> array[int]:
    """Return the image id of each row; raises InvalidInputError when two rows have the same."""
    ids = array("q")
    for picture in _pictures(output, names):
        image_id = find_image_id(picture, known)
        if image_id > _MAX_ID:
            raise InvalidInputError(
                f"a COCO image id must be below 2**63, {picture} has {image_id}; give the ids with --coco-gt"
            )
        ids.append(image_id)
    in_order = np.sort(np.frombuffer(ids, np.int64)) if ids else np.zeros(0, np.int64)
    shared = in_order[1:][in_order[1:] == in_order[:-1]]
    if shared.size:
        owners = (picture for picture in _pictures(output, names) if find_image_id(picture, known) == shared[0])
        raise InvalidInputError(
            f"each image needs its own COCO image id, {next(owners)} and {next(owners)} both get {shared[0]}; give the "
            "ids with --coco-gt"
        )
    return ids


def _pictures(output: Output, names: Sequence[str]) -> Iterator[str]:
    """Yield for each row the path of its picture, or what the frame of a video would be called as a picture."""
    with stored_manifest(output) as manifest:
        for name in names:
            videos = _videos(manifest, shard_index(name) or 0)
            for row in read_rows(output, name, ("item", "path", "frame_index")):
                path: str = row["path"]
                yield f"{path}/{row['frame_index'] + 1:06d}.jpg" if row["item"] in videos else path


def _videos(manifest: Manifest, index: int) -> set[int]:
    return {item.index for item in manifest.shard(index).items if item.kind == "video"}


def _box_results(row: Row) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each label with its box and score."""
    boxes_xywh, scores = rounded_xywh(row["boxes"]), row["scores"].tolist()
    for label, bbox, score in zip(row["labels"].tolist(), boxes_xywh, scores, strict=True):
        yield label, {"bbox": bbox, "score": round(score, 5)}


def _mask_results(row: Row) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each label with its mask; the score is 1, for rows have none of a mask."""
    size = [row["height"], row["width"]]
    for label, area, counts in zip(
        row["mask_labels"].tolist(), row["mask_areas"].tolist(), row["mask_counts"], strict=True
    ):
        yield (
            label,
            {
                "segmentation": {"size": size, "counts": compress_counts(counts)},
                "area": area,
                "bbox": bound_runs(counts, row["height"]),
                "score": 1.0,
            },
        )
