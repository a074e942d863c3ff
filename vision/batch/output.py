"""Where a job's files go: a folder, or a place in an object store. A file has its name whole, or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from vision.errors import InvalidInputError


class Output(Protocol):
    """The place of one job. Names are POSIX paths below it, such as ``rows/shard-00000.parquet``.

    Every method raises InvalidInputError where the place refuses: no space, no permission, read-only, no answer.

    Attributes:
        address: as it was given, without a password, for messages.
        is_lockable: whether ``lock`` keeps other runs out.
    """

    address: str
    is_lockable: bool

    def put_new(self, name: str, part: Path | bytes) -> bool:
        """Give a file its name: the commit. Return False when the name was taken, which is then left as it is.

        Args:
            name: of the file.
            part: its content, or where ``scratch`` said it should be built; that file is gone afterwards.
        """
        ...

    def replace(self, name: str, part: Path | bytes) -> None:
        """Give a file its name in place of what has it: for reports. ``part`` as for ``put_new``."""
        ...

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Return a file to read from, which can seek."""
        ...

    def exists(self, name: str) -> bool:
        """Return whether there is a file or folder of that name."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what is in a folder, sorted; what is hidden or unfinished is left out."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; none of that name is as good."""
        ...

    def scratch(self, name: str) -> Path:
        """Return a new local path at which the file ``name`` can be built."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out, where the place can; raises InvalidInputError that names the run which is there."""
        ...

    def is_running(self) -> bool | None:
        """Return whether a run holds the lock; None where nobody can tell."""
        ...

    def clean(self) -> int:
        """Remove what killed runs left unfinished, and return how many files; only under the lock."""
        ...

    def locate(self, name: str) -> str:
        """Return where a file is, for messages."""
        ...


def open_output(address: str) -> Output:
    """Return the place at a local path or an fsspec URL; nothing is made or looked at yet.

    Raises:
        InvalidInputError: no address, or a scheme of no store.
        MissingDependencyError, ConfigError: the package of the store is not installed, or it lacks settings.
    """
    from vision.batch.filesystems import is_url, local_path
    from vision.batch.local_output import LocalOutput
    from vision.batch.object_output import ObjectOutput

    if not address or "\0" in address:
        raise InvalidInputError(f"--out must be a folder or a URL such as s3://bucket/job, got {address!r}; name one")
    path = local_path(address)
    return ObjectOutput(path) if is_url(path) else LocalOutput(path)
