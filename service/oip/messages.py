"""The inference request and response of the protocol: JSON, followed by the binary tensors it announces.

``Inference-Header-Content-Length`` says where the JSON ends; the binary tensors follow in the order of their tensors in
the JSON, each ``binary_data_size`` bytes, and nothing after them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.oip.fields import (
    check_keys,
    check_list,
    check_misspelt,
    read_binary_size,
    read_datatype,
    read_flag,
    read_id,
    read_name,
    read_parameters,
    read_shape,
    refuse_shared_memory,
)
from service.oip.json_tensors import read_json, write_json
from service.oip.limits import DEFAULT_LIMITS, OipError, OipLimits, quote
from service.oip.tensors import Tensor, read_binary, write_binary

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the client names.

    Attributes:
        name: as in the model's metadata.
        binary: whether its values come as bytes after the JSON.
        class_count: of the classification extension: how many best classes to give instead of the values; 0 for none.
    """

    name: str
    binary: bool = False
    class_count: int = 0


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A checked request.

    Attributes:
        id: the client's name for it, echoed in the answer; empty if there is none.
        parameters: all but ``binary_data_output``.
        inputs: at least one, with distinct names.
        outputs: those asked for, None for all.
        binary_output: whether outputs that are not named come as bytes.
    """

    id: str
    parameters: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[RequestedOutput, ...] | None
    binary_output: bool = False


@dataclass(frozen=True, slots=True)
class InferResponse:
    """An answer; ``binary`` names the outputs that are written as bytes."""

    model_name: str
    model_version: str
    id: str
    outputs: Sequence[Tensor]
    binary: frozenset[str] = frozenset()
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)


def parse_header_length(value: str | None, body_length: int) -> int | None:
    """Return the length of the JSON part, None without the header.

    Raises:
        OipError: it is not a plain number, or larger than the body.
    """
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise OipError(
            f"{HEADER_LENGTH} must be the JSON's length in bytes, got {quote(value)}; send digits, or leave it out "
            "where no binary tensor follows"
        )
    length = int(value)
    if length > body_length:
        raise OipError(
            f"{HEADER_LENGTH} must be at most the body's {body_length} bytes, got {length}; it counts the JSON part "
            "before compression"
        )
    return length


def parse_json(data: bytes | memoryview, limits: OipLimits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Return the JSON object in ``data``; NaN, deep nesting and invalid UTF-8 are no JSON.

    Raises:
        OipError: it is too long, has too many values, is no JSON, or no object.
    """
    if len(data) > limits.max_json_bytes:
        raise OipError(
            f"the JSON of a request must be at most {limits.max_json_bytes} bytes, got {len(data)}; send tensors as "
            "binary data"
        )
    data = bytes(data)
    containers = data.count(b"[") + data.count(b"{")
    if containers > limits.max_json_containers or data.count(b",") > limits.max_json_values:
        raise OipError(
            f"the JSON of a request must have at most {limits.max_json_values} values and "
            f"{limits.max_json_containers} arrays and objects, got more; send tensors as binary data"
        )
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise OipError(f"the request must be a JSON object, got something else: {exc.msg}; correct the body") from exc
    if not isinstance(content, dict):
        raise OipError(f"the request must be a JSON object, got {quote(content)}; wrap it in {{ }}")
    return content


def decode_request(body: bytes, header_length: str | None, limits: OipLimits = DEFAULT_LIMITS) -> InferRequest:
    """Return the request in a body that is not compressed any more.

    Args:
        body: JSON and binary tensors; the tensors of the result are views of it.
        header_length: value of the header ``Inference-Header-Content-Length``, None if it was not sent.
        limits: what a request may hold.

    Raises:
        OipError: anything in it breaks the protocol.
    """
    split = parse_header_length(header_length, len(body))
    whole = memoryview(body)
    content = parse_json(whole if split is None else whole[:split], limits)
    check_keys("the request", content, {"id", "parameters", "inputs", "outputs"})
    parameters = read_parameters("the request", content, limits)
    binary_output = read_flag("binary_data_output", parameters.pop("binary_data_output", False))
    binary = whole[len(body) if split is None else split :]
    return InferRequest(
        read_id(content.get("id")),
        parameters,
        _inputs(content.get("inputs"), binary, limits),
        _outputs(content.get("outputs"), binary_output, limits),
        binary_output,
    )


def encode_response(response: InferResponse) -> tuple[bytes, int | None]:
    """Return the body, and the length of its JSON part if binary tensors follow.

    Raises:
        OipError: a BYTES output that is no text was asked for as JSON.
    """
    outputs, parts = [], []
    for tensor in response.outputs:
        row: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if tensor.name in response.binary:
            parts.append(write_binary(tensor))
            row["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            row["data"] = write_json(tensor)
        outputs.append(row)
    content: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        content["id"] = response.id
    if response.parameters:
        content["parameters"] = dict(response.parameters)
    content["outputs"] = outputs
    head = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *parts]), len(head)) if parts else (head, None)


def _inputs(rows: Any, binary: memoryview, limits: OipLimits) -> tuple[Tensor, ...]:
    """Return the input tensors; the binary ones take their bytes in turn and must use up all of them."""
    check_list("inputs", rows, limits)
    if not rows:
        raise OipError("a request must have at least one input, got none; see the model's metadata")
    tensors: list[Tensor] = []
    offset = 0
    for row in rows:
        name = read_name("input", row, {"name", "shape", "datatype", "parameters", "data"}, tensors)
        datatype, shape = read_datatype(name, row.get("datatype")), read_shape(name, row.get("shape"), limits)
        size = read_binary_size(name, row, limits)
        if size is None:
            tensors.append(read_json(name, datatype, shape, row.get("data"), limits))
            continue
        if size > len(binary) - offset:
            raise OipError(
                f"binary_data_size of input {name!r} must be at most the {len(binary) - offset} bytes left after the "
                f"JSON, got {size}; correct it or {HEADER_LENGTH}"
            )
        tensors.append(read_binary(name, datatype, shape, binary[offset : offset + size], limits))
        offset += size
    if offset != len(binary):
        raise OipError(
            f"the binary data must be the {offset} bytes that the inputs announce, got {len(binary)}; correct "
            f"binary_data_size or {HEADER_LENGTH}"
        )
    return tuple(tensors)


def _outputs(rows: Any, binary: bool, limits: OipLimits) -> tuple[RequestedOutput, ...] | None:
    """Return the outputs asked for, None where the request names none."""
    if rows is None:
        return None
    check_list("outputs", rows, limits)
    wanted: list[RequestedOutput] = []
    for row in rows:
        name = read_name("output", row, {"name", "parameters"}, wanted)
        parameters = read_parameters(f"output {name!r}", row, limits)
        refuse_shared_memory(name, parameters)
        own = read_flag("binary_data", parameters.get("binary_data", binary))
        count = parameters.get("classification", 0)
        if type(count) is not int or not 0 <= count <= 1_000_000:
            raise OipError(
                f"classification of output {name!r} must be how many classes to give, got {quote(count)}; send a "
                "whole number above 0"
            )
        check_misspelt(f"parameters of output {name!r}", parameters, {"binary_data", "classification"})
        wanted.append(RequestedOutput(name, own, count))
    return tuple(wanted) or None
