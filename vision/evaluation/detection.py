"""COCO metrics of a detector: AP, AP50, AP75, by object size, and recall. faster-coco-eval does the counting.

The protocol is COCO's (Lin et al. 2014): 101 recall points, IoU 0.50:0.05:0.95, at most 100 detections an image.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vision.errors import MissingDependencyError
from vision.geometry.boxes import xyxy_to_xywh
from vision.training.datasets.coco import AnnotatedImage, load_rgb
from vision.types import Detections, Frame

METRIC_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")


class DetectsFrames(Protocol):
    """What evaluation needs of a detector."""

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame, low scores included."""
        ...


def evaluate_detector(
    detector: DetectsFrames, images: Iterable[AnnotatedImage], class_names: Sequence[str]
) -> dict[str, float]:
    """Return COCO metrics in [0, 1] of a detector on annotated pictures; its score threshold should be near 0.

    Keys: ap (mean over IoU 0.50:0.95), ap50, ap75, ap_small, ap_medium, ap_large (-1 without such objects), ar1, ar10,
    ar100, and f1 with its f1_conf: the score threshold at which F1 at IoU 0.5 is largest.
    """
    images = list(images)
    found = {
        image.image_id: detector.detect([Frame(load_rgb(image.path), source=str(image.path))])[0] for image in images
    }
    return coco_metrics(images, found, class_names)


def coco_metrics(
    images: Sequence[AnnotatedImage], found: Mapping[int, Detections], class_names: Sequence[str]
) -> dict[str, float]:
    """Return COCO metrics of detections by image id against annotations; see ``evaluate_detector``."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as exc:
        raise MissingDependencyError("faster-coco-eval", extra="eval", purpose="evaluating a detector") from exc
    results = [row for image_id, detections in found.items() for row in _result_rows(image_id, detections)]
    if not results:
        return {**dict.fromkeys(METRIC_NAMES, 0.0), "f1": 0.0, "f1_conf": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # the library prints its progress
        truth = COCO(_ground_truth(images, class_names))
        evaluation = COCOeval_faster(truth, truth.loadRes(results), "bbox", print_function=lambda *_: None)
        evaluation.run()
    metrics = dict(zip(METRIC_NAMES, (float(value) for value in evaluation.stats), strict=False))
    return {**metrics, **_best_f1(evaluation)}


def _best_f1(evaluation: Any) -> dict[str, float]:
    """Return the largest F1 at IoU 0.5 over all score thresholds, with its threshold.

    Both are means over the classes that have objects.
    """
    precision = np.asarray(evaluation.eval["precision"])[0, :, :, 0, -1]  # [R, K]
    scores = np.asarray(evaluation.eval["scores"])[0, :, :, 0, -1]
    present = (precision >= 0).all(axis=0)  # the library writes -1 for a class without objects
    if not present.any():
        return {"f1": 0.0, "f1_conf": 0.0}
    precision, scores = precision[:, present], scores[:, present]
    recall = np.linspace(0, 1, len(precision))[:, None]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best = f1.argmax(axis=0)
    columns = np.arange(f1.shape[1])
    return {"f1": float(f1[best, columns].mean()), "f1_conf": float(scores[best, columns].mean())}


def _ground_truth(images: Sequence[AnnotatedImage], class_names: Sequence[str]) -> dict[str, Any]:
    """Return a COCO document of the pictures that were evaluated."""
    annotations: list[dict[str, Any]] = []
    for image in images:
        for box, label in zip(xyxy_to_xywh(image.boxes).tolist(), image.labels.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.image_id,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
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
