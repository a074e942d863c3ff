"""The image routes in the OpenAPI description: their code reads requests by hand, so they are described by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.parameters import ImageParameters, openapi_parameters
from service.routes.answers import IMAGE_ANSWERS

_SIZE = {"width": 640, "height": 480}
_TIMINGS = {"decode": 2.1, "queue": 0.1, "infer": 24.5}
_BOX = {"box": [231.5, 84.2, 321.0, 402.7], "score": 0.91, "label": 0, "class_name": "person"}
EXAMPLES: dict[str, dict[str, Any]] = {
    "detect": {"model": "person-lite0", "image": _SIZE, "detections": [_BOX], "timings_ms": _TIMINGS},
    "segment": {
        "model": "street-fcn8s",
        "image": {"width": 4, "height": 2},
        "class_names": ["sky", "road"],
        "classes": [
            {"label": 0, "class_name": "sky", "pixels": 4, "share": 0.5},
            {"label": 1, "class_name": "road", "pixels": 4, "share": 0.5},
        ],
        "segmentation": {"size_hw": [2, 4], "dtype": "uint8", "values": [0, 1], "lengths": [4, 4]},
        "timings_ms": _TIMINGS,
    },
    "classify": {
        "model": "tf_efficientnet_lite0",
        "image": _SIZE,
        "classes": [{"label": 671, "class_name": "mountain bike", "score": 0.62, "assigned": True}],
        "value": None,
        "unit": "",
        "timings_ms": _TIMINGS,
    },
    "embed": {
        "model": "reid-lite",
        "image": _SIZE,
        "dim": 2,
        "boxes": [[10.0, 20.0, 110.0, 320.0]],
        "embeddings": [[0.6, 0.8]],
        "timings_ms": _TIMINGS,
    },
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {name: {"type": "string"} for name in ("code", "message", "request_id")},
        }
    },
}
_ERRORS = {
    400: "malformed request",
    401: "an API key is needed",
    403: "addresses are not fetched, or the key may not do this",
    404: "no such model",
    406: "no form of the answer is accepted",
    408: "the body did not arrive in time",
    413: "too many bytes or pixels",
    415: "the body is declared to be no picture",
    422: "no picture that can be decoded, or a wrong parameter",
    429: "the queue is full, or the key asks too often",
    500: "the model failed",
    503: "not ready, or going down",
    504: "no answer in time",
}


def error_responses(*statuses: int, own: Mapping[int, str] | None = None) -> dict[int | str, dict[str, Any]]:
    """Return the description of error answers; ``own`` says what a status means on this route."""
    texts = {**_ERRORS, **(own or {})}
    content = {"application/json": {"schema": ERROR_SCHEMA}}
    return {status: {"description": texts.get(status, "error"), "content": content} for status in statuses}


def describe_image_route(task: str, parameters: type[ImageParameters]) -> dict[str, Any]:
    """Return what ``router.post`` gets for a route that takes a picture."""
    forms: dict[str, Any] = {"application/json": {"example": EXAMPLES[task]}}
    if task != "embed":
        forms |= {"image/jpeg": _BINARY, "image/png": _BINARY}
    pictures = dict.fromkeys(("image/jpeg", "image/png", "image/webp", "application/octet-stream"), _BINARY)
    form = {
        "schema": {
            "type": "object",
            "required": ["image"],
            "properties": {"image": {"type": "string", "format": "binary"}},
        }
    }
    address = {
        "schema": {
            "type": "object",
            "required": ["url"],
            "additionalProperties": False,
            "properties": {"url": {"type": "string", "description": "Only where the operator allows hosts for it."}},
        }
    }
    return {
        "response_model": None,
        "responses": {
            200: {
                "model": IMAGE_ANSWERS[task],
                "description": "The answer, in the form that Accept names.",
                "content": forms,
            },
            **error_responses(*_ERRORS),
        },
        "openapi_extra": {
            "parameters": openapi_parameters(parameters),
            "requestBody": {
                "required": True,
                "content": {**pictures, "multipart/form-data": form, "application/json": address},
            },
        },
    }
