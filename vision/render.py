"""Results drawn onto pictures: boxes, labels and traces, above a segmentation, for annotated outputs and the demo.

supervision draws; this file gives it our types and colours. It is imported on the first drawing, because that takes a
second that commands without pictures need not pay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from vision.errors import InvalidInputError
from vision.io.supervision import to_supervision
from vision.palette import PALETTE_RGB
from vision.render_segmentation import blend_segmentation, classes_shown, write_legend
from vision.types import (
    Classification,
    Detections,
    FloatArray,
    Frame,
    FrameResult,
    ImageArray,
    IntArray,
    SegmentationMap,
    Tracks,
    TrackState,
)

_BACKGROUND_RGB = (24, 26, 30)
_TEXT_RGB = (235, 235, 235)
_FAINT_RGB = (150, 150, 150)
_CAPTION_FONT = cv2.FONT_HERSHEY_SIMPLEX


class Annotator:
    """Draws results onto copies of frames; one per stream, since it remembers the paths of tracks.

    Args:
        class_names: name of each label; labels beyond it are shown as numbers.
        trace_length: frames of each track's path that are drawn, 0 for none.
        mask_opacity: strength of the segmentation's colours, 0 to 1.
        legend: name the classes of a segmentation along the lower edge. Within a video a class that was met stays in
            the legend, which would flicker otherwise.
        overlay: draws more onto each picture [H, W, 3], in place and above all else; such as CounterOverlay.
    """

    def __init__(
        self,
        class_names: Sequence[str] = (),
        *,
        trace_length: int = 40,
        mask_opacity: float = 0.5,
        legend: bool = True,
        overlay: Callable[[ImageArray], None] | None = None,
    ) -> None:
        self._class_names = tuple(class_names)
        self._overlay = overlay
        self._trace_length = trace_length
        self._mask_opacity = mask_opacity
        self._legend = legend
        self._met: dict[str, None] = {}  # names of classes in the order in which they were met
        self._pens: _Pens | None = None
        self._pens_size_hw: tuple[int, int] | None = None

    def draw(self, frame: Frame, result: FrameResult) -> ImageArray:
        """Return a uint8 [H, W, 3] RGB copy of the frame with the result drawn onto it.

        With a tracker its tracks are drawn (confirmed and matched in this frame, coloured by id), otherwise detections
        (coloured by class); both lie above the segmentation. A classification stands as lines in the top left corner.
        """
        picture: ImageArray = frame.image.copy()
        if result.segmentation is not None:
            picture = blend_segmentation(picture, result.segmentation, opacity=self._mask_opacity)
        if result.tracks is not None:
            shown = (result.tracks.states == TrackState.CONFIRMED) & (result.tracks.time_since_update == 0)
            self._draw_tracks(picture, result.tracks[shown])
        elif result.detections is not None and len(result.detections):
            self._draw_detections(picture, result.detections)
        if result.segmentation is not None and self._legend:
            self._write_legend(picture, frame, result.segmentation)
        if result.classification is not None:
            write_classification(picture, result.classification)
        if self._overlay is not None:
            self._overlay(picture)
        return picture

    def _write_legend(self, picture: ImageArray, frame: Frame, segmentation: SegmentationMap) -> None:
        names = classes_shown(segmentation)
        if frame.timestamp_s is not None:
            self._met |= dict.fromkeys(names)
            names = list(self._met)
        write_legend(picture, names, segmentation.class_names)

    def _draw_tracks(self, picture: ImageArray, tracks: Tracks) -> None:
        pens = self._pens_for(picture)
        labels = [
            f"#{track_id} {self._name(label)}"
            for track_id, label in zip(tracks.ids.tolist(), tracks.labels.tolist(), strict=True)
        ]
        values = to_supervision(tracks)
        if pens.trace is not None:
            # Called without tracks too: its memory of old paths ages by one frame a call.
            pens.trace.annotate(picture, values)
        if len(tracks):
            pens.box.annotate(picture, values)
            pens.label.annotate(picture, values, labels)

    def _draw_detections(self, picture: ImageArray, detections: Detections) -> None:
        pens = self._pens_for(picture)
        labels = [
            f"{self._name(label)} {score:.2f}"
            for label, score in zip(detections.labels.tolist(), detections.scores.tolist(), strict=True)
        ]
        values = _coloured_by_class(detections)
        pens.box.annotate(picture, values)
        pens.label.annotate(picture, values, labels)

    def _pens_for(self, picture: ImageArray) -> _Pens:
        """Return the drawing tools for this picture size; a new size starts new traces."""
        size_hw = picture.shape[0], picture.shape[1]
        if self._pens is None or self._pens_size_hw != size_hw:
            self._pens, self._pens_size_hw = _build_pens(size_hw, self._trace_length), size_hw
        return self._pens

    def _name(self, label: int) -> str:
        return self._class_names[label] if label < len(self._class_names) else str(label)


def write_classification(picture: ImageArray, classification: Classification) -> None:
    """Write classes and probabilities, or the value, into the top left corner, in place; what the classifier decides
    for is bright, the rest grey."""
    lines = [
        (f"{name} {score:.2f}", _TEXT_RGB if place < classification.assigned else _FAINT_RGB)
        for place, (name, score) in enumerate(zip(classification.names, classification.scores.tolist(), strict=True))
    ]
    if classification.value is not None:
        lines = [(f"{classification.value:.4g} {classification.unit}".rstrip(), _TEXT_RGB)]
    scale = max(0.4, 0.7 * math.hypot(*picture.shape[:2]) / 1469)
    thickness = max(1, round(scale))
    sizes = [cv2.getTextSize(text, _CAPTION_FONT, scale, thickness)[0] for text, _ in lines]
    step = round(36 * scale)
    if not lines:
        return
    width = min(picture.shape[1], max(size[0] for size in sizes) + step)
    panel = picture[: step * len(lines) + step // 2, :width]
    panel[:] = panel // 4
    for row, (text, rgb) in enumerate(lines, start=1):
        cv2.putText(picture, text, (step // 2, row * step), _CAPTION_FONT, scale, rgb, thickness, cv2.LINE_AA)


def draw_objects(image: ImageArray, boxes: FloatArray, labels: IntArray, class_names: Sequence[str]) -> ImageArray:
    """Return a copy of the RGB image with annotated boxes [N, 4] and the names of their classes, no scores.

    Args:
        image: uint8 [H, W, 3].
        boxes: float32 xyxy pixels.
        labels: int64 [N], indices into ``class_names``.
        class_names: names by label.
    """
    picture: ImageArray = image.copy()
    if len(boxes):
        pens = _build_pens((picture.shape[0], picture.shape[1]), trace_length=0)
        objects = Detections(boxes, np.ones(len(boxes), np.float32), labels)
        values = _coloured_by_class(objects)
        pens.box.annotate(picture, values)
        pens.label.annotate(picture, values, [class_names[label] for label in labels.tolist()])
    return picture


def contact_sheet(
    images: Sequence[ImageArray],
    columns: int = 4,
    tile_width: int = 320,
    *,
    times_s: Sequence[float | None] | None = None,
    captions: Sequence[str] | None = None,
) -> ImageArray:
    """Return one RGB picture with the images [H, W, 3] as tiles, row by row, each above a strip with its caption.

    Args:
        images: uint8 RGB, at least one; other shapes than the first one's are fitted into its tile.
        columns: tiles in a row, >= 1.
        tile_width: width of a tile in pixels, >= 16.
        times_s: seconds shown under each tile; None leaves a strip empty.
        captions: text under each tile in place of times; what does not fit is cut off, what is not ASCII is "?".
    """
    if not images or columns < 1 or tile_width < 16:
        raise InvalidInputError(
            f"a contact sheet needs an image, columns >= 1 and tile_width >= 16, got {len(images)} images, "
            f"{columns} columns and {tile_width} pixels; pass frames to show"
        )
    times = [None] * len(images) if times_s is None else list(times_s)
    texts = ["" if time_s is None else f"{time_s:.2f} s" for time_s in times] if captions is None else list(captions)
    if len(times) != len(images) or len(texts) != len(images):
        raise InvalidInputError(
            f"times_s and captions must have one entry an image ({len(images)}), got {len(times)} and {len(texts)}; "
            "pass None for an unknown time, an empty text for no caption"
        )
    gap, strip = max(2, tile_width // 80), max(12, tile_width // 12)
    tile_hw = max(1, round(tile_width * images[0].shape[0] / images[0].shape[1])), tile_width
    columns = min(columns, len(images))
    n_rows = math.ceil(len(images) / columns)
    step_y, step_x = tile_hw[0] + strip + gap, tile_width + gap
    sheet = np.full((n_rows * step_y + gap, columns * step_x + gap, 3), _BACKGROUND_RGB, np.uint8)
    for index, (image, text) in enumerate(zip(images, texts, strict=True)):
        y, x = gap + index // columns * step_y, gap + index % columns * step_x
        sheet[y : y + tile_hw[0], x : x + tile_width] = _fit_tile(image, tile_hw)
        if text:
            _write_caption(sheet[:, x : x + tile_width], text, y + tile_hw[0], strip)
    return sheet


@dataclass(slots=True)
class _Pens:
    """supervision's annotators for one picture size."""

    box: Any
    label: Any
    trace: Any | None


