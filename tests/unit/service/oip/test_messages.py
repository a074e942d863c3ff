"""Requests and responses: what tritonclient writes is read, and the other way round; malformed ones are OipError."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.http import InferInput, InferRequestedOutput, InferResult
from tritonclient.http._utils import _get_inference_request

from service.oip.limits import OipError, OipLimits
from service.oip.messages import InferResponse, RequestedOutput, decode_request, encode_response
from service.oip.tensors import Tensor

PICTURES = [b"\xff\xd8 one", b"", b"\x89PNG two"]


def triton_request(binary: bool = True) -> tuple[bytes, str | None]:
    """Return a request with three inputs as NVIDIA's client writes it."""
    first = InferInput("image", [3, 1], "BYTES")
    texts = np.array([[b"a"], [b""], [b"c"]] if not binary else [[part] for part in PICTURES], np.object_)
    first.set_data_from_numpy(texts, binary_data=binary)
    second = InferInput("boxes", [2, 4], "FP32")
    second.set_data_from_numpy(np.arange(8, dtype=np.float32).reshape(2, 4), binary_data=False)
    third = InferInput("pixels", [1, 2, 3], "UINT8")
    third.set_data_from_numpy(np.arange(6, dtype=np.uint8).reshape(1, 2, 3), binary_data=binary)
    outputs = [InferRequestedOutput("scores", binary_data=False, class_count=2), InferRequestedOutput("labels")]
    body, size = _get_inference_request([first, second, third], "id-7", outputs, 0, False, False, 0, 5, {"conf": 0.5})
    return body, None if size is None else str(size)


def message(content: Any, binary: bytes = b"") -> tuple[bytes, str | None]:
    head = content if isinstance(content, bytes) else orjson.dumps(content)
    return head + binary, str(len(head)) if binary else None


def one_input(**changes: Any) -> dict[str, Any]:
    row = {"name": "x", "shape": [1], "datatype": "INT32", "data": [1]} | changes
    return {"inputs": [{key: value for key, value in row.items() if value is not ...}]}


def binary_input(size: Any, shape: list[Any] | None = None, datatype: str = "UINT8") -> dict[str, Any]:
    return one_input(data=..., shape=shape or [4], datatype=datatype, parameters={"binary_data_size": size})


def assert_request_or_error(body: bytes, header: str | None) -> None:
    """Anything but a request or a short OipError fails the test."""
    error = None
    try:
        request = decode_request(body, header)
    except OipError as exc:
        error = exc
    else:
        assert request.inputs
    assert error is None or (error.status == 400 and 0 < len(str(error)) < 1000)


@pytest.mark.parametrize("binary", [True, False])
def test_a_request_of_tritonclient_is_read(binary: bool) -> None:
    body, header = triton_request(binary)
    request = decode_request(body, header)
    assert request.id == "id-7"
    assert request.parameters == {"conf": 0.5, "timeout": 5}
    image, boxes, pixels = request.inputs
    assert (image.shape, image.from_json) == ((3, 1), not binary)
    assert [bytes(part) for part in image.strings] == (PICTURES if binary else [b"a", b"", b"c"])
    assert boxes.array.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert pixels.array.tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert request.outputs == (RequestedOutput("scores", False, 2), RequestedOutput("labels", True))


def test_no_outputs_named_means_all_and_binary_by_the_parameter() -> None:
    request = decode_request(*message(one_input() | {"parameters": {"binary_data_output": True}}))
    assert request.outputs is None
    assert request.binary_output
    assert request.parameters == {}
    named = decode_request(*message(one_input() | {"outputs": [], "parameters": {"binary_data_output": False}}))
    assert named.outputs is None
    assert not named.binary_output
    # What one output says wins over the request.
    rows = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    both = decode_request(*message(one_input() | {"outputs": rows, "parameters": {"binary_data_output": True}}))
    assert both.outputs == (RequestedOutput("a", True), RequestedOutput("b", False))


def test_parameters_of_other_servers_are_ignored() -> None:
    content = one_input(parameters={"content_type": "base64"}) | {"parameters": {"content_type": "str", "headers": {}}}
    content["outputs"] = [{"name": "y", "parameters": {"content_type": "np", "binary_data": True}}]
    request = decode_request(*message(content))
    assert len(request.inputs) == 1
    assert request.outputs == (RequestedOutput("y", True),)


