"""Files below a prefix or of a pattern in an object store, by as few requests as it allows."""

from __future__ import annotations

import glob
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from vision.batch.filesystems import Location, locate, store_error
from vision.batch.local_listing import FoundFile
from vision.errors import VisionError

# What stores call a version of an object, the one that follows the content first.
_STAMPS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "modified", "mtime", "created")
# Headers of a tar lie between pictures of about this size: reading ahead costs less than a request for each.
_AHEAD_BYTES = 4 * 2**20


def find_remote(url: str) -> FoundFile | None:
    """Return the object of that very name by its URL, or None where there is none or it is a folder."""
    place = locate(url)
    with _answers(url):
        try:
            # Something may have been put there since this process last looked.
            place.system.invalidate_cache()
            facts = place.system.info(place.path)
        except FileNotFoundError:
            return None
    return None if facts.get("type") == "directory" else _found(place, place.path, facts)


def list_remote(url: str) -> Iterator[FoundFile]:
    """Yield the objects below a prefix, or that a pattern matches, by their URLs; hidden ones are left out."""
    place = locate(url)
    pattern = glob.has_magic(place.path)
    root = place.path.rstrip("/")
    with _answers(url):
        place.system.invalidate_cache()
        try:
            found = place.system.glob(root, detail=True) if pattern else place.system.find(root, detail=True)
        except FileNotFoundError:
            found = {}
        # What it has listed would stay in memory for as long as the process.
        place.system.invalidate_cache()
    below = len(root) + 1
    for path, facts in found.items():
        if facts.get("type") != "directory" and (pattern or path.startswith(root + "/")):
            name = path.rpartition("/")[2] if pattern else path[below:]
            if not any(part.startswith(".") for part in name.split("/")):
                yield _found(place, path, facts)


@contextmanager
def open_remote(url: str, *, ahead: bool = False) -> Iterator[BinaryIO]:
    """Open an object for reading; ``ahead`` for one that is gone through from front to back."""
    place = locate(url)
    options: dict[str, Any] = {"cache_type": "readahead", "block_size": _AHEAD_BYTES} if ahead else {}
    with _answers(url):
        if place.head.startswith("memory:"):
            # There the file itself is handed out, and with it the place where all its readers are.
            with io.BytesIO(place.system.cat_file(place.path)) as copy:
                yield copy
            return
        with place.system.open(place.path, "rb", **options) as file:
            yield cast(BinaryIO, file)


@contextmanager
def _answers(url: str) -> Iterator[None]:
    """Turn a store's errors into ours; what is missing comes out as it is inside the block only."""
    try:
        yield
    except VisionError:
        raise
    except Exception as exc:  # the packages behind fsspec share no base for their errors
        raise store_error(url, exc) from exc


def _found(place: Location, path: str, facts: Mapping[str, Any]) -> FoundFile:
    size = facts.get("size")
    stamp = next((str(facts[name]).strip('"') for name in _STAMPS if facts.get(name) is not None), "")
    return FoundFile(place.url(path), -1 if size is None else int(size), stamp)
