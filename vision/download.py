"""Downloading one large file over HTTP: continued after a cut, bounded in size, tried again when that can help.

The bytes go to a file that the caller names; beside it lies a note with the server's mark of the version (ETag or
Last-Modified), so that a later call asks for the rest of that version only. What the bytes are worth is the caller's
matter: he compares digests.
"""

from __future__ import annotations

import http.client
import json
import logging
import re
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from vision import __version__
from vision.errors import LimitExceededError, ModelError

log = logging.getLogger(__name__)

MEGABYTE = 1 << 20
# What a broken connection can lose, and how often progress is reported.
PIECE_BYTES = 1 << 16
TIMEOUT_S = 30.0
# Seconds before each new try; a try that brought new bytes starts the row again.
PAUSES_S = (1.0, 2.0, 4.0)
MAX_PAUSE_S = 60.0
# Answers that another moment may change; all other errors are final.
PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

Report = Callable[[int, int | None], None]


def ignore_report(done: int, total: int | None) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class Download:
    """What came of a download: its address, the server's content type ("" if it gives none), and whether earlier bytes
    were continued."""

    url: str
    content_type: str
    resumed: bool


class _PassingError(Exception):
    """A failure that another try may mend; ``pause_s`` is what the server asked for, or None."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


def fetch(
    url: str,
    path: Path,
    *,
    max_bytes: int,
    report: Report = ignore_report,
    timeout_s: float = TIMEOUT_S,
    pauses_s: tuple[float, ...] = PAUSES_S,
) -> Download:
    """Download ``url`` into ``path``, which holds the whole file on return; an earlier part of it is continued.

    Args:
        url: http or https. path: the file; its folder must exist.
        max_bytes: a longer file is refused.
        report: called with (bytes so far, bytes in all or None) after each piece.
        timeout_s: longest wait for the server, at the start and between two pieces.
        pauses_s: seconds before the second, third, ... try.

    Raises:
        ModelError: the server refuses, cannot be reached, or fails in every try. What came stays for another call.
        LimitExceededError: the file is longer than ``max_bytes``.
        OSError: the disk is full or the path cannot be written.
    """
    failures = 0
    while True:
        before = _size(path)
        try:
            resumed, content_type = _fetch_once(url, path, max_bytes, report, timeout_s)
        except _PassingError as exc:
            failures = 1 if _size(path) > before else failures + 1
            if failures > len(pauses_s):
                raise ModelError(
                    f"{url} must be downloaded, {failures} tries ended in: {exc}; check the connection (or the proxy "
                    "in https_proxy) and start again: what came is kept"
                ) from exc
            pause_s = min(max(pauses_s[failures - 1], exc.pause_s or 0.0), MAX_PAUSE_S)
            log.info("%s: %s; trying again in %.0f s", url, exc, pause_s)
            sleep(pause_s)
        else:
            _note(path).unlink(missing_ok=True)
            return Download(url, content_type, resumed)


def _fetch_once(url: str, path: Path, max_bytes: int, report: Report, timeout_s: float) -> tuple[bool, str]:
    """Request what is missing and append it; return whether bytes were continued, and the content type."""
    have, mark = _continuation(url, path)
    headers = {"User-Agent": f"stride32/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s) as response:
            start, total = _placement(response, path, have)
            _check_room(url, path, start, total, max_bytes)
            _write_note(url, path, response.headers)
            _receive(response, path, start, total, max_bytes, report)
            return start > 0, response.headers.get("Content-Type", "")
    except urllib.error.HTTPError as exc:
        with exc:
            raise _refusal(url, path, exc) from exc
    except urllib.error.URLError as exc:
        raise _unreachable(url, exc) from exc
    except (TimeoutError, ConnectionError, http.client.HTTPException) as exc:
        raise _PassingError(f"the connection broke ({type(exc).__name__}: {exc})") from exc


def _continuation(url: str, path: Path) -> tuple[int, str]:
    """Return how many bytes are there and the mark of their version; (0, "") when they cannot be continued."""
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        mark = note["mark"] if note["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""
    return (_size(path), mark) if mark and _size(path) else (0, "")


def _write_note(url: str, path: Path, headers: Any) -> None:
    """Write down the version that the server sends; a weak ETag cannot tell whether bytes are the same."""
    etag = headers.get("ETag", "")
    mark = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
    _note(path).write_text(json.dumps({"url": url, "mark": mark}), encoding="utf-8")


def _placement(response: Any, path: Path, have: int) -> tuple[int, int | None]:
    """Return where in the file the answer begins and the length of the whole file, if the server says so.

    A server that knows no ranges, or has another version by now, answers 200 with the whole file.
    """
    length = response.headers.get("Content-Length")
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0, int(length) if length is not None and length.isdigit() else None
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != have:
        _forget(path)
        raise _PassingError(f"it continued at {response.headers.get('Content-Range')!r} in place of byte {have}")
    return have, int(found[2])


def _check_room(url: str, path: Path, start: int, total: int | None, max_bytes: int) -> None:
    """Refuse a file that is too long or that the disk cannot take, before it is downloaded."""
    if total is None:
        return
    if total > max_bytes:
        raise LimitExceededError(
            f"{url} must have at most {max_bytes} bytes, the server announces {total}; it is not the published file"
        )
    free = shutil.disk_usage(path.parent).free
    if total - start > free:
        raise ModelError(
            f"{path.parent} must have room for {_megabytes(total - start)}, it has {_megabytes(free)}; make room or "
            "set STRIDE32_CACHE to another folder",
            path=path,
        )


def _receive(response: Any, path: Path, start: int, total: int | None, max_bytes: int, report: Report) -> None:
    """Append the answer's body from byte ``start`` on."""
    done = start
    with path.open("r+b" if start else "wb") as file:
        file.seek(start)
        report(done, total)
        while piece := _read(response):
            done += len(piece)
            if done > max_bytes:
                raise LimitExceededError(f"{response.url} must have at most {max_bytes} bytes, it sends more")
            file.write(piece)
            report(done, total)
    if total is not None and done != total:
        raise _PassingError(f"{done} of {total} bytes came")