@pytest.mark.parametrize("binary", [frozenset(), frozenset({"boxes"}), frozenset({"boxes", "names", "empty", "half"})])
def test_a_response_is_read_by_tritonclient(binary: frozenset[str]) -> None:
    boxes = np.linspace(0, 1, 8, dtype=np.float32).reshape(1, 2, 4)
    outputs = [
        Tensor.of("boxes", "FP32", boxes),
        Tensor.of_strings("names", [2], ["ü".encode(), b"b"]),
        Tensor.of("empty", "INT64", np.zeros((1, 0), np.int64)),
        Tensor.of("half", "FP16", np.array([0.5, 2.0], np.float16)),
    ]
    body, size = encode_response(InferResponse("m", "1", "id-7", outputs, binary, {"infer_ms": 1.5}))
    assert (size is None) == (not binary)
    result = InferResult.from_response_body(body, header_length=size)
    np.testing.assert_array_equal(result.as_numpy("boxes"), boxes)
    names = [name if isinstance(name, bytes) else name.encode() for name in result.as_numpy("names")]
    assert names == ["ü".encode(), b"b"]
    assert result.as_numpy("empty").shape == (1, 0)
    assert result.as_numpy("half").tolist() == [0.5, 2.0]
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("m", "1", "id-7")
    assert answer["parameters"] == {"infer_ms": 1.5}