def _build_pens(size_hw: tuple[int, int], trace_length: int) -> _Pens:
    import supervision as sv

    # supervision writes its colours as BGR; our pictures are RGB, so red and blue are exchanged here once.
    palette = sv.ColorPalette([sv.Color(r=b, g=g, b=r) for r, g, b in PALETTE_RGB])
    ink = sv.ColorPalette([_ink(rgb, sv) for rgb in PALETTE_RGB])
    # Lines of 2 pixels and 13 pixel letters on 720p, in proportion to the diagonal elsewhere.
    scale = math.hypot(*size_hw) / 1469
    thickness = max(1, round(2 * scale))
    by_track = sv.ColorLookup.TRACK
    return _Pens(
        box=sv.BoxAnnotator(palette, thickness=thickness, color_lookup=by_track),
        label=sv.LabelAnnotator(
            palette,
            text_color=ink,
            text_scale=max(0.3, 0.5 * scale),
            text_thickness=max(1, round(scale)),
            text_padding=max(2, round(5 * scale)),
            color_lookup=by_track,
        ),
        trace=sv.TraceAnnotator(
            palette,
            position=sv.Position.BOTTOM_CENTER,
            trace_length=trace_length,
            thickness=thickness,
            color_lookup=by_track,
        )
        if trace_length > 0
        else None,
    )


