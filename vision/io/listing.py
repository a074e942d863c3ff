"""Which image files a directory, a glob or a list file stands for, and in which order; nothing is decoded here."""

from __future__ import annotations

import configparser
import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vision.errors import InvalidInputError
from vision.io.images import IMAGE_SUFFIXES


@dataclass(frozen=True, slots=True)
class ImageListing:
    """An ordered set of image files.

    Attributes:
        paths: the files as found, in reading order; never empty.
        root: folder that relative names start from; every path lies below it.
        fps: frames a second when the images are a recorded sequence, else None.
        name: short name of the set, for titles and output folders.
    """

    paths: tuple[Path, ...]
    root: Path
    name: str
    fps: float | None = None


def natural_key(path: Path) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """Return a sort key under which ``frame2`` comes before ``frame10``, folder by folder.

    >>> [path.name for path in sorted([Path("f10.jpg"), Path("f2.jpg"), Path("f1.jpg")], key=natural_key)]
    ['f1.jpg', 'f2.jpg', 'f10.jpg']
    """
    return tuple(
        tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part)
        for name in path.parts
    )


def list_directory(folder: Path) -> ImageListing:
    """Return all images below the folder, hidden ones left out.

    A folder in MOTChallenge layout (a seqinfo.ini in it or, for ``img1`` itself, in its parent) is a sequence: its
    imDir is read and its frameRate becomes ``fps``.
    """
    sequence = _find_sequence(folder)
    root, fps = (folder, None) if sequence is None else sequence
    paths = [Path(base) / name for base, _, names in _walk(root) for name in names if _is_image(name)]
    if not paths:
        raise InvalidInputError(
            f"{root} must hold images ({_suffixes()}), found none in it or below; check the path",
            expected="images",
            actual="none",
            path=root,
        )
    name = folder.resolve().name
    if sequence is not None and root == folder:
        name = folder.resolve().parent.name
    return ImageListing(tuple(sorted(paths, key=natural_key)), root, name, fps)


def list_glob(pattern: str) -> ImageListing:
    """Return the images that the pattern matches (``**`` goes through folders); other files are left out."""
    # glob.glob and not Path.glob: the pattern may be absolute, and it leaves hidden files out.
    matches = [Path(match) for match in glob.glob(pattern, recursive=True) if Path(match).is_file()]  # noqa: PTH207
    paths = [path for path in matches if _is_image(path.name)]
    if not paths:
        found = f"{len(matches)} files of other types" if matches else "nothing"
        raise InvalidInputError(
            f"the pattern {pattern} must match images ({_suffixes()}), it matches {found}; check it with ls",
            expected="images",
            actual=found,
        )
    fixed = [part for part in _parts_before_wildcard(pattern)]
    root = Path(*fixed) if fixed else Path()
    return ImageListing(tuple(sorted(paths, key=natural_key)), root, root.resolve().name)


def list_file(path: Path) -> ImageListing:
    """Return the images named in a text file: one path a line, relative to the file, ``#`` begins a comment line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(
            f"{path} must be a UTF-8 text file with one image path a line, failed to read it: {exc}; save it as UTF-8",
            path=path,
        ) from exc
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not entries:
        raise InvalidInputError(
            f"{path} must list one image path a line, found no entry; add paths relative to the list file", path=path
        )
    paths = tuple(path.parent / entry for entry in entries)
    return ImageListing(paths, _common_root(paths, path.parent), path.stem)


def relative_name(path: Path, root: Path) -> str:
    """Return the POSIX path of a file below ``root``; the bare file name when it lies elsewhere."""
    absolute, base = Path(os.path.abspath(path)), Path(os.path.abspath(root))  # noqa: PTH100 - resolve() follows links
    return absolute.relative_to(base).as_posix() if absolute.is_relative_to(base) else path.name


def _walk(root: Path) -> Iterable[tuple[str, list[str], list[str]]]:
    """Walk below root without hidden files and folders; links to folders may form a ring, so none is followed."""
    for base, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield base, folders, [name for name in names if not name.startswith(".")]


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _parts_before_wildcard(pattern: str) -> Iterable[str]:
    for part in Path(pattern).parent.parts:
        if glob.has_magic(part):
            return
        yield part


def _common_root(paths: tuple[Path, ...], folder: Path) -> Path:
    """Return the list's own folder when all entries lie below it, else their deepest common folder."""
    absolute = [os.path.abspath(path) for path in paths]  # noqa: PTH100
    if all(Path(path).is_relative_to(os.path.abspath(folder)) for path in absolute):  # noqa: PTH100
        return folder
    return Path(os.path.commonpath([os.path.dirname(path) for path in absolute]))  # noqa: PTH120


def _find_sequence(folder: Path) -> tuple[Path, float | None] | None:
    """Return (image folder, fps) when the folder is a MOTChallenge sequence or its image folder, else None."""
    own, above = folder / "seqinfo.ini", folder.resolve().parent / "seqinfo.ini"
    if own.is_file():
        image_dir, fps = _read_seqinfo(own)
        return folder / image_dir, fps
    if above.is_file():
        image_dir, fps = _read_seqinfo(above)
        if image_dir == folder.resolve().name:
            return folder, fps
    return None


def _read_seqinfo(path: Path) -> tuple[str, float | None]:
    """Return (imDir, frameRate or None) of a seqinfo.ini."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        section = parser["Sequence"]
        image_dir, fps = section.get("imDir", "img1"), section.getfloat("frameRate", fallback=None)
    except (configparser.Error, KeyError, ValueError, OSError) as exc:
        reason = " ".join(str(exc).split())
        raise InvalidInputError(
            f"{path} must be a MOTChallenge seqinfo with [Sequence], imDir and frameRate, got {reason}; correct it",
            path=path,
        ) from exc
    if Path(image_dir).is_absolute() or ".." in Path(image_dir).parts or (fps is not None and not 0 < fps < 1e6):
        raise InvalidInputError(
            f"{path} must have an imDir below it and a frameRate > 0, got {image_dir} and {fps}; correct it",
            path=path,
        )
    return image_dir, fps
