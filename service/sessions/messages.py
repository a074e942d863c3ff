"""The messages of a session's WebSocket: text that clients send before a picture, and what they are told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BadRequestError, ServiceError, describe_error
from service.sessions.answer import Answer
from service.sessions.requests import MAX_SEQUENCE, MAX_TIMESTAMP_S

if TYPE_CHECKING:
    from service.sessions.session import Session

log = logging.getLogger(__name__)

MAX_TEXT = 1024
"""Characters of a frame's header; those that we read have fewer than a hundred."""


class FrameHeader(BaseModel):
    """What a text message says of the picture that comes next."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    type: Literal["frame"]
    sequence: Annotated[int, Field(ge=0, le=MAX_SEQUENCE)] | None = None
    timestamp_s: Annotated[float, Field(ge=0, le=MAX_TIMESTAMP_S)] | None = None


def ready_message(session: Session) -> bytes:
    """Return what the server says first."""
    return orjson.dumps(
        {
            "type": "ready",
            "session": session.session_id,
            "credit": session.work.credit,
            "next_sequence": session.next_sequence,
        }
    )


def read_header(text: str, *, pending: FrameHeader | Exception | None) -> FrameHeader | Exception:
    """Return what a text message says of the next picture, or what is wrong with it: told when the picture comes."""
    if isinstance(pending, Exception):
        return pending
    if pending is not None:
        return BadRequestError(
            "a frame's header must be followed by its picture (a binary message), got a second text message; send one "
            "header, then one picture"
        )
    if len(text) > MAX_TEXT:
        return BadRequestError(
            f"a frame's header must have at most {MAX_TEXT} characters, got {len(text)}; send pictures as binary "
            "messages"
        )
    try:
        return FrameHeader.model_validate(orjson.loads(text))
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        found = f"{'.'.join(str(part) for part in error['loc']) or 'the message'}: {error['msg']}"
    except orjson.JSONDecodeError:
        found = "no JSON"
    return BadRequestError(
        'a text message must be a frame\'s header such as {"type": "frame", "sequence": 7, "timestamp_s": 0.28}, got '
        f"{found}; correct it, or send the picture alone"
    )


def result_message(answer: Answer) -> bytes:
    """Return the message of a frame's answer; it gives the frame's credit back."""
    # The stored answer is an object already; it is opened at both ends instead of being parsed and written again.
    replay = b'"replay":true,' if answer.replayed else b""
    return b'{"type":"result",' + replay + answer.body[1:-1] + b',"credit":1}'


def error_message(error: Exception, sequence: int | None) -> bytes:
    """Return the message of a frame that has no result; its credit comes back all the same."""
    reply = describe_error(error)
    if reply.status >= 500 and not isinstance(error, ServiceError):
        log.error("a frame failed", exc_info=error)
    content: dict[str, Any] = {"code": reply.code, "message": reply.message}
    return orjson.dumps({"type": "error", "error": content, "sequence": sequence, "credit": 1})
