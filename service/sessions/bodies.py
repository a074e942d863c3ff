"""The bodies of requests about sessions that are no pictures: options in JSON, and snapshots."""

from __future__ import annotations

from pydantic import ValidationError

from service.errors import (
    BadRequestError,
    InvalidParameterError,
)
from service.parameters import describe_errors
from service.sessions.requests import SessionRequest

MAX_OPTIONS_BYTES = 64 << 10


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
