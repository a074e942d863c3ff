"""COCO category ids of classes: those of annotations, or COCO's own numbering, and which classes have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vision.errors import ConfigError, closest_hint
from vision.palette import NO_CLASS
from vision.segmentation.config import OTHER


def category_ids(
    class_names: Sequence[str], known: Mapping[str, int] | None, *, segments: bool, coco_gt: Path | None
) -> list[int | None]:
    """Return the category id of each label; None for a segmenter's classes that get no mask.

    These are "other", and "background" where nobody gave it an id.

    Args:
        class_names: the name of each label.
        known: name -> id of the annotations; None numbers from 1.
        segments: whether the classes are a segmenter's.
        coco_gt: the annotations' file, for the error.

    Raises:
        ConfigError: the annotations lack a class of the model.
    """
    ids: list[int | None] = []
    for label, name in enumerate(class_names):
        if segments and (name == OTHER or (name in NO_CLASS and name not in (class_names if known is None else known))):
            ids.append(None)
        elif known is None:
            ids.append(label + 1)
        elif name in known:
            ids.append(known[name])
        else:
            raise ConfigError(
                f"--coco-gt must have a category for each class of the model, {coco_gt} lacks {name!r}"
                f"{closest_hint(name, known)}; pass the ground truth of these classes",
                path=coco_gt,
            )
    return ids
