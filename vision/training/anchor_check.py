"""The look at the anchors before a detector's training: do they fit the objects at the scale of training?"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from vision.detection.anchor_fit import anchor_sizes, cluster_sizes, measure_anchors, suggest_anchors
from vision.detection.anchors import AnchorConfig
from vision.errors import MediaError
from vision.io.image_header import read_image_header
from vision.training.augment import MIN_SIDE
from vision.training.config import DetectorTrainingConfig
from vision.training.datasets.pictures import AnnotatedImage
from vision.types import FloatArray

log = logging.getLogger(__name__)

# Enough for the second digit of the figures, little enough for a second of time.
MAX_PICTURES = 500
MAX_SIZES = 4000
ZOOMS = 5  # of the random zoom's range, evenly on its logarithmic scale


def log_anchor_fit(config: DetectorTrainingConfig, anchors: AnchorConfig, images: Sequence[AnnotatedImage]) -> None:
    """Log how well the anchors fit, and the settings that fit better when they fit badly.

    Args:
        config: size and zoom of the training pictures.
        anchors: what the network will have.
        images: the training pictures; those without objects are left out.
    """
    sizes = training_sizes(config, images)
    if not len(sizes):
        return
    shapes = anchor_sizes(anchors)
    fit = measure_anchors(sizes, shapes)
    free = measure_anchors(sizes, cluster_sizes(sizes, len(shapes)))
    log.info(
        "anchors: %d a cell on %d levels; best possible recall at IoU 0.5 is %.3f, mean best IoU %.3f "
        "(k-means with %d free shapes: %.3f, %.3f)",
        *(len(anchors.shapes), len(anchors.strides), fit.recall, fit.mean_iou),
        *(len(shapes), free.recall, free.mean_iou),
    )
    better = suggest_anchors(sizes, anchors)
    if better is not None:
        gain = measure_anchors(sizes, anchor_sizes(better))
        ratios = ",".join(f"{ratio:g}" for ratio in better.ratios)
        log.info(
            "anchors that fit these objects better (recall %.3f, mean best IoU %.3f): "
            "--set 'anchor_ratios=[%s]' --set anchor_scale=%g",
            *(gain.recall, gain.mean_iou, ratios, better.scale),
        )


def training_sizes(config: DetectorTrainingConfig, images: Sequence[AnnotatedImage]) -> FloatArray:
    """Return width and height [N, 2] in pixels of the training input of objects at several zooms.

    The objects are those of at most 500 pictures, evenly taken, and at most 4000 sizes of them; a side is cut at the
    input's, as the crop cuts it.
    """
    marked = [image for image in images if len(image.labels)]
    marked = marked[:: -(-len(marked) // MAX_PICTURES)] if marked else []
    low, high = np.log(config.scale_range)
    zooms = np.exp(low + (high - low) * (np.arange(ZOOMS) + 0.5) / ZOOMS)
    sizes = [np.zeros((0, 2), np.float32)]
    for image in marked:
        try:
            longest = max(read_image_header(image.path).size_wh)
        except MediaError:
            continue  # the data check has named it
        scaled = (image.boxes[:, 2:] - image.boxes[:, :2]) * config.image_size / longest
        sizes.append(np.concatenate([np.minimum(scaled * zoom, config.image_size) for zoom in zooms]))
    joined = np.concatenate(sizes)
    kept = joined[(joined >= MIN_SIDE).all(axis=1)]
    return np.asarray(kept[:: max(1, -(-len(kept) // MAX_SIZES))], np.float32)
