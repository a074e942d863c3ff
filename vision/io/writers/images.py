"""Annotated pictures in a folder, named and nested as the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from PIL import Image

from vision.errors import InvalidInputError, OutputExistsError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer
from vision.render import Annotator
from vision.types import Frame, FrameResult


class ImagesWriter(Writer):
    """Draws each result onto its frame and saves it at once, so what is written stays after an interruption.

    ``.jpg``, ``.jpeg`` and ``.png`` keep their names; others get ``.jpg`` added (``a.webp.jpg``), so none meet.

    Args:
        folder: output folder; made when missing, and refused when it holds files unless ``overwrite``.
        relative_name: name of the picture below the folder (Source.relative_name); the file name by default.
        class_names: name of each label.
        annotator: draws; by default one made from class_names.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        relative_name: Callable[[Frame], str] | None = None,
        class_names: Sequence[str] = (),
        annotator: Annotator | None = None,
        overwrite: bool = False,
    ) -> None:
        self._folder = Path(folder)
        self._overwrite = overwrite
        self._relative_name = relative_name or (lambda frame: Path(frame.source).name)
        self._annotator = annotator or Annotator(class_names)
        prepare_folder(self._folder, overwrite=overwrite)

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Save one picture."""
        if frame is None:
            raise InvalidInputError(
                "images need pictures, got a result without a frame; give SOURCE as well as detections"
            )
        path = self._folder / safe_relative_path(self._relative_name(frame))
        is_png = path.suffix.lower() == ".png"
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            path = path.with_name(path.name + ".jpg")
        output = AtomicFile(path, overwrite=self._overwrite)
        try:
            picture = Image.fromarray(self._annotator.draw(frame, result))
            if is_png:
                picture.save(output.file, "PNG", compress_level=3)
            else:
                picture.save(output.file, "JPEG", quality=92)
        except BaseException:
            output.abort()
            raise
        output.commit()

    def close(self) -> None:
        """Do nothing: every picture is complete when written."""

    def abort(self) -> None:
        """Keep the pictures written so far; each is complete."""


def prepare_folder(folder: Path, *, overwrite: bool) -> None:
    """Make an output folder; raise when it is a file, cannot be made, or holds files and must not be written over."""
    if folder.is_dir() and not overwrite and any(folder.iterdir()):
        raise OutputExistsError(
            f"the output folder {folder} must be new or empty, it holds files; pass --overwrite or another path",
            expected="a new or empty folder",
            actual="a folder with files",
            path=folder,
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InvalidInputError(
            f"the output folder {folder} cannot be made: {exc.strerror}; pass another path", path=folder
        ) from exc


def safe_relative_path(name: str) -> PurePosixPath:
    """Return the name as a path that stays below the folder it is joined to.

    Raises:
        InvalidInputError: the name is empty, absolute, climbs with ``..`` or holds a NUL or a drive.

    >>> safe_relative_path("day1/cam/0001.jpg").as_posix()
    'day1/cam/0001.jpg'
    """
    path, windows = PurePosixPath(name), PureWindowsPath(name)
    is_outside = path.is_absolute() or windows.is_absolute() or windows.drive or windows.root
    if not path.parts or is_outside or ".." in path.parts or ".." in windows.parts or "\x00" in name:
        raise InvalidInputError(
            f"an output name must be a relative path without '..', got {name!r}; rename the input",
            expected="a relative path",
            actual=name,
        )
    return path
