"""Output files that exist only when complete: written as NAME.part and renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from vision.errors import InvalidInputError, OutputExistsError, StateError


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise OutputExistsError when ``path`` is there and must not be replaced; a folder is never replaced by a file."""
    if path.is_dir():
        raise InvalidInputError(f"the output {path} must be a file, found a folder; add a file name", path=path)
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"the output {path} must be new, it exists already; pass --overwrite or another path",
            expected="a new file",
            actual="an existing file",
            path=path,
        )


class AtomicFile:
    """A file under construction at ``part_path`` that appears at ``path`` on commit.

    Parent folders are made. A .part left behind by a killed run is replaced. ``is_open`` tells whether neither commit
    nor abort was called yet.

    Raises:
        OutputExistsError: the path exists and ``overwrite`` is False; nothing has been touched then.
        InvalidInputError: the folder cannot be made or written to.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.part_path = self.path.with_name(self.path.name + ".part")
        self._overwrite = overwrite
        self.is_open = True
        check_output(self.path, overwrite=overwrite)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file: BinaryIO = self.part_path.open("wb")
        except OSError as exc:
            raise InvalidInputError(
                f"the output {self.path} cannot be written: {exc.strerror}; check the folder and its permissions",
                path=self.path,
            ) from exc

    def write(self, data: bytes) -> None:
        """Append bytes."""
        if not self.is_open:
            raise StateError(f"{self.path} is closed already; write before close")
        self.file.write(data)

    def commit(self) -> None:
        """Make the file appear under its name, on disk; does nothing when committed or aborted before."""
        if not self.is_open:
            return
        self.is_open = False
        self.file.flush()
        # Without fsync a power cut can leave the new name on an empty file.
        os.fsync(self.file.fileno())
        self.file.close()
        try:
            check_output(self.path, overwrite=self._overwrite)
        except OutputExistsError as exc:
            raise OutputExistsError(
                f"{exc} (it appeared during the run; the result is kept in {self.part_path})"
            ) from exc
        self.part_path.replace(self.path)

    def abort(self) -> None:
        """Remove the .part file; nothing appears under the name."""
        if self.is_open:
            self.is_open = False
            self.file.close()
            self.part_path.unlink(missing_ok=True)
