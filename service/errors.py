"""The errors of the service, and every error as status, code and message of a response.

ServiceError (a VisionError with a status)
  BadRequestError 400, UnauthorizedError 401, ForbiddenError 403, NotFoundError 404, NotAcceptableError 406,
  BodyTimeoutError 408, SlowBodyError 408, ConflictError 409, BodyTooLargeError 413, UnsupportedMediaTypeError 415,
  InvalidParameterError 422, QueueFullError 429, RateLimitedError 429, InferenceFailedError 500, UnavailableError 503,
  DeadlineError 504
Errors of the library come through ``describe_error``, which also keeps paths of the server out of messages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from vision.errors import (
    ConfigError,
    DeviceMemoryError,
    InvalidInputError,
    LimitExceededError,
    MediaError,
    MissingDependencyError,
    ModelError,
    ModelNotFoundError,
    StateError,
    VisionError,
)


class ServiceError(VisionError):
    """An error with a status of its own; ``code`` is what programs look at, ``headers`` go into the response."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, code: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.error_code = code or self.code
        self.headers = headers or {}


class BadRequestError(ServiceError):
    """The request is malformed."""

    status, code = 400, "bad_request"


class UnauthorizedError(ServiceError):
    """No key, or one that is not known."""

    status, code = 401, "unauthorized"


class ForbiddenError(ServiceError):
    """The key may not do this."""

    status, code = 403, "forbidden"


class NotFoundError(ServiceError):
    """Nothing is there; ``code`` says what was looked for."""

    status, code = 404, "not_found"


class NotAcceptableError(ServiceError):
    """None of the accepted media types can be made."""

    status, code = 406, "not_acceptable"


class BodyTimeoutError(ServiceError):
    """The body did not arrive in time."""

    status, code = 408, "body_timeout"


class SlowBodyError(ServiceError):
    """The body came too slowly to be waited for, however long the client would wait."""

    status, code = 408, "body_timeout"


class ConflictError(ServiceError):
    """The state of the thing does not allow it now."""

    status, code = 409, "conflict"


class BodyTooLargeError(ServiceError):
    """The body is larger than allowed."""

    status, code = 413, "body_too_large"


class SessionTooLargeError(BodyTooLargeError):
    """What a stream remembers has outgrown its share of the memory."""

    code = "session_too_large"


class UnsupportedMediaTypeError(ServiceError):
    """The body's declared type is none that is read here."""

    status, code = 415, "unsupported_media_type"


class InvalidParameterError(ServiceError):
    """A parameter is unknown, of the wrong type or out of range."""

    status, code = 422, "invalid_parameter"


class _RetryLaterError(ServiceError):
    """An error that goes away by itself."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0, code: str | None = None) -> None:
        super().__init__(message, code=code, headers={"Retry-After": str(max(1, math.ceil(retry_after_s)))})


class QueueFullError(_RetryLaterError):
    """All places of the queue are taken."""

    status, code = 429, "queue_full"


class RateLimitedError(_RetryLaterError):
    """The key asks more often than it may."""

    status, code = 429, "rate_limited"


class UnavailableError(_RetryLaterError):
    """Not ready, draining, or out of memory."""

    status, code = 503, "not_ready"


class InferenceFailedError(ServiceError):
    """The network failed on this input; others are not concerned."""

    status, code = 500, "inference_failed"


class DeadlineError(ServiceError):
    """The answer was not there in time; the work was dropped."""

    status, code = 504, "deadline_exceeded"


class CancelledWorkError(ServiceError):
    """Nobody waits for the answer any more."""

    status, code = 499, "cancelled"


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """What a client is told of an error."""

    status: int
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> bytes:
        """Return the JSON body."""
        content: dict[str, Any] = {"code": self.code, "message": self.message, "request_id": request_id}
        return orjson.dumps({"error": content})


# From the most special to the most general: the first class that fits decides.
_LIBRARY_ERRORS: tuple[tuple[type[VisionError], int, str], ...] = (
    (LimitExceededError, 413, "image_too_large"),
    (MediaError, 422, "invalid_image"),
    (ModelNotFoundError, 404, "model_not_found"),
    (ConfigError, 422, "invalid_parameter"),
    (InvalidInputError, 422, "invalid_parameter"),
    (DeviceMemoryError, 503, "out_of_memory"),
    (MissingDependencyError, 503, "not_ready"),
    (StateError, 503, "not_ready"),
    (ModelError, 500, "model_failed"),
)

INTERNAL = ErrorReply(500, "internal", "the server failed on this request; its log has the request id")


def describe_error(error: BaseException) -> ErrorReply:
    """Return what a client is told of an error; anything but our own errors is "internal" and says nothing more."""
    if isinstance(error, ServiceError):
        return ErrorReply(error.status, error.error_code, str(error), error.headers)
    for kind, status, code in _LIBRARY_ERRORS:
        if isinstance(error, kind):
            return ErrorReply(status, code, without_path(error), {"Retry-After": "5"} if status == 503 else {})
    return INTERNAL


def without_path(error: VisionError) -> str:
    """Return the error's message with the folder of its file taken away: clients need not know where we live."""
    message = " ".join(str(error).split())
    if error.path is not None and error.path.parent.name:
        message = message.replace(f"{error.path.parent}/", "")
    return message
