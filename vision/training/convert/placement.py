"""Where the pictures of converted data go: names that cannot collide, and a copy or a link under them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from vision.errors import InvalidInputError


def unique_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Return a file name for each path whose stem no other has: formats with a file a picture go by stems.

    A name is kept where it can be; else the folder's name comes before it, and a number behind if even that is taken.

    >>> list(unique_names([Path("a/1.jpg"), Path("b/1.jpg"), Path("b/1.png"), Path("2.jpg")]).values())
    ['1.jpg', 'b_1.jpg', 'b_1_2.png', '2.jpg']
    """
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        if path in names:
            continue
        # The stem is a word of list files and a part of label paths: no spaces, nothing that a shell or XML minds.
        plain, folder = _plain(path.stem), _plain(path.parent.name)
        stem, number = plain, 1
        while stem.casefold() in taken:
            stem = f"{folder}_{plain}" if number == 1 and folder else f"{folder}_{plain}_{number}"
            number += 1
        taken.add(stem.casefold())
        names[path] = stem + path.suffix
    return names


def place_picture(source: Path, target: Path, *, copy: bool) -> None:
    """Put a picture at ``target``: a copy, or a relative symbolic link, which is what list-less formats can point by.

    Raises:
        InvalidInputError: links cannot be made here (as on Windows without the right to), or the copy fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if copy:
            shutil.copyfile(source, target)
        else:
            target.symlink_to(relative_path(source, target.parent))
    except OSError as exc:
        advice = "check the disk" if copy else "pass --copy to copy the pictures instead"
        raise InvalidInputError(
            f"the picture {source} cannot be put at {target}: {exc.strerror or exc}; {advice}", path=target
        ) from exc


def relative_path(path: Path, folder: Path) -> str:
    """Return the path of a file as seen from a folder, with forward slashes; folders that are links are resolved."""
    # A file that is itself a link keeps its own name: the suffix of what it points to may be another.
    actual = path.parent.resolve() / path.name
    try:
        return Path(os.path.relpath(actual, folder.resolve())).as_posix()
    except ValueError:  # another drive of Windows
        return actual.as_posix()


def _plain(text: str) -> str:
    return re.sub(r"[^\w.\-]+", "_", text)
