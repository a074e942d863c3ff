"""A few annotated frames of a whole run on one picture; and drawing each frame once for several writers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vision.errors import InvalidInputError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer, reported_tracks
from vision.render import Annotator, contact_sheet
from vision.types import Frame, FrameResult, ImageArray


class SharedAnnotator(Annotator):
    """Draws each frame once however many writers ask; a second drawing would also age the traces twice."""

    _frame: Frame | None = None
    _picture: ImageArray | None = None

    def draw(self, frame: Frame, result: FrameResult) -> ImageArray:
        """Return the frame with the result drawn onto it; callers share the array and must not write to it."""
        if self._picture is None or frame is not self._frame:
            self._frame, self._picture = frame, super().draw(frame, result)
        return self._picture


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """One annotated picture of the sheet with the number of objects in it."""

    objects: int
    time_s: float | None
    picture: ImageArray


class SheetWriter(Writer):
    """Writes a PNG of at most ``tiles`` annotated frames: the busiest frame of each of as many stretches of a run.

    Memory is bounded although the length is unknown: when twice as many pictures are held, each two neighbours become
    the busier one and the stretch that a picture stands for doubles.
    """

    def __init__(self, path: Path, annotator: Annotator, *, tiles: int = 12, overwrite: bool = False) -> None:
        self._output = AtomicFile(path, overwrite=overwrite)
        self._annotator = annotator
        self._tiles = tiles
        self._step = 1
        self._seen = 0
        self._kept: list[_Tile] = []

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Keep the frame if it is the first or the busiest of its stretch so far."""
        if frame is None:
            raise InvalidInputError("a contact sheet needs pictures, got a result without a frame; give SOURCE as well")
        # Drawn in any case, for the traces need every frame.
        tile = _Tile(_count_objects(result), frame.timestamp_s, self._annotator.draw(frame, result))
        if self._seen % self._step == 0:
            self._kept.append(tile)
        elif tile.objects > self._kept[-1].objects:
            self._kept[-1] = tile
        self._seen += 1
        if len(self._kept) >= 2 * self._tiles:
            self._kept = _busiest(self._kept, self._tiles)
            self._step *= 2

    def close(self) -> None:
        """Write the picture; without any frame no file is made."""
        if not self._output.is_open:
            return
        if not self._kept:
            self._output.abort()
            return
        tiles = _busiest(self._kept, min(self._tiles, len(self._kept)))
        sheet = contact_sheet([tile.picture for tile in tiles], times_s=[tile.time_s for tile in tiles])
        Image.fromarray(sheet).save(self._output.file, "PNG")
        self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()


def _busiest(tiles: list[_Tile], groups: int) -> list[_Tile]:
    """Return the tile with the most objects (the first of equals) of each of ``groups`` runs of neighbours."""
    parts = np.array_split(np.arange(len(tiles)), groups)
    return [max((tiles[i] for i in part), key=lambda tile: tile.objects) for part in parts]


def _count_objects(result: FrameResult) -> int:
    """Return the number of objects that are drawn: reported tracks, or detections when no tracker ran."""
    if result.tracks is not None:
        return len(reported_tracks(result.tracks))
    return 0 if result.detections is None else len(result.detections)
