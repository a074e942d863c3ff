"""The body of an image request to bytes: raw or one part of a form, within limits of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from starlette.requests import ClientDisconnect, Request

from service.admission import Admission, Ticket
from service.auth import ANONYMOUS, client_address
from service.connections import client_key
from service.errors import (
    BadRequestError,
    BodyTimeoutError,
    BodyTooLargeError,
    CancelledWorkError,
    SlowBodyError,
    UnsupportedMediaTypeError,
)
from service.multipart import SinglePart

IMAGE_PART: Final = "image"
# A body must come at this rate once it has had time to begin: one that drips holds memory and a place for nothing.
MIN_BYTES_PER_S: Final = 16_000
GRACE_S: Final = 2.0


def enter_upload(request: Request, admission: Admission) -> Ticket:
    """Return the ticket of a request whose body is about to be read; raises as ``Admission.enter``."""
    return admission.enter(content_length(request), sender_of(request))


def sender_of(request: Request) -> str:
    """Return what a body's sender is counted under: its key, or its address where it has none."""
    key_id: str = request.scope["state"].get("key_id", ANONYMOUS)
    return client_key(client_address(request.scope)) if key_id == ANONYMOUS else key_id


def content_length(request: Request) -> int | None:
    """Return the announced length of the body, None where it is not told (chunked); raises BadRequestError."""
    value = request.headers.get("content-length")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise BadRequestError(f"Content-Length must be a number of bytes, got {value[:30]!r}; correct it")
    return int(value)


def part_reader(request: Request) -> SinglePart | None:
    """Return what takes the picture out of a form, or None for a body that is the picture.

    Raises:
        UnsupportedMediaTypeError: the body is declared to be something else.
    """
    declared = request.headers.get("content-type", "")
    kind = declared.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return SinglePart(declared, IMAGE_PART)
    # curl says x-www-form-urlencoded unless told otherwise, also for --data-binary.
    if kind in ("", "application/octet-stream", "application/x-www-form-urlencoded") or kind.startswith("image/"):
        return None
    raise UnsupportedMediaTypeError(
        f"a picture must come as image/*, application/octet-stream or multipart/form-data, got {kind[:100]!r}; set the "
        "Content-Type"
    )


async def read_image_body(request: Request, ticket: Ticket, admission: Admission, timeout_s: float) -> bytes:
    """Return the picture's bytes; a form must hold them in its one part ``image``.

    Raises:
        UnsupportedMediaTypeError, BadRequestError: no such body. Otherwise as ``read_body``.
    """
    part = part_reader(request)
    if part is None:
        return await read_body(request, ticket, admission, timeout_s)
    picture = await read_body(request, ticket, admission, timeout_s, part.feed)
    part.finish()
    return picture


async def read_body(
    request: Request,
    ticket: Ticket,
    admission: Admission,
    timeout_s: float,
    pieces_of: Callable[[bytes], Iterable[bytes]] | None = None,
) -> bytes:
    """Return the body, or what ``pieces_of`` takes out of each chunk of it; then it has its place in the queue.

    Raises:
        BodyTooLargeError: more bytes than allowed, whatever the head said. QueueFullError: no room for them now.
        BodyTimeoutError, SlowBodyError: the body took too long. CancelledWorkError: the client went away.
    """
    announced = content_length(request)
    if pieces_of is None and request.scope["state"].get("body_is_here"):
        return await _read_at_once(request, ticket, admission)
    booked = announced or 0
    pieces: list[bytes] = []
    received = 0
    began = asyncio.get_running_loop().time()
    ends = began + timeout_s
    try:
        async with asyncio.timeout_at(min(ends, began + GRACE_S)) as patience:
            async for chunk in request.stream():
                if not chunk:  # the stream's end; as a second piece it would have the body copied
                    continue
                received += len(chunk)
                if received > admission.max_body_bytes:
                    raise admission.too_large("more came")
                if received > booked:
                    ticket.grow(received - booked)
                    booked = received
                pieces.extend((chunk,) if pieces_of is None else pieces_of(chunk))
                if received != announced:  # more is to come
                    patience.reschedule(min(ends, began + GRACE_S + received / MIN_BYTES_PER_S))
    except TimeoutError:
        admission.metrics.rejected("body_timeout")
        if patience.when() == ends:
            raise BodyTimeoutError(
                f"the body must arrive within {timeout_s:g} s, {received} bytes came; send it faster or smaller"
            ) from None
        raise SlowBodyError(
            f"the body must come at {MIN_BYTES_PER_S} bytes a second at least, {received} bytes came in "
            f"{asyncio.get_running_loop().time() - began:.1f} s; send it faster"
        ) from None
    except ClientDisconnect:
        raise CancelledWorkError("the client went away while it sent the body") from None
    ticket.arrived()
    # A single piece is not copied. Of several one body at a time is there twice, for nothing else runs meanwhile.
    return b"".join(pieces)


async def _read_at_once(request: Request, ticket: Ticket, admission: Admission) -> bytes:
    """Return a body that the server has received whole, which small ones are: without deadline and pieces."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise CancelledWorkError("the client went away while it sent the body")
    body: bytes = message["body"]
    if content_length(request) is None:  # in chunks: nobody has looked at its size yet
        if len(body) > admission.max_body_bytes:
            raise admission.too_large("more came")
        ticket.grow(len(body))
    ticket.arrived()
    return body


async def read_small_body(
    request: Request, max_bytes: int, timeout_s: float, ticket: Ticket | None = None
) -> bytearray:
    """Return the body, booked on ``ticket`` as it comes.

    Raises:
        BodyTooLargeError, BodyTimeoutError, CancelledWorkError, QueueFullError.
    """
    body = bytearray()
    too_large = BodyTooLargeError(f"the body must have at most {max_bytes} bytes, more were sent; send less")
    if (content_length(request) or 0) > max_bytes:
        raise too_large
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                if len(body) + len(chunk) > max_bytes:
                    raise too_large
                if ticket is not None:
                    ticket.grow(len(chunk))
                body += chunk
    except TimeoutError:
        raise BodyTimeoutError(
            f"the body must arrive within {timeout_s:g} s, {len(body)} bytes came; send it faster"
        ) from None
    except ClientDisconnect:
        raise CancelledWorkError("the client went away while it sent the body") from None
    # As it is: a copy of a snapshot would be as large again.
    return body
