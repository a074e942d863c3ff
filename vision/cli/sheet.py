"""A few annotated frames of a whole run on one picture; and drawing each frame once for several writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vision.errors import InvalidInputError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer
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


class SheetWriter(Writer):
    """Writes a PNG of at most ``tiles`` annotated frames, spread evenly over a run of unknown length.

    Memory is bounded: when twice as many pictures are held, every other one is dropped and the step doubles.
    """

    def __init__(self, path: Path, annotator: Annotator, *, tiles: int = 12, overwrite: bool = False) -> None:
        self._output = AtomicFile(path, overwrite=overwrite)
        self._annotator = annotator
        self._tiles = tiles
        self._step = 1
        self._seen = 0
        self._pictures: list[ImageArray] = []
        self._times_s: list[float | None] = []

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Keep the frame if its turn has come."""
        if frame is None:
            raise InvalidInputError("a contact sheet needs pictures, got a result without a frame; give SOURCE as well")
        # Drawn in any case, for the traces need every frame.
        picture = self._annotator.draw(frame, result)
        if self._seen % self._step == 0:
            self._pictures.append(picture)
            self._times_s.append(frame.timestamp_s)
        self._seen += 1
        if len(self._pictures) >= 2 * self._tiles:
            self._pictures, self._times_s = self._pictures[::2], self._times_s[::2]
            self._step *= 2

    def close(self) -> None:
        """Write the picture; without any frame no file is made."""
        if not self._output.is_open:
            return
        if not self._pictures:
            self._output.abort()
            return
        count = min(self._tiles, len(self._pictures))
        chosen = np.linspace(0, len(self._pictures) - 1, count).round().astype(int).tolist()
        sheet = contact_sheet([self._pictures[i] for i in chosen], times_s=[self._times_s[i] for i in chosen])
        Image.fromarray(sheet).save(self._output.file, "PNG")
        self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()
