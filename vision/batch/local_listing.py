"""Files below a folder or of a pattern on this machine, with what tells whether they have changed."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vision.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that a listing came upon.

    Attributes:
        name: as the listing calls it: below its folder, or a whole path or URL.
        size: bytes; -1 where that was not to be had.
        stamp: changes with the content; "" where that was not to be had.
    """

    name: str
    size: int = -1
    stamp: str = ""


def absolute(path: str) -> str:
    """Return a path from the root, with slashes; links in it stay."""
    return Path(os.path.abspath(path)).as_posix()  # noqa: PTH100 - resolve() follows links


def walk_folder(root: str, is_wanted: Callable[[str], bool], note: Callable[[str], None]) -> Iterator[FoundFile]:
    """Yield the wanted files below a folder by their names below it, in any order.

    Hidden files and folders are left out; links to folders may form a ring, so none is followed. A link that leads
    nowhere is a file all the same: it fails where it is read, and is told of.

    Args:
        root: the folder. is_wanted: asked with the name of each file. note: gets a line for each unreadable folder.

    Raises:
        InvalidInputError: the folder itself cannot be listed.
    """
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(os.path.join(root, prefix)) as entries:  # noqa: PTH118 - a Path a file costs seconds
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{prefix}{entry.name}/")
                    elif is_wanted(entry.name):
                        found = _found(prefix + entry.name, entry)
                        if found is not None:
                            yield found
        except OSError as exc:
            if not prefix:
                raise InvalidInputError(
                    f"{root} must be a folder that can be listed: {exc.strerror}; check its permissions", path=root
                ) from exc
            note(f"the folder {prefix} cannot be listed ({exc.strerror}); what is in it is left out")


def match_files(pattern: str) -> Iterator[FoundFile]:
    """Yield the files that a pattern matches by their absolute paths, hidden ones left out."""
    # glob.iglob and not Path.glob: the pattern may be absolute, and it leaves hidden files out.
    for match in glob.iglob(pattern, recursive=True):  # noqa: PTH207
        found = find_file(absolute(match))
        if found is not None:
            yield found


def find_file(path: str) -> FoundFile | None:
    """Return a file, with nothing known of it where it is not there; None for folders, pipes and devices."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - a Path a file costs seconds
    except (OSError, ValueError):
        return FoundFile(path)
    return FoundFile(path, facts.st_size, str(facts.st_mtime_ns)) if stat.S_ISREG(facts.st_mode) else None


def fixed_folder(pattern: str) -> str:
    """Return the folder of a pattern or URL before its first wildcard or brace, with a slash at its end.

    >>> fixed_folder("/data/2024-*/a/*.jpg")
    '/data/'
    """
    ends = [place for place in (pattern.find(sign) for sign in "*?[{") if place >= 0]
    fixed = pattern[: min(ends, default=len(pattern))]
    return fixed[: fixed.rfind("/") + 1]


def _found(name: str, entry: os.DirEntry[str]) -> FoundFile | None:
    try:
        facts = entry.stat()
    except OSError:
        return FoundFile(name)
    # A pipe or device of that name would keep a reader waiting.
    return FoundFile(name, facts.st_size, str(facts.st_mtime_ns)) if stat.S_ISREG(facts.st_mode) else None
