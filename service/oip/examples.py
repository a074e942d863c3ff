"""Examples of the protocol for the OpenAPI description; a test sends the requests and compares the forms of answers."""

from __future__ import annotations

from typing import Any

from service.oip.schema import ModelSchema, server_metadata
from service.oip.statistics import ModelStatistics

Responses = dict[int | str, dict[str, Any]]

# The smallest JPEG-free picture that can be written down: a PNG of one grey pixel.
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
_DETECTOR = ModelSchema("person-lite0", "detect", ("person",))
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "What was expected, what was found, what to do."}},
}
INFER_REQUEST: dict[str, Any] = {
    "id": "42",
    "parameters": {"conf": 0.4},
    "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [_PNG]}],
    "outputs": [{"name": "boxes"}, {"name": "scores"}, {"name": "num_detections"}],
}
INFER_ANSWER: dict[str, Any] = {
    "model_name": "person-lite0",
    "model_version": "1",
    "id": "42",
    "outputs": [
        {"name": "boxes", "datatype": "FP32", "shape": [1, 1, 4], "data": [10.5, 20.0, 110.25, 320.0]},
        {"name": "scores", "datatype": "FP32", "shape": [1, 1], "data": [0.93]},
        {"name": "num_detections", "datatype": "INT32", "shape": [1], "data": [1]},
    ],
}
_INPUT_SCHEMA = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 100},
        "shape": {"type": "array", "maxItems": 8, "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": ["BYTES", "UINT8", "FP32"]},
        "data": {"type": "array", "items": {}},
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"binary_data_size": {"type": "integer", "minimum": 0}},
        },
    },
}
_OUTPUT_SCHEMA = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "binary_data": {"type": "boolean"},
                "classification": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
            },
        },
    },
}
INFER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "maxLength": 256},
        "parameters": {"type": "object", "description": "Thresholds of the task, timeout_ms, binary_data_output."},
        "inputs": {"type": "array", "minItems": 1, "maxItems": 16, "items": _INPUT_SCHEMA},
        "outputs": {"type": "array", "maxItems": 16, "items": _OUTPUT_SCHEMA},
    },
}


def _json_body(schema: dict[str, Any], example: Any, *, binary: bool = False, required: bool = True) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": schema, "example": example}}
    if binary:
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": required, "content": content}}


def _answers(example: Any, *, errors: dict[int, str] | None = None, binary: bool = False) -> Responses:
    """Return the description of an answer with an example, and of errors by status."""
    content: dict[str, Any] = {"application/json": {"example": example}}
    if binary:
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    made: Responses = {200: {"description": "The answer.", "content": content}}
    for status, text in (errors or {}).items():
        made[status] = {"description": text, "content": {"application/json": {"schema": _ERROR}}}
    return made


_NO_MODEL = {404: "No such model or version.", 503: "The server is starting."}
_READY_ERRORS = {404: "No such model or version.", 503: "It is not ready."}
_INFER_ERRORS = {
    400: "The message is malformed, or asks for what the model does not have.",
    404: "No such model or version.",
    408: "The body took too long.",
    413: "The body or a picture is too large.",
    415: "The Content-Encoding is not gzip or deflate.",
    422: "A picture cannot be decoded, or a threshold does not fit the model.",
    429: "The queue is full.",
    500: "The model failed on a picture.",
    503: "The model is not loaded, or the server goes down.",
    504: "The answer was not there in time.",
}

SERVER = _answers(server_metadata("0.1.0"))
LIVE = _answers({"live": True})
READY = _answers({"ready": True}, errors={503: "It is not."})
METADATA = _answers(_DETECTOR.metadata(), errors=_NO_MODEL)
CONFIG = _answers(_DETECTOR.config(), errors=_NO_MODEL)
MODEL_READY = _answers({"name": "person-lite0", "ready": True}, errors=_READY_ERRORS)
STATISTICS = _answers({"model_stats": [ModelStatistics().to_dict("person-lite0")]}, errors=_NO_MODEL)
INFER = _answers(INFER_ANSWER, errors=_INFER_ERRORS, binary=True)
INDEX = _answers(
    [{"name": "person-lite0", "version": "1", "state": "READY", "reason": ""}],
    errors={
        400: "The body is no JSON object with ready as true or false.",
        503: "The server is starting, or stopping.",
    },
)
INDEX_BODY = _json_body(
    {"type": "object", "additionalProperties": False, "properties": {"ready": {"type": "boolean"}}},
    {"ready": True},
    required=False,
)
CHANGED = _answers(
    {},
    errors={
        400: "The body asks for what is not offered.",
        403: "The key is no admin key.",
        404: "No such model.",
        500: "The model cannot be loaded.",
    },
)


def describe_infer(*more: str) -> dict[str, Any]:
    """Return the description of inference: its body, and its path's parameters ``model`` and ``more``."""
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in ("model", *more)
    ]
    return {"parameters": parameters, **_json_body(INFER_SCHEMA, INFER_REQUEST, binary=True)}
