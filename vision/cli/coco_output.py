"""The COCO results of a command: which category id each class gets, and which classes get none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision.io.writers.coco import CocoWriter, read_coco_index
from vision.io.writers.coco_masks import CocoMasksWriter
from vision.segmentation.categories import category_ids

if TYPE_CHECKING:
    from vision.cli.outputs import RunFacts
    from vision.io.writers.base import Writer


def build_coco(path: Path, coco_gt: Path | None, run: RunFacts, *, overwrite: bool) -> Writer:
    """Return the COCO writer: ids from the ground truth's names, or COCO's own numbering from 1 without one.

    Raises:
        ConfigError: the ground truth lacks a class of the model.
    """
    names = run.class_names
    known = None if coco_gt is None else read_coco_index(coco_gt)
    ids = category_ids(names, known.category_ids if known else None, segments=run.segments, coco_gt=coco_gt)
    shared: dict[str, Any] = {
        "category_ids": [0 if number is None else number for number in ids],
        "image_ids": known.image_ids if known else None,
        "relative_name": run.relative_name,
        "overwrite": overwrite,
    }
    if not run.segments:
        return CocoWriter(path, **shared)
    return CocoMasksWriter(path, left_out=[label for label, number in enumerate(ids) if number is None], **shared)
