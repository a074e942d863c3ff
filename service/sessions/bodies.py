"""The bodies of requests about sessions that are no pictures: options in JSON, and snapshots."""

from __future__ import annotations

import asyncio

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from service.admission import Ticket
from service.errors import (
    BadRequestError,
    BodyTimeoutError,
    BodyTooLargeError,
    CancelledWorkError,
    InvalidParameterError,
)
from service.parameters import describe_errors
from service.sessions.requests import SessionRequest
from service.uploads import content_length

MAX_OPTIONS_BYTES = 64 << 10


async def read_body(request: Request, max_bytes: int, timeout_s: float, ticket: Ticket | None = None) -> bytearray:
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


def read_options(body: bytes | bytearray) -> SessionRequest:
    """Return the options of a new session; raises BadRequestError and InvalidParameterError."""
    if not body.strip():
        return SessionRequest.model_validate({})
    try:
        return SessionRequest.model_validate_json(body, strict=True)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False)
    if any(error["type"] == "json_invalid" for error in errors):
        raise BadRequestError(
            'the body must be a JSON object such as {"tracker": "bytetrack"}, or empty, got something that cannot be '
            "read as JSON; correct it"
        )
    raise InvalidParameterError(describe_errors(errors, SessionRequest.model_fields))
