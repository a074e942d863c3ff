"""How good a detector is on annotated pictures: COCO's AP family, and each class with its curve and threshold.

faster-coco-eval counts the AP family by COCO's protocol (Lin et al. 2014): 101 recall points, IoU 0.50:0.05:0.95, at
most 100 detections a picture. Crowd regions are ignored as COCO does, and sizes go by the area that the annotations
state (the box's where they state none). F1 and its threshold are defined in curves.py, VOC's AP in voc.py.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vision.errors import MissingDependencyError
from vision.evaluation.curves import Threshold, ThresholdCheck, best_threshold, check_threshold, counts_at, f1_at
from vision.evaluation.matching import ClassMatches, ScoreArray, match_detections
from vision.geometry.boxes import xyxy_to_xywh
from vision.training.datasets.pictures import AnnotatedImage, load_rgb
from vision.types import Detections, Frame

METRIC_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")
# Of a class, or a size of objects, that does not occur: COCO's own mark.
ABSENT = -1.0


class DetectsFrames(Protocol):
    """What evaluation needs of a detector."""

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame, low scores included."""
        ...


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class: AP in [0, 1] (-1 without objects), and what a threshold gives at IoU 0.5.

    Attributes:
        name: of the class. objects: that count.
        ap, ap50, ap75: COCO's.
        precision, recall, f1: at the common threshold of all classes.
        own: the threshold that is best for this class alone.
    """

    name: str
    objects: int
    ap: float
    ap50: float
    ap75: float
    precision: float
    recall: float
    f1: float
    own: Threshold


@dataclass(frozen=True, slots=True, eq=False)
class DetectionScores:
    """All that is known of a detector's results on a set of pictures.

    Attributes:
        metrics: see ``evaluate_detector``.
        classes: in label order.
        conf: the threshold of precision, recall and F1 in ``classes``.
        matches: of each class at IoU 0.5, from which curves are drawn.
        check: whether the threshold serves other pictures; None with objects in one half only.
    """

    metrics: Mapping[str, float]
    classes: tuple[ClassScores, ...]
    conf: float
    matches: tuple[ClassMatches, ...]
    check: ThresholdCheck | None


def evaluate_detector(
    detector: DetectsFrames, images: Iterable[AnnotatedImage], class_names: Sequence[str]
) -> dict[str, float]:
    """Return COCO metrics in [0, 1] of a detector on annotated pictures; its score threshold should be near 0.

    Keys: ap (mean over IoU 0.50:0.95), ap50, ap75, ap_small, ap_medium, ap_large (-1 without such objects), ar1, ar10,
    ar100, and at IoU 0.5: f1 with its f1_conf, the score threshold at which the mean F1 of the classes is largest, and
    f1_cross, the F1 of thresholds chosen on the other half of the pictures (-1 where a half has no objects).
    """
    images = list(images)
    return coco_metrics(images, detect_images(detector, images), class_names)


def detect_images(
    detector: DetectsFrames, images: Iterable[AnnotatedImage], on_image: Callable[[], None] = lambda: None
) -> dict[int, Detections]:
    """Return the detections of each picture by image id; ``on_image`` is called after each, for progress."""
    found = {}
    for image in images:
        found[image.image_id] = detector.detect([Frame(load_rgb(image.path), source=str(image.path))])[0]
        on_image()
    return found


def coco_metrics(
    images: Sequence[AnnotatedImage], found: Mapping[int, Detections], class_names: Sequence[str]
) -> dict[str, float]:
    """Return COCO metrics of detections by image id against annotations; see ``evaluate_detector``."""
    return dict(score_detections(images, found, class_names).metrics)


def score_detections(
    images: Sequence[AnnotatedImage],
    found: Mapping[int, Detections],
    class_names: Sequence[str],
    *,
    conf: float | None = None,
) -> DetectionScores:
    """Return metrics and the scores of each class.

    Args:
        images: pictures with their objects.
        found: detections by image id.
        class_names: in label order.
        conf: threshold of precision, recall and F1 of the classes; None takes the best one.
    """
    ap, ap_by_class = _coco_ap(images, found, class_names)
    matches = tuple(match_detections(images, found, len(class_names)))
    best, check = best_threshold(matches), check_threshold(matches)
    f1 = {"f1": best.f1, "f1_conf": best.conf, "f1_cross": check.cross_f1 if check else ABSENT}
    conf = best.conf if conf is None else conf
    classes = [
        _class_scores(name, item, row, conf) for name, item, row in zip(class_names, matches, ap_by_class, strict=True)
    ]
    return DetectionScores({**ap, **f1}, tuple(classes), conf, matches, check)


def _coco_ap(
    images: Sequence[AnnotatedImage], found: Mapping[int, Detections], class_names: Sequence[str]
) -> tuple[dict[str, float], ScoreArray]:
    """Return COCO's twelve-number summary (without ours) and float64 [K, 3]: AP, AP50 and AP75 of each class."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as exc:
        raise MissingDependencyError("faster-coco-eval", extra="eval", purpose="evaluating a detector") from exc
    found = {image.image_id: found[image.image_id] for image in images if image.image_id in found}
    results = [row for image_id, detections in found.items() for row in _result_rows(image_id, detections)]
    if not results:
        present = [any((image.labels == label).any() for image in images) for label in range(len(class_names))]
        return dict.fromkeys(METRIC_NAMES, 0.0), np.where(np.array(present, bool)[:, None], 0.0, [[ABSENT] * 3])
    with contextlib.redirect_stdout(io.StringIO()):  # the library prints its progress
        truth = COCO(_ground_truth(images, class_names))
        evaluation = COCOeval_faster(truth, truth.loadRes(results), "bbox", print_function=lambda *_: None)
        evaluation.run()
    metrics = dict(zip(METRIC_NAMES, (float(value) for value in evaluation.stats), strict=False))
    # [T, R, K, areas, limits]: all sizes, 100 detections; a class without objects has -1 everywhere.
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1].mean(axis=1)  # [T, K]
    return metrics, np.stack([precision.mean(axis=0), precision[0], precision[5]], axis=1)


