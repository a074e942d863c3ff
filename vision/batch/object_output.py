"""A job's files in an object store, through fsspec: s3, gs, and what else it knows.

Nothing locks such a place. Two runs do the same work twice there, and that is all: a name is given once, to whoever is
first, and both would have given it to the same bytes.
"""

from __future__ import annotations

import io
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from vision.batch.filesystems import locate, one_line
from vision.errors import InvalidInputError, VisionError
from vision.io.container import mask_credentials

# One request up to here; more is sent from the file, in pieces.
_ONE_REQUEST = 64 * 2**20
_PAUSES_S = (0.2, 1.0)
_SCRATCH = "stride32-batch-"
_STALE_S = 3600


class ObjectOutput:
    """A place behind an fsspec URL. A file is built on this machine and sent whole, on condition that there is none.

    Args:
        address: such as ``s3://bucket/job``.
    """

    is_lockable = False

    def __init__(self, address: str) -> None:
        self.address = mask_credentials(address.rstrip("/"))
        location = locate(address)
        self._system, self._root = location.system, location.path.rstrip("/")
        self._scratch: _Scratch | None = None

    def put_new(self, name: str, part: Path | bytes) -> bool:
        """Give a file its name unless that is taken; see ``Output``."""
        try:
            with self._answers(name, "written"):
                # Asked first for the sake of stores that know no condition; for those that do, the condition decides.
                return not self._is_there(name) and self._send_new(name, part)
        finally:
            _forget(part)

    def replace(self, name: str, part: Path | bytes) -> None:
        """Give a file its name in place of what has it."""
        try:
            with self._answers(name, "written"):
                self._send(name, part, "overwrite")
        finally:
            _forget(part)

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        with self._answers(name, "read"):
            return bytes(self._system.cat_file(self._path(name)))

    def open(self, name: str) -> BinaryIO:
        """Return a file to read from, which asks for what is read of it."""
        with self._answers(name, "read"):
            if "memory" in self._system.protocol:
                # There the file itself is handed out, and with it the place where all its readers are.
                return io.BytesIO(self._system.cat_file(self._path(name)))
            file: BinaryIO = self._system.open(self._path(name), "rb")
            return file

    def exists(self, name: str) -> bool:
        """Return whether there is a file or folder of that name."""
        with self._answers(name, "looked for"):
            return self._is_there(name)

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what is in a folder, sorted."""
        with self._answers(folder, "listed"):
            try:
                # Other processes write there too, and listings are kept.
                self._system.invalidate_cache()
                found = self._system.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        # A store's own placeholder for the folder stands among what is in it.
        own = self._path(folder).strip("/")
        paths = [str(each).strip("/") for each in found]
        names = [path.rpartition("/")[2] for path in paths if path != own]
        prefix = f"{folder}/" if folder else ""
        return sorted(prefix + name for name in names if not name.startswith(".") and not name.endswith(".part"))

    def remove(self, name: str) -> None:
        """Remove a file."""
        with self._answers(name, "removed"), suppress(FileNotFoundError):
            self._system.rm_file(self._path(name))

    def scratch(self, name: str) -> Path:
        """Return a path in a temporary folder of this machine."""
        if self._scratch is None:
            self._scratch = _Scratch()
        return self._scratch.folder / f"{name.rpartition('/')[2]}.{secrets.token_hex(6)}.part"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep nobody out."""
        yield

    def is_running(self) -> bool | None:
        """Nobody can tell."""
        return None

    def clean(self) -> int:
        """Remove the temporary folders of killed runs on this machine."""
        return sum(_remove_stale(folder) for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"))

    def locate(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self.address}/{name}"

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _is_there(self, name: str) -> bool:
        self._system.invalidate_cache()
        return bool(self._system.exists(self._path(name)))

    def _send(self, name: str, part: Path | bytes, mode: str) -> None:
        path = self._path(name)
        if isinstance(part, Path) and part.stat().st_size > _ONE_REQUEST:
            self._system.put_file(str(part), path, mode=mode)
        else:
            self._system.pipe_file(path, part if isinstance(part, bytes) else part.read_bytes(), mode=mode)

    def _send_new(self, name: str, part: Path | bytes) -> bool:
        """Send a file on condition that there is none; stores have many ways to say that there is one."""
        for pause_s in (*_PAUSES_S, None):
            try:
                self._send(name, part, "create")
                return True
            except FileExistsError:
                return False
            except (PermissionError, FileNotFoundError):
                raise
            except Exception:  # each file system has its own
                if self._is_there(name):
                    return False
                # Two at the same moment: the store may refuse both.
                if pause_s is None:
                    raise
                time.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _answers(self, name: str, action: str) -> Iterator[None]:
        """Turn what a store says inside the block into one clear error."""
        try:
            yield
        except VisionError:
            raise
        except Exception as exc:  # the packages behind fsspec share no base for their errors
            raise InvalidInputError(
                f"{self.locate(name)} must be {action}, the store answered: {one_line(exc)}; check the address, the "
                "credentials and the network, then run again with --resume"
            ) from exc


class _Scratch:
    """A temporary folder that is gone at the end, and by whose lock others see whether its owner lives."""

    def __init__(self) -> None:
        from filelock import FileLock

        self.folder = Path(tempfile.mkdtemp(prefix=_SCRATCH))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._lock = FileLock(self.folder / ".lock", thread_local=False)
        self._lock.acquire()


def _remove_stale(folder: Path) -> int:
    """Remove a temporary folder whose owner is dead, and return how many files were in it."""
    from filelock import FileLock, Timeout

    with suppress(OSError, Timeout):
        # One that is being made has no lock yet.
        if time.time() - folder.stat().st_mtime < _STALE_S or not (folder / ".lock").exists():
            return 0
        with FileLock(folder / ".lock").acquire(timeout=0):
            count = len(list(folder.glob("*.part")))
            shutil.rmtree(folder)
            return count
    return 0


def _forget(part: Path | bytes) -> None:
    if isinstance(part, Path):
        with suppress(OSError):
            part.unlink(missing_ok=True)