def _read(response: Any) -> bytes:
    """Return the next piece; an error of the connection must not be taken for one of the disk."""
    try:
        piece: bytes = response.read(PIECE_BYTES)
    except (OSError, http.client.HTTPException) as exc:
        raise _PassingError(f"the connection broke ({type(exc).__name__}: {exc})") from exc
    return piece


def _refusal(url: str, path: Path, exc: urllib.error.HTTPError) -> Exception:
    """Return the error for a status that is no success."""
    if exc.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        # What we have is longer than the file: it is of another one. The next try begins at byte 0.
        _forget(path)
        return _PassingError("the file on the server is shorter than what was here")
    if exc.code in PASSING_STATUS:
        wait = exc.headers.get("Retry-After", "")
        return _PassingError(f"the server answered {exc.code} {exc.reason}", float(wait) if wait.isdigit() else None)
    return ModelError(
        f"{url} must be a file, the server answered {exc.code} {exc.reason}; check STRIDE32_WEIGHTS_URL if you use a "
        "mirror, or get the file elsewhere and pass it with --from FILE",
        actual=str(exc.code),
    )


def _unreachable(url: str, exc: urllib.error.URLError) -> Exception:
    """Return the error for a connection that did not come about."""
    if isinstance(exc.reason, ssl.SSLError):
        return ModelError(
            f"{url} must be reached by TLS, got: {exc.reason}; set SSL_CERT_FILE to your organisation's certificates"
        )
    if isinstance(exc.reason, socket.gaierror):
        return _PassingError(f"the host's name is not found ({exc.reason.strerror}): is there a network?")
    return _PassingError(f"no connection ({exc.reason})")


def _forget(path: Path) -> None:
    """Remove what was downloaded, so that the next try begins at byte 0."""
    path.unlink(missing_ok=True)
    _note(path).unlink(missing_ok=True)


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
