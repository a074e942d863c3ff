"""The COCO results of a command: which category id each class gets, and which classes get none."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision.errors import ConfigError, closest_hint
from vision.io.writers.coco import CocoWriter, read_coco_index
from vision.io.writers.coco_masks import CocoMasksWriter
from vision.palette import NO_CLASS
from vision.segmentation.config import OTHER

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
    left_out = _without_category(names, known.category_ids if known else names) if run.segments else set()
    absent = [name for name in names if known and name not in known.category_ids and name not in left_out]
    if known and absent:
        raise ConfigError(
            f"--coco-gt must have a category for each class of the model, {coco_gt} lacks {absent[0]!r}"
            f"{closest_hint(absent[0], known.category_ids)}; pass the ground truth of these classes",
            path=coco_gt,
        )
    shared: dict[str, Any] = {
        "category_ids": [known.category_ids.get(name, 0) if known else 1 + at for at, name in enumerate(names)],
        "image_ids": known.image_ids if known else None,
        "relative_name": run.relative_name,
        "overwrite": overwrite,
    }
    if not run.segments:
        return CocoWriter(path, **shared)
    return CocoMasksWriter(path, left_out=[names.index(name) for name in left_out], **shared)


def _without_category(names: Sequence[str], known: Container[str]) -> set[str]:
    """Return the segmenter's classes that get no COCO mask: "other", and "background" where nobody gave it an id."""
    return {name for name in names if name == OTHER or (name in NO_CLASS and name not in known)}
