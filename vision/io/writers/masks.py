"""Index masks in a folder: PNG files with one class number a pixel, and a palette so that viewers show colours."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vision.errors import InvalidInputError, OutputExistsError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer
from vision.io.writers.images import prepare_folder, safe_relative_path
from vision.types import Frame, FrameResult
from vision.validation import describe

CLASSES_FILE = "classes.txt"


def write_index_mask(
    path: str | Path, labels: npt.NDArray[np.uint8], palette: Sequence[tuple[int, int, int]], *, overwrite: bool = False
) -> None:
    """Write labels uint8 [H, W] as a PNG of one class number a pixel, which viewers show in the palette's colours.

    The file appears complete or not at all.

    Args:
        palette: RGB of each label, 0 to 255, at most 256 of them.

    Raises:
        InvalidInputError: labels of another shape or dtype, or a folder that cannot be written to.
        OutputExistsError: the file exists and ``overwrite`` is False.
    """
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise InvalidInputError(f"an index mask must be uint8 [H, W], got {describe(labels)}; pass labels below 256")
    output = AtomicFile(path, overwrite=overwrite)
    try:
        mask = Image.fromarray(labels)
        mask.putpalette([channel for rgb in palette for channel in rgb])
        mask.save(output.file, "PNG", compress_level=3)
    except BaseException:
        output.abort()
        raise
    output.commit()


class MasksWriter(Writer):
    """Saves the segmentation of each frame at once, named as the input: ``a.jpg`` becomes ``a.png``.

    The pixel values are the class numbers; the palette changes nothing about them. ``classes.txt`` beside the masks
    names the classes in their order, which is how training reads them too.

    Args:
        folder: output folder; made when missing, and refused when it holds files unless ``overwrite``, or in any case
            masks of other classes: nobody could tell them from the new ones.
        class_names: name of each label, at most 256.
        palette: RGB of each label.
        relative_name: name of the picture below the folder (Source.relative_name); the file name by default.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        class_names: Sequence[str],
        palette: Sequence[tuple[int, int, int]],
        relative_name: Callable[[Frame], str] | None = None,
        overwrite: bool = False,
    ) -> None:
        if len(class_names) > 256:
            raise InvalidInputError(
                f"a PNG of 8 bits tells 256 classes apart, this model has {len(class_names)}; use --jsonl"
            )
        self._folder = Path(folder)
        self._overwrite = overwrite
        self._relative_name = relative_name or (lambda frame: Path(frame.source).name)
        self._palette = palette
        self._owners: dict[Path, str] = {}
        prepare_folder(self._folder, overwrite=overwrite)
        content = ("\n".join(class_names) + "\n").encode()
        _refuse_other_classes(self._folder, content)
        names = AtomicFile(self._folder / CLASSES_FILE, overwrite=overwrite)
        names.write(content)
        names.commit()

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Save one mask."""
        if frame is None or result.segmentation is None:
            raise InvalidInputError("masks need a segmented picture, got a result without one; run stride32 segment")
        labels = result.segmentation.labels.astype(np.uint8)
        write_index_mask(self._path_of(frame), labels, self._palette, overwrite=self._overwrite)

    def _path_of(self, frame: Frame) -> Path:
        """Return where the mask of a frame goes: ``a.png``, or ``a.webp.png`` when ``a.jpg`` has that one already."""
        name = safe_relative_path(self._relative_name(frame))
        path = self._folder / name.with_suffix(".png")
        # Frames of a video have numbers, which cannot meet; remembering them would let the memory grow.
        if frame.timestamp_s is not None:
            return path
        names = (f"{name.name}.{number}.png" for number in itertools.count(2))
        for candidate in itertools.chain((path.name, f"{name.name}.png"), names):
            path = path.with_name(candidate)
            if self._owners.setdefault(path, str(name)) == str(name):
                break
        return path

    def close(self) -> None:
        """Do nothing: every mask is complete when written."""

    def abort(self) -> None:
        """Keep the masks written so far; each is complete."""


def _refuse_other_classes(folder: Path, content: bytes) -> None:
    """Raise OutputExistsError if the folder has masks and a list of their classes that is not ``content``."""
    names = folder / CLASSES_FILE
    if names.is_file() and names.read_bytes() != content and any(folder.rglob("*.png")):
        raise OutputExistsError(
            f"masks in one folder must have the same classes, {folder} has some of others (see {names}), which "
            "--overwrite would leave there; pass another folder, or delete this one",
            expected=content.decode().replace("\n", " ").strip(),
            actual=names.read_text("utf-8", "replace").replace("\n", " ").strip(),
            path=folder,
        )