def _class_scores(name: str, matches: ClassMatches, ap: ScoreArray, conf: float) -> ClassScores:
    thresholds = np.array([conf])
    kept, right = (float(value[0]) for value in counts_at(matches, thresholds))
    return ClassScores(
        name=name,
        objects=matches.object_count,
        ap=float(ap[0]),
        ap50=float(ap[1]),
        ap75=float(ap[2]),
        precision=right / kept if kept else 0.0,
        recall=right / max(matches.object_count, 1),
        f1=float(f1_at(matches, thresholds)[0]),
        own=best_threshold([matches]),
    )


def _ground_truth(images: Sequence[AnnotatedImage], class_names: Sequence[str]) -> dict[str, Any]:
    """Return a COCO document of the pictures that were evaluated."""
    annotations: list[dict[str, Any]] = []
    for image in images:
        boxes = xyxy_to_xywh(image.boxes.astype(np.float64))
        areas = boxes[:, 2] * boxes[:, 3]
        if image.areas is not None:
            areas = np.where(np.isnan(image.areas), areas, image.areas)
        rows = [(box, label, area, 0) for box, label, area in zip(boxes, image.labels, areas, strict=True)]
        if image.crowd_boxes is not None and image.crowd_labels is not None:
            regions = xyxy_to_xywh(image.crowd_boxes.astype(np.float64))
            rows += [(box, label, box[2] * box[3], 1) for box, label in zip(regions, image.crowd_labels, strict=True)]
        for box, label, area, crowd in rows:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.image_id,
                    "category_id": int(label),
                    "bbox": box.tolist(),
                    "area": float(area),
                    "iscrowd": crowd,
                }
            )
    return {
        "info": {},
        "images": [{"id": image.image_id, "file_name": image.path.name} for image in images],
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for index, name in enumerate(class_names)],
    }


def _result_rows(image_id: int, detections: Detections) -> list[dict[str, Any]]:
    """Return COCO result rows of one image."""
    columns = zip(
        xyxy_to_xywh(detections.boxes).tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
    )
    return [{"image_id": image_id, "category_id": label, "bbox": box, "score": score} for box, score, label in columns]
