"""One picture of a data set's annotations: some pictures with their boxes, those with faults first."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vision.errors import InvalidInputError
from vision.geometry.boxes import clip_boxes
from vision.io.writers.atomic import AtomicFile
from vision.render import contact_sheet, draw_objects
from vision.training.check.report import CheckReport
from vision.training.datasets.annotations import DetectionAnnotations, PictureAnnotations
from vision.training.datasets.pictures import load_rgb
from vision.types import ImageArray

_TILE_WIDTH, _TILE_HEIGHT = 480, 360
_BACKGROUND = 24
COLUMNS = 4


def write_sheet(path: Path, report: CheckReport, *, tiles: int = 20, overwrite: bool = False) -> Path:
    """Write the sample sheet as PNG and return its path.

    Up to half of the tiles show pictures with faults of boxes, size or orientation, of different kinds first; the
    others show every class if they can.

    Raises:
        InvalidInputError: no picture can be decoded, or the path cannot be written.
    """
    output = AtomicFile(path, overwrite=overwrite)
    try:
        pictures, captions = [], []
        for part, entry, caption in choose_pictures(report, tiles):
            try:
                pictures.append(draw_annotations(part, entry))
            except InvalidInputError:
                continue  # reported by the check
            captions.append(caption)
        if not pictures:
            raise InvalidInputError(f"the sheet {path} needs a picture that can be decoded, found none", path=path)
        sheet = contact_sheet(pictures, COLUMNS, _TILE_WIDTH, captions=captions)
        Image.fromarray(sheet).save(output.file, "PNG")
        output.commit()
    finally:
        output.abort()
    return path


def choose_pictures(report: CheckReport, tiles: int) -> list[tuple[DetectionAnnotations, PictureAnnotations, str]]:
    """Return up to ``tiles`` pictures of a report with the part that each is in and its caption."""
    entries = {entry.path: (part, entry) for part in report.parts.values() for entry in part.pictures}
    chosen: dict[Path, str] = {}
    for path, code in _faulty(report):
        if len(chosen) < tiles // 2 and path in entries:
            chosen.setdefault(path, f"{code}: {path.stem}")
    room = tiles - len(chosen)
    for part in report.parts.values():
        for path in representative(part, max(1, room // len(report.parts)), without=chosen):
            chosen[path] = path.name
    return [(*entries[path], caption) for path, caption in chosen.items()]


def representative(part: DetectionAnnotations, count: int, *, without: Container[Path] = ()) -> list[Path]:
    """Return the paths of up to ``count`` pictures: half that show classes not yet shown, others evenly spread."""
    filled = [entry for entry in part.pictures if entry.rows and entry.path.is_file() and entry.path not in without]
    chosen: dict[Path, None] = {}
    shown: set[int] = set()
    for entry in filled:
        fresh = set(entry.labels.tolist()) - shown
        if fresh and len(chosen) < count // 2:
            chosen[entry.path] = None
            shown |= fresh
    rest = [entry.path for entry in filled if entry.path not in chosen]
    places = np.linspace(0, len(rest) - 1, min(count - len(chosen), len(rest))).round().astype(int)
    return list(dict.fromkeys([*chosen, *(rest[place] for place in places)]))


def draw_annotations(part: DetectionAnnotations, entry: PictureAnnotations) -> ImageArray:
    """Return a picture of fixed shape with the boxes of its annotations; crowd regions are marked as such."""
    image = load_rgb(entry.path)
    # Drawn at the size of the tile: lines and letters would be lost by shrinking afterwards.
    scale = min(_TILE_WIDTH / image.shape[1], _TILE_HEIGHT / image.shape[0])
    size_wh = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    shrunk = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    boxes = clip_boxes(entry.boxes * scale, size_wh[::-1]).astype(np.float32)
    # A box with swapped corners is drawn as it would be with the right ones.
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    names = [name + suffix for suffix in ("", " (crowd)") for name in part.class_names]
    labels = entry.labels + len(part.class_names) * entry.crowd
    drawn = draw_objects(np.asarray(shrunk, np.uint8), boxes, labels, names)
    canvas = np.full((_TILE_HEIGHT, _TILE_WIDTH, 3), _BACKGROUND, np.uint8)
    top, left = (_TILE_HEIGHT - size_wh[1]) // 2, (_TILE_WIDTH - size_wh[0]) // 2
    canvas[top : top + size_wh[1], left : left + size_wh[0]] = drawn
    return canvas


def _faulty(report: CheckReport) -> Iterator[tuple[Path, str]]:
    """Yield pictures with faults that show, kind by kind in turns, errors first."""
    kinds: dict[str, list[Path]] = {}
    for finding in report.findings:
        if finding.severity != "note":
            path = finding.picture or finding.file
            kinds.setdefault(finding.code, []).append(path)
    for turn in range(max(map(len, kinds.values()), default=0)):
        yield from ((paths[turn], code) for code, paths in kinds.items() if turn < len(paths))
