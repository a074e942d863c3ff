"""Errors as answers: status, code, headers, and nothing about the server."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from service import errors
from service.errors import ErrorReply, ServiceError, describe_error
from vision.errors import (
    ConfigError,
    DeviceMemoryError,
    InvalidInputError,
    LimitExceededError,
    MediaError,
    MissingDependencyError,
    ModelNotFoundError,
    StateError,
    VisionError,
    WeightsError,
)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.BadRequestError("x"), 400, "bad_request"),
        (errors.UnauthorizedError("x"), 401, "unauthorized"),
        (errors.ForbiddenError("x"), 403, "forbidden"),
        (errors.NotFoundError("x"), 404, "not_found"),
        (errors.NotFoundError("x", code="job_not_found"), 404, "job_not_found"),
        (errors.NotAcceptableError("x"), 406, "not_acceptable"),
        (errors.BodyTimeoutError("x"), 408, "body_timeout"),
        (errors.ConflictError("x"), 409, "conflict"),
        (errors.BodyTooLargeError("x"), 413, "body_too_large"),
        (errors.UnsupportedMediaTypeError("x"), 415, "unsupported_media_type"),
        (errors.InvalidParameterError("x"), 422, "invalid_parameter"),
        (errors.QueueFullError("x"), 429, "queue_full"),
        (errors.RateLimitedError("x"), 429, "rate_limited"),
        (errors.InferenceFailedError("x"), 500, "inference_failed"),
        (errors.UnavailableError("x"), 503, "not_ready"),
        (errors.UnavailableError("x", code="draining"), 503, "draining"),
        (errors.DeadlineError("x"), 504, "deadline_exceeded"),
        (LimitExceededError("x"), 413, "image_too_large"),
        (MediaError("x"), 422, "invalid_image"),
        (InvalidInputError("x"), 422, "invalid_parameter"),
        (ConfigError("x"), 422, "invalid_parameter"),
        (ModelNotFoundError("x", ["y"]), 404, "model_not_found"),
        (StateError("x"), 503, "not_ready"),
        (MissingDependencyError("torch", extra="gpu", purpose="this"), 503, "not_ready"),
        (DeviceMemoryError("x"), 503, "out_of_memory"),
        (VisionError("x"), 500, "internal"),
        (ValueError("x"), 500, "internal"),
        (MemoryError(), 500, "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    reply = describe_error(error)
    assert (reply.status, reply.code) == (status, code)
    assert ("Retry-After" in reply.headers) == (status in (429, 503))


def test_body_has_code_message_and_request_id() -> None:
    body: Any = orjson.loads(ErrorReply(404, "not_found", "nothing is here").body("id-1"))
    assert body == {"error": {"code": "not_found", "message": "nothing is here", "request_id": "id-1"}}


@pytest.mark.parametrize("seconds", [0.0, 0.2, 1.0, 1.01, 59.5])
def test_retry_after_is_a_whole_number_of_seconds(seconds: float) -> None:
    value = errors.QueueFullError("x", retry_after_s=seconds).headers["Retry-After"]
    assert int(value) >= max(1, seconds)


def test_unforeseen_errors_say_nothing() -> None:
    assert "secret" not in describe_error(RuntimeError("/srv/secret/file is broken")).message


@pytest.mark.parametrize("folder", ["/srv/models/x", "models/x", "../models"])
def test_folder_of_a_file_is_taken_from_the_message(folder: str) -> None:
    path = f"{folder}/weights.safetensors"
    error = WeightsError(f"{path} must have digest a,\n got b", path=path)
    assert describe_error(error).message == "weights.safetensors must have digest a, got b"


def test_every_error_of_the_service_has_a_status_of_its_own_or_its_base() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)]
    assert all(400 <= kind.status < 600 for kind in kinds)