MALFORMED = {
    "empty": (b"", "JSON object"),
    "no json": (b"{", "JSON object"),
    "array": (b"[1]", "JSON array of 1"),
    "nan": (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}', "JSON object"),
    "infinity": (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1e999]}]}', "JSON object"),
    "deep": (b'{"inputs":' + b"[" * 5000 + b"]" * 5000 + b"}", "JSON object"),
    "latin-1": ('{"id":"é"}'.encode("latin-1"), "JSON object"),
    "unknown key": (one_input() | {"input": []}, "did you mean 'inputs'"),
    "no inputs": ({"inputs": []}, "at least one input"),
    "inputs missing": ({}, "JSON array"),
    "inputs as object": ({"inputs": {}}, "JSON array"),
    "input as text": ({"inputs": ["x"]}, "JSON object"),
    "too many inputs": ({"inputs": one_input()["inputs"] * 17}, "at most 16"),
    "same input twice": ({"inputs": one_input()["inputs"] * 2}, "twice"),
    "no name": (one_input(name=...), "name"),
    "name of a number": (one_input(name=1), "name"),
    "long name": (one_input(name="x" * 101), "name"),
    "id of a number": (one_input() | {"id": 1}, "id must be"),
    "long id": (one_input() | {"id": "x" * 257}, "id must be"),
    "unknown datatype": (one_input(datatype="INT33"), "did you mean"),
    "datatype of a list": (one_input(datatype=["INT32"]), "datatype"),
    "no shape": (one_input(shape=...), "shape"),
    "shape of a number": (one_input(shape=1), "shape"),
    "negative dim": (one_input(shape=[-1]), "-1 stands in metadata"),
    "fractional dim": (one_input(shape=[1.0]), "whole number"),
    "true dim": (one_input(shape=[True]), "whole number"),
    "huge dim": (one_input(shape=[1 << 40]), "whole number"),
    "overflowing product": (one_input(shape=[1 << 30] * 8), "fit a request"),
    "overflow beside zero": (one_input(shape=[0] + [1 << 30] * 7, data=[]), "fit a request"),
    "too many dims": (one_input(shape=[1] * 9), "at most 8"),
    "no data": (one_input(data=...), "neither"),
    "both forms": (one_input(parameters={"binary_data_size": 0}), "both"),
    "unknown input parameter": (one_input(parameters={"binary_size": 4}), "did you mean"),
    "unknown output parameter": (
        one_input() | {"outputs": [{"name": "y", "parameters": {"binary-data": True}}]},
        "did you mean 'binary_data'",
    ),
    "shared memory": (one_input(data=..., parameters={"shared_memory_region": "r"}), "shared memory"),
    "shared memory output": (
        one_input() | {"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]},
        "shared memory",
    ),
    "parameters as list": (one_input() | {"parameters": []}, "JSON object"),
    "too many parameters": (one_input() | {"parameters": {str(n): n for n in range(65)}}, "at most 64"),
    "binary flag as text": (one_input() | {"parameters": {"binary_data_output": "yes"}}, "true or false"),
    "class count as text": (one_input() | {"outputs": [{"name": "y", "parameters": {"classification": "3"}}]}, "class"),
    "class count negative": (one_input() | {"outputs": [{"name": "y", "parameters": {"classification": -1}}]}, "class"),
    "outputs as object": (one_input() | {"outputs": {}}, "JSON array"),
    "same output twice": (one_input() | {"outputs": [{"name": "y"}, {"name": "y"}]}, "twice"),
    "size without bytes": (binary_input(4), "at most the 0 bytes"),
    "size of text": (binary_input("4"), "whole number"),
    "size negative": (binary_input(-4), "whole number"),
    "size true": (binary_input(True), "whole number"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_json_is_refused(case: str) -> None:
    content, says = MALFORMED[case]
    with pytest.raises(OipError, match=says):
        decode_request(*message(content))


@pytest.mark.parametrize(
    ("content", "binary", "says"),
    [
        (binary_input(4), b"123", "at most the 3 bytes"),
        (binary_input(4), b"12345", "4 bytes that the inputs announce, got 5"),
        (one_input(), b"1", "0 bytes that the inputs announce"),
        (binary_input(4, shape=[5]), b"1234", "binary_data_size 5"),
        (binary_input(4, shape=[1 << 20, 1 << 20], datatype="FP64"), b"1234", "binary_data_size"),
    ],
)
def test_binary_parts_that_do_not_fit_are_refused(content: dict[str, Any], binary: bytes, says: str) -> None:
    with pytest.raises(OipError, match=says):
        decode_request(*message(content, binary))


@pytest.mark.parametrize("header", ["-1", "+5", "1e2", "", " 5", "5 ", "0x5", "५", "9" * 13, "5, 5", "999999", "nan"])
def test_header_lengths_that_lie_are_refused(header: str) -> None:
    with pytest.raises(OipError, match="Inference-Header-Content-Length"):
        decode_request(message(one_input())[0], header)


def test_a_header_length_that_cuts_the_json_is_refused() -> None:
    body, _ = message(one_input())
    for length in (0, 1, len(body) - 1):
        with pytest.raises(OipError):
            decode_request(body, str(length))
    assert decode_request(body, str(len(body))).inputs[0].array.tolist() == [1]


def test_a_long_json_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(OipError, match="binary"):
        decode_request(b" " * 101, None, OipLimits(max_json_bytes=100))


@pytest.mark.parametrize("data", [b"[1,2,3,4]", b"[[],[]]", b"[{}]"])
def test_a_json_of_many_values_is_refused_before_it_is_parsed(data: bytes) -> None:
    content = b'{"inputs":[' + data + b"]}"
    with pytest.raises(OipError, match="send tensors as binary data"):
        decode_request(content, None, OipLimits(max_json_values=2, max_json_containers=3))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_request_gives_a_request_or_oip_error(data: st.DataObject) -> None:
    body, header = triton_request()
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["set", "cut", "insert", "delete"]))
        if not damaged:
            break
        at = data.draw(st.integers(0, len(damaged) - 1))
        if kind == "set":
            damaged[at] = data.draw(st.sampled_from([0, 1, 0x2D, 0x30, 0x39, 0x5B, 0x7B, 0x80, 0xFF]))
        elif kind == "cut":
            del damaged[at:]
        elif kind == "insert":
            damaged[at:at] = data.draw(st.sampled_from([b"0", b"-", b"[", b"]", b'"', b"9" * 20, b"\x00" * 4, b"null"]))
        else:
            del damaged[at : at + data.draw(st.integers(1, 8))]
    lie = data.draw(st.sampled_from([header, header, None, "0", str(len(damaged)), "-1"]))
    assert_request_or_error(bytes(damaged), lie)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.sampled_from(["BYTES", "FP32", "UINT8", "BOOL"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["name", "shape", "datatype", "data", "parameters", "binary_data_size", "classification"]),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("id", "inputs", "outputs", "parameters"), json_values)),
    st.binary(max_size=16),
)
@settings(max_examples=200, deadline=None)
def test_any_json_gives_a_request_or_oip_error(content: dict[str, Any], binary: bytes) -> None:
    assert_request_or_error(*message(content, binary))


def test_strings_with_lengths_in_the_other_byte_order_are_refused() -> None:
    content = binary_input(5, shape=[1], datatype="BYTES")
    with pytest.raises(OipError, match="little-endian"):
        decode_request(*message(content, struct.pack(">I", 1) + b"a"))
