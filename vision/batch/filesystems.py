"""Object stores, through fsspec: which ones, and what their errors become. Web addresses are never fetched."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from typing import Any

from vision.errors import ConfigError, InvalidInputError, MediaError, MissingDependencyError
from vision.io.container import mask_credentials

# A list may come from anywhere; what it can make this machine connect to is what its owner has given it keys for.
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs", "memory")
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs")}
_LONGEST_REASON = 300

_lock = threading.Lock()
_systems: dict[tuple[object, ...], Any] = {}


@dataclass(frozen=True, slots=True)
class Location:
    """A URL taken apart.

    Attributes:
        system: fsspec's file system.
        path: in it, as it calls it.
        head: what makes a URL of a path when put before it.
    """

    system: Any
    path: str
    head: str

    def url(self, path: str) -> str:
        """Return the URL of another path of the same file system."""
        return self.head + path


def is_url(text: str) -> bool:
    """Return whether a text is an address and not a local path."""
    return "://" in text


def local_path(text: str) -> str:
    """Return the path of a file:// address, and every other text as it is."""
    for prefix in ("file://", "local://"):
        if text.lower().startswith(prefix):
            return text[len(prefix) :]
    return text


def check_store(url: str) -> str:
    """Return the scheme of a URL.

    Raises:
        InvalidInputError: it is not one of the stores that we read from, or holds a password.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in STORES:
        # A chained URL ("simplecache::https://...") has the other scheme in front, and is refused by this too.
        raise InvalidInputError(
            f"an address must be in one of the stores {', '.join(STORES)}, got {mask_credentials(url)}; "
            "web addresses are not fetched: download the files, or copy them to a store",
            expected=f"one of {', '.join(STORES)}",
            actual=scheme,
        )
    if re.match(r"[^/]*:[^/]*@", rest):
        raise InvalidInputError(
            f"an address must hold no password, got {mask_credentials(url)}; set the variables of the store's package",
            expected="an address alone",
        )
    return scheme


def locate(url: str) -> Location:
    """Return where a URL points; nothing is asked of the store yet. Threads may share what is returned.

    Raises:
        InvalidInputError: the URL is not of a store that we read from.
        MissingDependencyError, ConfigError: the package of the store is not installed, or it lacks settings.
    """
    scheme = check_store(url)
    url = scheme + url[len(scheme) :]
    try:
        import fsspec
    except ModuleNotFoundError as exc:
        raise MissingDependencyError("fsspec", extra="batch", purpose=f"reading {scheme}://") from exc
    try:
        kind = fsspec.get_filesystem_class(scheme)
        # Not url_to_fs, which takes "::" in a key for a chain of file systems.
        options = kind._get_kwargs_from_urls(url)
        system = _open_system(kind, options)
        path = str(kind._strip_protocol(url))
    except ImportError as exc:
        if scheme in _EXTRAS:
            package, extra = _EXTRAS[scheme]
            raise MissingDependencyError(package, extra=extra, purpose=f"reading {scheme}://") from exc
        raise ConfigError(f"{scheme}:// needs a package that is not installed: {one_line(exc)}") from exc
    except Exception as exc:  # each store's package has errors of its own
        raise ConfigError(
            f"{scheme}:// must be configured by the environment of its package, got {one_line(exc)}; "
            "set its variables or its configuration file"
        ) from exc
    trimmed = url.rstrip("/")
    head = trimmed[: -len(path)] if path and trimmed.endswith(path) else f"{scheme}://"
    return Location(system, path, head)


def _open_system(kind: Any, options: dict[str, Any]) -> Any:
    """Return the file system of a store; one is made for each process, since their connections survive no fork."""
    key = (os.getpid(), kind, tuple(sorted((name, str(value)) for name, value in options.items())))
    with _lock:
        if key not in _systems:
            # Instances that fsspec keeps belong to a thread; ours is for all of them.
            _systems[key] = kind(**options, skip_instance_cache=True)
        return _systems[key]


def forget_systems() -> None:
    """Let go of all file systems, so that changed credentials are read."""
    with _lock:
        _systems.clear()


def store_error(name: str, exc: BaseException) -> MediaError:
    """Return the error for a file of a store that cannot be read, in one line and without secrets."""
    if isinstance(exc, FileNotFoundError):
        reason, advice = "there is no such object", "check the address"
    elif isinstance(exc, PermissionError):
        reason, advice = "permission denied", "check the credentials of the store"
    else:
        reason, advice = one_line(exc), "check the network and the credentials of the store"
    return MediaError(f"{mask_credentials(name)} cannot be fetched: {reason}; {advice}", actual=reason)


def one_line(exc: BaseException) -> str:
    """Return the words of an error in one line, without passwords and signed queries."""
    words = " ".join(str(exc).split()) or type(exc).__name__
    words = re.sub(r"\?\S*=\S*", "?***", mask_credentials(words))
    return words if len(words) <= _LONGEST_REASON else words[: _LONGEST_REASON - 3] + "..."
