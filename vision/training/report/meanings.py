"""What each metric of a run means, in one line for its report."""

from __future__ import annotations

MEANINGS = {
    "ap": "COCO's AP: area below precision over recall, mean over IoU 0.50 to 0.95 and over classes",
    "ap50": "AP at IoU 0.5: a box counts when it overlaps an object by half",
    "ap75": "AP at IoU 0.75: only boxes that fit well count",
    "ap_small": "AP of objects below 32 x 32 pixels",
    "ap_medium": "AP of objects between 32 x 32 and 96 x 96 pixels",
    "ap_large": "AP of objects above 96 x 96 pixels",
    "ar1": "share of objects found with one detection a picture, mean over IoU 0.50 to 0.95",
    "ar10": "share of objects found with ten detections a picture",
    "ar100": "share of objects found with a hundred detections a picture",
    "f1": "harmonic mean of precision and recall at the best threshold (for detectors at IoU 0.5, mean over classes)",
    "f1_conf": "the score threshold with the best F1; the default of detection.conf for this model",
    "f1_cross": "F1 when the threshold is chosen on the other half of the pictures: close to f1 if it generalises",
    "rank1": "share of queries whose nearest crop of another camera shows the same person",
    "rank5": "share of queries with the person among the nearest five",
    "mAP": "mean average precision: over all correct answers to each query, or over all labels",
    "rank1_single": "rank-1 with one query for each person and camera, as Market-1501 is published",
    "mAP_single": "mAP with one query for each person and camera",
    "queries": "number of crops that were looked for",
    "distance_limit": "cosine distance below which 0.2 % of the pairs of different people in one camera lie",
    "accuracy": "share of pictures whose surest class is right",
    "top5": "share of pictures whose class is among the five surest",
    "macro_f1": "F1 of each class that occurs, averaged: rare classes count as much as frequent ones",
    "threshold": "probability from which a label is assigned",
    "mae": "mean absolute error, in the unit of the value",
    "rmse": "root of the mean squared error: large errors weigh more",
    "r2": "share of the spread of the values that is explained; 1 is perfect, 0 is always saying the mean",
    "pictures": "number of pictures measured",
    "mIoU": "overlap of found and true area of a class, over their union; mean over the classes that occur",
    "class_accuracy": "share of each class's pixels that are right, mean over the classes that occur",
    "border_f1": "how well borders are met, within 0.75 % of the picture's diagonal; mean over classes and pictures",
}
# Where the same word means something else.
OF_KIND = {("segmenter", "accuracy"): "share of all pixels whose class is right"}


def meaning(name: str, kind: str = "") -> str:
    """Return the meaning of a metric of a kind of model, empty for one that is not known.

    >>> meaning("f1/dog")
    'F1 of the class dog'
    """
    if (kind, name) in OF_KIND:
        return OF_KIND[kind, name]
    if name.startswith("f1/"):
        return f"F1 of the class {name.removeprefix('f1/')}"
    return MEANINGS.get(name, "")
