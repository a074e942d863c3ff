"""Which detections are right: each is given an object of its class that it overlaps enough, best score first.

Two rules are in use. COCO's (Lin 2014, section 4.1 of the evaluation page): a detection takes the object it overlaps
most among those still free. VOC's (Everingham 2010, section 4.2): it takes the object it overlaps most of all, and is
wrong when a surer one took that before. The AP family over many overlaps is counted by faster-coco-eval; this file
serves curves, thresholds, confusion and pictures of errors, for which the library gives no answer for each detection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vision.geometry.boxes import box_area
from vision.geometry.iou import pairwise_intersection, pairwise_iou
from vision.training.datasets.pictures import AnnotatedImage
from vision.types import Detections, FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]
ScoreArray = npt.NDArray[np.float64]
Rule = Literal["coco", "voc"]

IOU = 0.5
# COCO's limit for each picture and class.
MAX_DETECTIONS = 100
UNMATCHED = -1


@dataclass(frozen=True, slots=True, eq=False)
class ClassMatches:
    """The D counted detections of one class over all pictures, by falling score; ignored ones are left out.

    Attributes:
        label: the class.
        scores: float64 [D].
        correct: bool [D].
        images: int64 [D], position of the picture in the list that was matched.
        rows: int64 [D], row among that picture's detections.
        objects: int64 [D], row of the matched object among that picture's objects, -1 for a wrong detection.
        objects_per_image: int64 [I], objects of this class that count.
    """

    label: int
    scores: ScoreArray
    correct: BoolArray
    images: IntArray
    rows: IntArray
    objects: IntArray
    objects_per_image: IntArray

    @property
    def object_count(self) -> int:
        """Number of objects of this class that count."""
        return int(self.objects_per_image.sum())

    def of_images(self, chosen: BoolArray) -> ClassMatches:
        """Return the matches of the pictures where ``chosen`` [I] is true; positions stay as they are."""
        kept = chosen[self.images]
        return ClassMatches(
            self.label,
            self.scores[kept],
            self.correct[kept],
            self.images[kept],
            self.rows[kept],
            self.objects[kept],
            np.where(chosen, self.objects_per_image, 0),
        )


def match_detections(
    images: Sequence[AnnotatedImage],
    found: Mapping[int, Detections],
    num_classes: int,
    *,
    iou: float = IOU,
    rule: Rule = "coco",
) -> list[ClassMatches]:
    """Return the matches of each class, in label order.

    Detections that lie in a crowd region of their class and match no object are neither right nor wrong and are left
    out; so are, by VOC's rule, those that match a difficult object. Only VOC's rule knows difficult objects: to COCO's
    they are objects like others.

    Args:
        images: pictures with their objects.
        found: detections by image id; pictures without an entry have none.
        num_classes: labels at or above it are left out.
        iou: smallest overlap of a match, in (0, 1].
        rule: see the head of this file.
    """
    tables: list[list[npt.NDArray[np.float64]]] = [[] for _ in range(num_classes)]
    counts = np.zeros((num_classes, len(images)), np.int64)
    for position, image in enumerate(images):
        detections = found.get(image.image_id, Detections.empty())
        for label in np.union1d(image.labels, detections.labels).tolist():
            if not label < num_classes:
                continue
            counted = (image.labels == label) & ~_difficult(image, rule)
            counts[label, position] = counted.sum()
            rows, objects = _match_one(image, detections, label, iou, rule)
            if len(rows):
                scores = detections.scores[rows].astype(np.float64)
                tables[label].append(np.stack([scores, np.full(len(rows), position), rows, objects]))
    return [_by_score(label, tables[label], counts[label]) for label in range(num_classes)]


def _by_score(label: int, tables: list[npt.NDArray[np.float64]], counts: IntArray) -> ClassMatches:
    table = np.concatenate(tables, axis=1) if tables else np.zeros((4, 0))
    table = table[:, np.argsort(-table[0], kind="stable")]
    images, rows, objects = table[1:].astype(np.int64)
    return ClassMatches(label, table[0], objects >= 0, images, rows, objects, counts)


def _match_one(
    image: AnnotatedImage, detections: Detections, label: int, iou: float, rule: Rule
) -> tuple[IntArray, IntArray]:
    """Return the rows of the counted detections of one class in one picture and the object of each, -1 for none."""
    rows = np.flatnonzero(detections.labels == label)
    rows = rows[np.argsort(-detections.scores[rows], kind="stable")][:MAX_DETECTIONS]
    objects = np.flatnonzero(image.labels == label)
    overlap = pairwise_iou(detections.boxes[rows], image.boxes[objects])
    matched = _greedy(overlap, iou, rule)
    object_rows = np.full(len(rows), UNMATCHED, np.int64)
    object_rows[matched >= 0] = objects[matched[matched >= 0]]
    ignored = (object_rows < 0) & in_crowd(image, detections.boxes[rows], label, iou)
    if rule == "voc" and len(objects):
        # Also a second detection of a difficult object is left out, as in the development kit.
        best = overlap.argmax(axis=1)
        ignored |= _difficult(image, rule)[objects[best]] & (overlap.max(axis=1) >= iou)
    return rows[~ignored], object_rows[~ignored]


def _greedy(overlap: FloatArray | ScoreArray, iou: float, rule: Rule) -> IntArray:
    """Return for each detection (row of ``overlap`` [D, G], best score first) the column of its object, or -1."""
    matched = np.full(len(overlap), UNMATCHED, np.int64)
    if not overlap.size:
        return matched
    free = np.ones(overlap.shape[1], np.bool_)
    for row in np.flatnonzero(overlap.max(axis=1) >= iou):
        candidates = overlap[row] if rule == "voc" else np.where(free, overlap[row], -1)
        best = int(candidates.argmax())
        if candidates[best] >= iou and free[best]:
            matched[row], free[best] = best, False
    return matched


def in_crowd(image: AnnotatedImage, boxes: FloatArray, label: int, iou: float = IOU) -> BoolArray:
    """Return bool [N]: which xyxy boxes [N, 4] have this share of their area in one crowd region of the class."""
    if image.crowd_boxes is None or image.crowd_labels is None or not len(boxes):
        return np.zeros(len(boxes), np.bool_)
    regions = image.crowd_boxes[image.crowd_labels == label]
    if not len(regions):
        return np.zeros(len(boxes), np.bool_)
    # The region is larger than any one object of it, so the share of the detection counts and not the union.
    area = np.maximum(box_area(boxes.astype(np.float64)), 1e-9)
    share = pairwise_intersection(boxes.astype(np.float64), regions.astype(np.float64)) / area[:, None]
    return np.asarray(share.max(axis=1) >= iou)


def _difficult(image: AnnotatedImage, rule: Rule) -> BoolArray:
    if rule == "coco" or image.difficult is None:
        return np.zeros(len(image.labels), np.bool_)
    return image.difficult
