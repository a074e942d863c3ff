"""Pictures that show a detector at work: detections beside the ground truth, and the errors that cost most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vision.evaluation.matching import IOU, ClassMatches
from vision.geometry.iou import pairwise_iou
from vision.render import Annotator, contact_sheet, draw_objects
from vision.training.datasets.pictures import AnnotatedImage, load_rgb
from vision.types import Detections, FloatArray, Frame, FrameResult, ImageArray

TILE_WIDTH = 420
ERROR_TILE = 240
BORDER_RGB = (24, 26, 30)
# A crop shows the box and as much again around it, and never less than this share of the picture's shorter side.
CONTEXT = 0.75
SMALLEST_CROP = 0.2
# Overlap from which a false box is a loose one around an object, and not on background (Bolya 2020, TIDE, section 2.2).
LOOSE_IOU = 0.1


@dataclass(frozen=True, slots=True)
class DetectionError:
    """A false detection or a missed object.

    Attributes:
        image: the picture. box: xyxy pixels of the detection or the object.
        label: of the detection or the object.
        score: of the detection; None for a missed object.
        kind: "loose box", "duplicate", "wrong class" or "background"; "missed" for an object.
    """

    image: AnnotatedImage
    box: tuple[float, float, float, float]
    label: int
    score: float | None
    kind: str


def sample_sheet(
    images: Sequence[AnnotatedImage],
    found: Mapping[int, Detections],
    class_names: Sequence[str],
    *,
    conf: float,
    count: int = 6,
) -> ImageArray | None:
    """Return pictures in pairs, ground truth left and detections right, or None without a picture to show.

    Pictures are taken evenly from those with objects, so that the same data gives the same sheet.

    Args:
        images: pictures with their objects.
        found: detections by image id.
        class_names: in label order.
        conf: lowest score drawn.
        count: most pictures.
    """
    shown = [image for image in images if len(image.labels)] or list(images)
    chosen = [shown[index] for index in np.unique(np.linspace(0, len(shown) - 1, min(count, len(shown))).astype(int))]
    annotator = Annotator(class_names, trace_length=0)
    tiles: list[ImageArray] = []
    captions: list[str] = []
    for image in chosen:
        detections = found.get(image.image_id, Detections.empty())
        detections = detections[detections.scores >= conf]
        frame = Frame(load_rgb(image.path), source=str(image.path))
        tiles.append(draw_objects(frame.image, image.boxes, image.labels, class_names))
        tiles.append(annotator.draw(frame, _result(detections)))
        captions += [
            f"{image.path.name}: {len(image.labels)} annotated",
            f"{len(detections)} detected, score >= {conf:.2f}",
        ]
    return contact_sheet(tiles, columns=2, tile_width=TILE_WIDTH, captions=captions) if tiles else None


def false_detections(
    images: Sequence[AnnotatedImage], found: Mapping[int, Detections], matches: Sequence[ClassMatches], *, conf: float
) -> list[DetectionError]:
    """Return the false detections with at least this score, the surest first, with what is wrong about each."""
    errors = []
    for item in matches:
        wrong = ~item.correct & (item.scores >= conf)
        for position, row, score in zip(item.images[wrong], item.rows[wrong], item.scores[wrong], strict=True):
            image = images[position]
            box = found[image.image_id].boxes[row]
            taken = item.objects[(item.images == position) & (item.scores >= score)]
            kind = _kind(image, box, item.label, set(taken.tolist()))
            errors.append(DetectionError(image, tuple(box.tolist()), item.label, float(score), kind))
    return sorted(errors, key=lambda error: -(error.score or 0))


def missed_objects(
    images: Sequence[AnnotatedImage], matches: Sequence[ClassMatches], *, conf: float
) -> list[DetectionError]:
    """Return the objects that no detection with at least this score matched, the largest first."""
    errors = []
    for item in matches:
        right = item.correct & (item.scores >= conf)
        hit = set(zip(item.images[right].tolist(), item.objects[right].tolist(), strict=True))
        for position in np.flatnonzero(item.objects_per_image).tolist():
            image = images[position]
            errors += [
                DetectionError(image, tuple(image.boxes[row].tolist()), item.label, None, "missed")
                for row in np.flatnonzero(image.labels == item.label).tolist()
                if (position, row) not in hit
            ]
    return sorted(errors, key=lambda error: -_area(error.box))


def error_sheet(
    errors: Sequence[DetectionError], class_names: Sequence[str], *, count: int = 12, columns: int = 4
) -> ImageArray | None:
    """Return crops around the first errors, at most one for each picture as long as there are others; None for none."""
    annotator = Annotator(class_names, trace_length=0)
    tiles, captions = [], []
    for error in _spread(errors, count):
        tile, box = _crop(load_rgb(error.image.path), np.asarray(error.box, np.float32))
        label = np.array([error.label])
        if error.score is None:
            tiles.append(draw_objects(tile, box[None], label, class_names))
        else:
            detection = Detections(box[None], np.array([error.score], np.float32), label)
            tiles.append(annotator.draw(Frame(tile), _result(detection)))
        captions.append(f"{error.kind}: {error.image.path.name}")
    return contact_sheet(tiles, columns=columns, tile_width=ERROR_TILE, captions=captions) if tiles else None


def _kind(image: AnnotatedImage, box: FloatArray, label: int, taken: set[int]) -> str:
    if not len(image.labels):
        return "background"
    overlap = pairwise_iou(box[None], image.boxes)[0]
    same = image.labels == label
    nearest = int(np.where(same, overlap, -1).argmax())
    if same.any() and overlap[nearest] >= IOU and nearest in taken:
        return "duplicate"
    if (overlap[~same] >= IOU).any():
        return "wrong class"
    if same.any() and overlap[nearest] >= LOOSE_IOU:
        return "loose box"
    return "background"


def _crop(picture: ImageArray, box: FloatArray) -> tuple[ImageArray, FloatArray]:
    """Return a tile of the box's surroundings, and the box in its pixels."""
    tile, moved = crop_around(picture, box, box[None])
    return tile, moved[0]