def _ink(rgb: tuple[int, int, int], sv: Any) -> Any:
    """Return black or white, whichever reads better on the colour (ITU-R BT.601 luma)."""
    red, green, blue = rgb
    return sv.Color.BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else sv.Color.WHITE


def _coloured_by_class(detections: Detections) -> Any:
    """Return supervision's detections with the labels where the pens look for what decides the colour."""
    values = to_supervision(detections)
    values.tracker_id = detections.labels
    return values


def _fit_tile(image: ImageArray, tile_hw: tuple[int, int]) -> ImageArray:
    """Return the image scaled to fit the tile, centred on the background."""
    height, width = image.shape[:2]
    scale = min(tile_hw[0] / height, tile_hw[1] / width)
    size_wh = max(1, min(tile_hw[1], round(width * scale))), max(1, min(tile_hw[0], round(height * scale)))
    resized = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile = np.full((*tile_hw, 3), _BACKGROUND_RGB, np.uint8)
    y, x = (tile_hw[0] - size_wh[1]) // 2, (tile_hw[1] - size_wh[0]) // 2
    tile[y : y + size_wh[1], x : x + size_wh[0]] = resized
    return tile


def _write_caption(column: ImageArray, text: str, top: int, strip: int) -> None:
    """Write one line into the strip below a tile, in place; ``column`` is the part of the sheet as wide as the tile."""
    scale = strip / 40
    # OpenCV's strokes know ASCII alone, and it writes other bytes as several question marks.
    text = text.encode("ascii", "replace").decode()
    _, baseline = cv2.getTextSize(text, _CAPTION_FONT, scale, 1)
    origin = strip // 4, top + strip - baseline // 2 - strip // 4
    drawn = np.ascontiguousarray(column)
    cv2.putText(drawn, text, origin, _CAPTION_FONT, scale, _TEXT_RGB, 1, cv2.LINE_AA)
    column[...] = drawn
