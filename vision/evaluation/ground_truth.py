"""What a detector is measured on: annotated pictures, the classes that it can know, and their ids in results files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vision.errors import InvalidInputError
from vision.evaluation.detection import DetectsFrames
from vision.io.listing import relative_name
from vision.training.datasets.detection import choose_classes, read_annotations, report_findings
from vision.training.datasets.pictures import AnnotatedImage
from vision.types import Detections, Frame

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """Pictures with their objects, in any format that training reads.

    Attributes:
        images: labels are indices into ``class_names``.
        class_names: the classes that are measured.
        category_ids: id of each in COCO results: the file's own, or 1, 2, ... for other formats.
    """

    images: tuple[AnnotatedImage, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]


def read_ground_truth(path: Path, known: Sequence[str] | None = None, *, pictures: Path | None = None) -> GroundTruth:
    """Return the validation part of a data set, or all of one without parts.

    Args:
        path: COCO file, VOC folder, YOLO data.yaml; see ``vision.training.datasets.detection``.
        known: classes that the detector knows; the others of the data are left out, with a note. None takes all.
        pictures: folder of the pictures, in place of the one beside the annotations.

    Raises:
        InvalidInputError: the data cannot be read, or has none of the known classes.
    """
    annotations = read_annotations(path, "val")
    report_findings(annotations.findings)
    names = annotations.class_names
    wanted = _common_classes(known, names, path) if known is not None else names
    images, class_names = choose_classes(annotations, wanted)
    if pictures is not None:
        root = path if path.is_dir() else path.parent
        images = [replace(image, path=pictures / relative_name(image.path, root)) for image in images]
    ids = annotations.category_ids or range(1, len(names) + 1)
    id_of = dict(zip(names, ids, strict=True))
    return GroundTruth(tuple(images), class_names, tuple(id_of[name] for name in class_names))


def _common_classes(known: Sequence[str], names: Sequence[str], path: Path) -> tuple[str, ...]:
    """Return the known classes that the data has, in the order of the detector."""
    common = tuple(name for name in known if name in names)
    if not common:
        raise InvalidInputError(
            f"{path.name} must have a class that the detector knows ({', '.join(known[:10])}), "
            f"has {', '.join(names[:10]) or 'none'}; rename the classes of the annotations, or take another model",
            path=path,
        )
    if unknown := [name for name in names if name not in known]:
        log.warning("not measured, because the detector does not know them: %s", ", ".join(unknown))
    if absent := len(known) - len(common):
        log.info("%d classes of the detector are not in %s and are left out", absent, path.name)
    return common


class RelabelledDetector:
    """A detector whose labels are those of the ground truth; detections of other classes are dropped.

    Args:
        detector: anything with ``detect``.
        own_names: its classes in label order.
        class_names: those of the ground truth, each among ``own_names``.
    """

    def __init__(self, detector: DetectsFrames, own_names: Sequence[str], class_names: Sequence[str]) -> None:
        self._detector = detector
        position = {name: index for index, name in enumerate(class_names)}
        self._new_labels = np.asarray([position.get(name, -1) for name in own_names], np.int64)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame in the labels of the ground truth."""
        return [self._relabel(detections) for detections in self._detector.detect(frames)]

    def _relabel(self, detections: Detections) -> Detections:
        labels = self._new_labels[detections.labels]
        kept = detections[labels >= 0]
        return Detections(kept.boxes, kept.scores, labels[labels >= 0], kept.embeddings)
