"""Optional packages: a missing one becomes a line that says which extra installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vision.errors import MissingDependencyError


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Turn a failed import inside the block into MissingDependencyError; our own modules are no optional packages."""
    try:
        yield
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package in ("", "vision", "service"):
            raise
        raise MissingDependencyError(package, extra=extra, purpose=purpose) from exc
