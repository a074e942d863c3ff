"""The two answers about jobs that are no JSON: a stream of events, and a file or a range of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from service.errors import UnavailableError
from service.jobs.errors import JobNotFoundError, RangeNotSatisfiableError
from service.jobs.events import Listener
from service.jobs.folders import MEDIA_TYPES, VIDEO
from service.jobs.record import JobState

# A comment after so much silence keeps proxies from closing the connection.
HEARTBEAT_S = 10.0
# Frames may come by the hundred a second; people and pages need no more than this.
MIN_GAP_S = 0.2
# How soon a browser comes back when the server has ended the stream before the job was over.
RETRY_MS = 2000

# One range in ASCII digits. All else, several ranges included, may be answered with the whole file (RFC 9110, 14.2).
_RANGE = re.compile(r"bytes=(?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{0,18})|-(?P<suffix>[0-9]{1,18}))")


class EventStream(StreamingResponse):
    """Server-sent events: ``status`` when something changed, ``end`` with the last status of a job that is over.

    The status is looked up when it is sent, so a slow reader gets fewer events and never old ones.

    Args:
        listener: woken by changes; closed when the client or the job is gone, whichever comes first.
        status: looks up the job; JobNotFoundError when it was deleted.
    """

    def __init__(self, listener: Listener, status: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._listener = listener
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._events(status), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._listener.close()

    async def _events(self, status: Callable[[], Awaitable[dict[str, Any]]]) -> AsyncIterator[bytes]:
        yield f"retry: {RETRY_MS}\n\n".encode()
        last: dict[str, Any] = {}
        while not self._listener.is_ended:
            try:
                now = await status()
            except JobNotFoundError:
                yield _event("end", last | {"state": JobState.CANCELLED.value} if last else {"state": "deleted"})
                return
            except UnavailableError:  # the server stopped in between
                return
            if JobState(now["state"]).is_final:
                yield _event("end", now)
                return
            if now != last:
                last = now
                yield _event("status", now)
            sent_s = time.monotonic()
            if not await self._listener.wait(HEARTBEAT_S):
                yield b": still here\n\n"
            await self._listener.pause(sent_s + MIN_GAP_S - time.monotonic())


def _event(name: str, content: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(content) + b"\n\n"


async def send_result(path: Path, request: Request) -> Response:
    """Return a result file, or the range of it that the request asks for.

    Raises:
        JobNotFoundError: the file has gone just now.
        RangeNotSatisfiableError: the range begins behind the end.
    """
    try:
        stat = await asyncio.to_thread(path.stat)
    except FileNotFoundError:
        raise JobNotFoundError from None
    wanted = request.headers.get("range")
    found = None if wanted is None else _RANGE.fullmatch(wanted.strip())
    if found is not None:
        first, suffix, last = found["first"], found["suffix"], found["last"]
        if (first is not None and int(first) >= stat.st_size) or (suffix is not None and int(suffix) == 0):
            raise RangeNotSatisfiableError(
                f"a range must begin within the {stat.st_size} bytes of the file, got {wanted}; ask for less",
                headers={"Content-Range": f"bytes */{stat.st_size}"},
            )
        if first is not None and last and int(last) < int(first):
            found = None  # no range by its grammar, so as if it were not there
    # A video plays where it is shown; text from uploads is never shown as a page of ours.
    # Without a name here a link may give one (the page's have the video's in it); else it is the last of the path.
    disposition = "inline" if path.name == VIDEO else "attachment"
    response = _ResultResponse(
        path,
        media_type=MEDIA_TYPES[path.name],
        stat_result=stat,
        headers={
            "Content-Disposition": disposition,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private",
        },
    )
    response.takes_range = found is not None
    return response


class _ResultResponse(FileResponse):
    """A file whose range is left out where it must be ignored: the base class would refuse it.

    The head is held back until the first bytes are read, so that a job which expires before is not found and no 200.
    """

    takes_range = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.takes_range:
            scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}
        head: list[Message] = []

        async def send_late(message: Message) -> None:
            if message["type"] == "http.response.start":
                head.append(message)
                return
            while head:
                await send(head.pop())
            await send(message)

        try:
            await super().__call__(scope, receive, send_late)
        except FileNotFoundError:
            raise JobNotFoundError from None
