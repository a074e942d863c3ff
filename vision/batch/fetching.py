"""The bytes of an item that does not lie on this machine; called from many threads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePosixPath

from vision.batch.filesystems import Location, locate, store_error
from vision.batch.items import Item
from vision.errors import LimitExceededError, MediaError, VisionError


def fetch_bytes(item: Item, max_bytes: int) -> bytes:
    """Return the bytes of a picture: a whole object, a range of one, or the same of a local file.

    Args:
        item: of which.
        max_bytes: most bytes accepted; no more than one beyond it is transferred.

    Raises:
        LimitExceededError: it is larger.
        MediaError: it is not there, is shorter than planned, or cannot be read.
    """
    if item.length > max_bytes:
        raise _too_large(item, f"{item.length}", max_bytes)
    if item.length == 0:
        return b""
    # One byte more is enough to know, and no question for the size goes ahead.
    size = item.length if item.length >= 0 else max_bytes + 1
    data = _read_remote(item, size) if item.is_remote else _read_local(item, size)
    if item.length < 0 and len(data) > max_bytes:
        raise _too_large(item, "more", max_bytes)
    if item.length >= 0 and len(data) != item.length:
        raise MediaError(
            f"{item.name} must have {item.length} bytes, found {len(data)}; its tar is cut short or was changed since "
            "the job was planned",
            expected=f"{item.length} bytes",
            actual=f"{len(data)} bytes",
        )
    return data


def fetch_video(item: Item, folder: Path) -> Path:
    """Return the path of a new file in ``folder`` with the content of a remote video; the caller removes it.

    Raises:
        MediaError: it is not there, or cannot be read; no file is left then.
    """
    suffix = PurePosixPath(item.name).suffix
    handle, name = tempfile.mkstemp(prefix="stride32-", suffix=suffix if suffix.isascii() else "", dir=folder)
    os.close(handle)
    path = Path(name)
    try:
        place = locate(item.address)
        place.system.get_file(place.path, str(path))
    except BaseException as exc:
        path.unlink(missing_ok=True)
        if isinstance(exc, VisionError) or not isinstance(exc, Exception):
            raise
        raise store_error(item.name, exc) from exc
    return path


def _read_remote(item: Item, size: int) -> bytes:
    place = locate(item.address)
    try:
        return bytes(place.system.cat_file(place.path, start=item.offset, end=item.offset + size))
    except Exception as exc:  # the packages behind fsspec share no base for their errors
        if item.length < 0 and not isinstance(exc, FileNotFoundError | PermissionError) and _is_empty(place):
            return b""  # S3 refuses a range of an object without bytes
        raise store_error(item.name, exc) from exc


def _is_empty(place: Location) -> bool:
    try:
        return bool(place.system.size(place.path) == 0)
    except Exception:  # then the first error is the one to tell
        return False


def _read_local(item: Item, size: int) -> bytes:
    path = Path(item.address)
    try:
        if path.exists() and not path.is_file():
            # A pipe would keep the reader waiting for a writer.
            raise MediaError(f"{item.name} must be a file, found a folder, pipe or device; remove it", path=path)
        with path.open("rb") as file:
            file.seek(item.offset)
            return file.read(size)
    except (OSError, ValueError) as exc:
        if isinstance(exc, MediaError):
            raise
        reason = getattr(exc, "strerror", None) or exc
        raise MediaError(
            f"{item.name} cannot be read: {reason}; check the path and its permissions", path=path
        ) from exc


def _too_large(item: Item, found: str, max_bytes: int) -> LimitExceededError:
    return LimitExceededError(
        f"{item.name} must have at most {max_bytes} bytes, got {found}; scale it down or raise the limit",
        expected=f"<= {max_bytes} bytes",
        actual=found,
    )