def crop_around(picture: ImageArray, box: FloatArray, boxes: FloatArray) -> tuple[ImageArray, FloatArray]:
    """Return a square tile with the surroundings of ``box`` [4], as far as the picture goes, and ``boxes`` [N, 4] in
    its pixels, cut off at its border.

    The tile has its final size before anything is drawn: lines and letters are then alike on all tiles.
    """
    height, width = picture.shape[:2]
    side = max(float(max(box[2] - box[0], box[3] - box[1])) * (1 + CONTEXT), SMALLEST_CROP * min(height, width))
    side = min(side, float(max(height, width)))
    left = float(np.clip((box[0] + box[2] - side) / 2, min(0, width - side), max(width - side, 0)))
    top = float(np.clip((box[1] + box[3] - side) / 2, min(0, height - side), max(height - side, 0)))
    if side > width:
        left = (width - side) / 2
    if side > height:
        top = (height - side) / 2
    scale = ERROR_TILE / side
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile = cv2.warpAffine(picture, matrix, (ERROR_TILE, ERROR_TILE), flags=method, borderValue=BORDER_RGB)
    moved = (boxes - np.array([left, top, left, top])) * scale
    return np.asarray(tile, np.uint8), moved.clip(0, ERROR_TILE).astype(np.float32)


def _spread(errors: Sequence[DetectionError], count: int) -> list[DetectionError]:
    """Return ``count`` errors in their order: of each picture one, then seconds where pictures run out."""
    firsts: dict[int, DetectionError] = {}
    rest = []
    for error in errors:
        if error.image.image_id in firsts:
            rest.append(error)
        else:
            firsts[error.image.image_id] = error
    return [*firsts.values(), *rest][:count]


def _result(detections: Detections) -> FrameResult:
    return FrameResult(frame_index=0, detections=detections)


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
