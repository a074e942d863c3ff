"""Heat map and paths of a run as PNG, written when it ends."""

from __future__ import annotations

import logging
from pathlib import Path

from vision.analytics.pictures import Background, HeatMap, PathMap
from vision.errors import InvalidInputError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer, reported_tracks
from vision.types import Frame, FrameResult, ImageArray

logger = logging.getLogger(__name__)


class MapsWriter(Writer):
    """Collects where the confirmed tracks are seen, and draws it over the median of some frames.

    Args:
        heatmap: PNG of how often feet stood where, or None.
        trajectories: PNG with the path of each track, or None.
        overwrite: replace files that exist.
    """

    def __init__(
        self, *, heatmap: Path | None = None, trajectories: Path | None = None, overwrite: bool = False
    ) -> None:
        self._heat: HeatMap | None = None
        self._paths: PathMap | None = None
        self._background = Background()
        self._size_hw: tuple[int, int] | None = None
        self._outputs: dict[str, AtomicFile] = {}
        try:
            for name, path in (("heat", heatmap), ("paths", trajectories)):
                if path is not None:
                    self._outputs[name] = AtomicFile(path, overwrite=overwrite)
        except BaseException:
            self.abort()
            raise

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Add one frame; frames of another size than the first are left out."""
        if frame is None or result.tracks is None:
            raise InvalidInputError("maps need pictures and tracks, got a result without; give SOURCE to track")
        if self._size_hw is None:
            self._size_hw = frame.size_hw
            self._heat, self._paths = HeatMap(frame.size_hw), PathMap(frame.size_hw)
        if frame.size_hw != self._size_hw or self._heat is None or self._paths is None:
            return
        self._background.add(frame.image)
        tracks = reported_tracks(result.tracks)
        if "heat" in self._outputs:
            self._heat.add(tracks.boxes)
        if "paths" in self._outputs:
            self._paths.add(result.frame_index, tracks.ids, tracks.boxes)

    def close(self) -> None:
        """Write the pictures; without any frame no file is made and a warning is logged."""
        background = self._background.picture()
        for name, output in self._outputs.items():
            if not output.is_open:
                continue
            map_drawn = self._heat if name == "heat" else self._paths
            if background is None or map_drawn is None:
                logger.warning("%s is not written: there was no frame", output.path)
                output.abort()
                continue
            write_png(output, map_drawn.draw(background))

    def abort(self) -> None:
        """Remove the unfinished files."""
        for output in self._outputs.values():
            output.abort()


def write_png(output: AtomicFile, picture: ImageArray) -> None:
    """Write an RGB picture and give the file its name."""
    from PIL import Image

    Image.fromarray(picture).save(output.file, "PNG")
    output.commit()
