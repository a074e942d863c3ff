"""A job's files in a folder of this machine, or of one that many machines share."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from vision.errors import InvalidInputError, StateError

_LOCK = ".lock"
# Who holds the lock, for the message to whoever comes second; without meaning once nobody holds it.
_HOLDER = ".run"
# A look at whether somebody holds the lock holds it for a moment itself.
_PATIENCE_S = 1.0
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
_REASONS = {
    errno.ENOSPC: "no space left on the device; free some and run again with --resume",
    errno.EDQUOT: "the quota of disk space used up; free some and run again with --resume",
    errno.EROFS: "a read-only file system; give another --out",
    errno.EACCES: "no permission; change that of the folder or give another --out",
    errno.EPERM: "no permission; change that of the folder or give another --out",
    errno.ENOTDIR: "a file where a folder should be; give another --out",
}


@contextmanager
def refused_writes(path: Path) -> Iterator[None]:
    """Turn what the operating system says inside the block into one clear error."""
    try:
        yield
    except OSError as exc:
        reason = _REASONS.get(exc.errno or 0, f"{exc.strerror or exc}; check the disk and run again with --resume")
        raise InvalidInputError(f"{path} must be written, found {reason}", path=path) from exc


class LocalOutput:
    """A folder. A file is built hidden beside its name, brought to the disk and renamed: what has its name is whole.

    Args:
        folder: made when something is written.
    """

    is_lockable = True

    def __init__(self, folder: str | Path) -> None:
        self.address = str(folder)
        self.folder = Path(folder).expanduser()
        self._is_locked = False

    def put_new(self, name: str, part: Path | bytes) -> bool:
        """Give a file its name unless that is taken; see ``Output``."""
        path, target = self._on_disk(name, part), self.folder / name
        with refused_writes(target):
            is_new = _link_new(path, target)
            path.unlink(missing_ok=True)
            _sync(target.parent)
        return is_new

    def replace(self, name: str, part: Path | bytes) -> None:
        """Give a file its name in place of what has it."""
        path, target = self._on_disk(name, part), self.folder / name
        with refused_writes(target):
            path.replace(target)
            _sync(target.parent)

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> BinaryIO:
        """Return a file to read from."""
        path = self.folder / name
        try:
            return path.open("rb")
        except OSError as exc:
            raise InvalidInputError(
                f"{path} must be readable, found: {exc.strerror}; check the folder and its permissions", path=path
            ) from exc

    def exists(self, name: str) -> bool:
        """Return whether there is a file or folder of that name."""
        return (self.folder / name).exists()

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what is in a folder, sorted."""
        path = self.folder / folder
        try:
            found = [entry.name for entry in path.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise InvalidInputError(
                f"{path} must be a folder that can be listed, found: {exc.strerror}; give another --out", path=path
            ) from exc
        prefix = f"{folder}/" if folder else ""
        return sorted(prefix + name for name in found if not name.startswith(".") and not name.endswith(".part"))

    def remove(self, name: str) -> None:
        """Remove a file."""
        with refused_writes(self.folder / name):
            (self.folder / name).unlink(missing_ok=True)

    def scratch(self, name: str) -> Path:
        """Return a hidden path in the folder of the file: only within one file system is renaming a single step."""
        target = self.folder / name
        with refused_writes(target):
            _make_folder(target.parent)
        return target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out. The lock is the operating system's: it ends with its holder, however that ends."""
        from filelock import FileLock, Timeout

        with refused_writes(self.folder):
            _make_folder(self.folder)
        lock, holder = FileLock(self.folder / _LOCK), self.folder / _HOLDER
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except Timeout as exc:
            raise InvalidInputError(
                f"{self.folder} must be used by one run at a time, {_read_holder(holder)} is working in it; wait for "
                "its end, or give another --out",
                path=self.folder,
            ) from exc
        except (OSError, NotImplementedError) as exc:
            raise InvalidInputError(
                f"{self.folder} must be on a file system with locks and be writable, found: {exc}; give another --out",
                path=self.folder,
            ) from exc
        try:
            with refused_writes(holder):
                holder.write_text(f"process {os.getpid()} on {socket.gethostname()}, begun {time.ctime()},")
            self._is_locked = True
            yield
        finally:
            self._is_locked = False
            with suppress(OSError):
                holder.unlink(missing_ok=True)
            lock.release()

    def is_running(self) -> bool | None:
        """Return whether a run holds the lock; None where this user may not ask."""
        from filelock import FileLock, Timeout

        path = self.folder / _LOCK
        if not path.exists():
            return False
        try:
            with FileLock(path).acquire(timeout=0):
                return False
        except Timeout:
            return True
        except (OSError, NotImplementedError):
            return None

    def clean(self) -> int:
        """Remove hidden parts of files; while no other run can be working, they belong to dead ones."""
        if not self._is_locked:
            raise StateError(f"{self.folder} must be locked before unfinished files are removed; call lock() first")
        with refused_writes(self.folder):
            parts = [part for folder in (self.folder, self.folder / "rows") for part in folder.glob(".*.part")]
            for part in parts:
                part.unlink(missing_ok=True)
        return len(parts)

    def locate(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.folder / name)

    def _on_disk(self, name: str, part: Path | bytes) -> Path:
        """Return a hidden file with that content, which has reached the disk."""
        is_content = isinstance(part, bytes)
        path = self.scratch(name) if isinstance(part, bytes) else part
        with refused_writes(self.folder / name), path.open("wb" if is_content else "rb+") as file:
            if isinstance(part, bytes):
                file.write(part)
                file.flush()
            # Without it a power cut can leave the new name on an empty file.
            os.fsync(file.fileno())
        return path


def _link_new(part: Path, target: Path) -> bool:
    """Give a file a further name; False when that is taken. Renaming would replace what another run put there."""
    try:
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        # A file system without links; the lock keeps others from coming between the two steps.
        if target.exists():
            return False
        part.replace(target)
    return True


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it so that they outlast a power cut."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _read_holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200].rstrip(",") or "another run"
    except OSError:
        return "another run"
