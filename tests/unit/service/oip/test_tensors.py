"""Tensors as bytes and as JSON: round trips, and everything a client can get wrong."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.oip.json_tensors import read_json, write_json
from service.oip.limits import DEFAULT_LIMITS, OipError, OipLimits, quote
from service.oip.tensors import NUMPY_TYPES, Tensor, byte_size, from_bf16, read_binary, to_bf16, write_binary

NUMBERS = sorted(NUMPY_TYPES)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def read(datatype: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    return read_binary("x", datatype, shape, memoryview(data), DEFAULT_LIMITS)


def strings(*parts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


@st.composite
def number_tensors(draw: st.DrawFn) -> Tensor:
    datatype = draw(st.sampled_from(NUMBERS))
    array = draw(hnp.arrays(NUMPY_TYPES[datatype], SHAPES))
    if datatype == "BF16":
        array = from_bf16(to_bf16(array)).reshape(array.shape)
    return Tensor("x", datatype, array.shape, array)


@given(number_tensors())
@settings(max_examples=120, deadline=None)
def test_binary_numbers_come_back_bit_for_bit(tensor: Tensor) -> None:
    data = write_binary(tensor)
    assert len(data) == byte_size(tensor.datatype, tensor.shape)
    back = read(tensor.datatype, tensor.shape, data)
    assert back.array.shape == tensor.shape
    assert write_binary(back) == data
    np.testing.assert_array_equal(back.array, tensor.array)


@given(st.lists(st.binary(max_size=20), max_size=8))
@settings(max_examples=60, deadline=None)
def test_binary_strings_come_back(parts: list[bytes]) -> None:
    data = write_binary(Tensor.of_strings("x", [len(parts)], parts))
    assert data == strings(*parts)
    assert [bytes(part) for part in read("BYTES", (len(parts),), data).strings] == parts


@given(number_tensors(), st.booleans())
@settings(max_examples=120, deadline=None)
def test_json_numbers_come_back(tensor: Tensor, nested: bool) -> None:
    if tensor.array.dtype.kind == "f" and not np.isfinite(tensor.array).all():
        return
    data = tensor.array.tolist() if nested and tensor.shape else tensor.array.reshape(-1).tolist()
    back = read_json("x", tensor.datatype, tensor.shape, data, DEFAULT_LIMITS)
    np.testing.assert_array_equal(back.array, tensor.array)
    assert back.array.dtype == tensor.array.dtype


def test_bf16_rounds_to_the_nearest_and_keeps_nan() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -0.0, np.inf, np.nan, 3.0e38], np.float32)
    back = from_bf16(to_bf16(values))
    # Ties go to even: 1 + 1/256 down to 1, 1 + 3/256 up to 1 + 4/256.
    assert back[:4].tolist() == [1.0, 1.0, 1.015625, 0.0]
    assert np.signbit(back[3])
    assert np.isposinf(back[4])
    assert np.isnan(back[5])
    worst = np.array([0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(from_bf16(to_bf16(worst))).all()


def test_read_arrays_are_views_of_the_body() -> None:
    body = bytes(12)
    assert not read("UINT8", (2, 2, 3), body).array.flags.writeable
    assert np.shares_memory(read("UINT8", (12,), body).array, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "says"),
    [
        pytest.param("FP32", (2,), bytes(7), "binary_data_size 8", id="short"),
        pytest.param("FP32", (2,), bytes(9), "binary_data_size 8", id="long"),
        pytest.param("UINT8", (0, 3), bytes(1), "binary_data_size 0", id="zero size with bytes"),
        pytest.param("UINT64", (1 << 30, 1 << 30, 1 << 30), bytes(8), "binary_data_size", id="product beyond 64 bits"),
        pytest.param("BOOL", (2,), b"\x00\x02", "0 or 1", id="bool of 2"),
        pytest.param("BYTES", (1,), b"\x05\x00", "end in element 0", id="cut length"),
        pytest.param("BYTES", (1,), struct.pack("<I", 5) + b"abcd", "its length says 5", id="length beyond"),
        pytest.param("BYTES", (1,), struct.pack("<I", 0xFFFFFFFF), "4294967295", id="length of 4 GB"),
        pytest.param("BYTES", (2,), strings(b"a"), "end in element 1", id="too few"),
        pytest.param("BYTES", (1,), strings(b"a", b"b"), "5 bytes follow", id="too many"),
        pytest.param("BYTES", (0,), strings(b"a"), "5 bytes follow", id="none announced"),
        pytest.param("BYTES", (5000,), strings(*[b""] * 5000), "at most 4096", id="too many objects"),
    ],
)
def test_binary_tensors_that_lie_are_refused(datatype: str, shape: tuple[int, ...], data: bytes, says: str) -> None:
    with pytest.raises(OipError, match=says):
        read(datatype, shape, data)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "says"),
    [
        ("INT32", (2,), [1], "2 elements"),
        ("INT32", (2,), [1, 2, 3], "2 elements"),
        ("INT32", (2, 0), [1, 2], "0 elements"),
        ("INT32", (2,), "12", "JSON array"),
        ("INT32", (2,), None, "JSON array"),
        ("INT32", (2, 2), [[1, 2], [3]], "dimension 1"),
        ("INT32", (2, 2), [[1, 2], 3], "dimension 1"),
        ("INT32", (2, 2), [[1, 2]], "dimension 0"),
        ("INT32", (2,), [[1], [2]], "element 0 is a JSON array"),
        ("INT32", (1,), [1.0], "integers"),
        ("INT32", (1,), [True], "integers"),
        ("INT32", (1,), [None], "integers"),
        ("INT32", (2,), [1, {}], "element 1 is a JSON object"),
        ("INT8", (1,), [128], "-128 to 127"),
        ("UINT8", (1,), [-1], "0 to 255"),
        ("UINT64", (1,), [-1], "0 to"),
        ("BOOL", (1,), [1], "true and false"),
        ("FP32", (1,), [1e39], "finite"),
        ("FP16", (1,), [70000], "finite"),
        ("FP32", (1,), ["1"], "numbers"),
        ("BYTES", (1,), [1], "strings"),
        ("BYTES", (4097,), ["a"] * 4097, "at most 4096"),
    ],
)
def test_json_tensors_that_do_not_fit_are_refused(
    datatype: str, shape: tuple[int, ...], data: object, says: str
) -> None:
    with pytest.raises(OipError, match=says):
        read_json("x", datatype, shape, data, DEFAULT_LIMITS)


def test_a_long_text_among_numbers_costs_nothing() -> None:
    # np.array would make every element as wide as the text.
    with pytest.raises(OipError, match="numbers"):
        read_json("x", "FP32", (100_001,), [0.5] * 100_000 + ["x" * 1_000_000], DEFAULT_LIMITS)


@pytest.mark.parametrize(
    ("shape", "data"),
    [((), [7]), ((0,), []), ((2, 0), [[], []]), ((2, 0), []), ((0, 3), []), ((2, 0, 3), [[], []]), ((1, 1), [[7]])],
)
def test_scalars_and_empty_shapes_are_read(shape: tuple[int, ...], data: list[object]) -> None:
    assert read_json("x", "INT64", shape, data, DEFAULT_LIMITS).array.shape == shape


def test_text_is_read_as_utf8_and_bytes_that_are_no_text_are_not_written() -> None:
    tensor = read_json("x", "BYTES", (1, 2), [["a", "é"]], DEFAULT_LIMITS)
    assert tensor.strings == (b"a", b"\xc3\xa9")
    assert write_json(tensor) == ["a", "é"]
    with pytest.raises(OipError, match="binary_data"):
        write_json(Tensor.of_strings("x", [1], [b"\xff"]))


def test_the_wrong_kind_of_values_is_an_error_of_the_client() -> None:
    with pytest.raises(OipError, match="got BYTES"):
        _ = Tensor.of_strings("x", [0], []).array
    with pytest.raises(OipError, match="must be BYTES"):
        _ = Tensor.of("x", "FP32", np.zeros(1)).strings


def test_messages_do_not_echo_bodies() -> None:
    assert len(quote("x" * 10_000)) < 100
    assert quote([1] * 10_000) == "a JSON array of 10000"
    assert len(quote(10**300)) < 200


def test_the_limits_of_strings_hold_in_both_forms() -> None:
    limits = OipLimits(max_strings=1)
    with pytest.raises(OipError, match="at most 1"):
        read_binary("x", "BYTES", (2,), memoryview(strings(b"", b"")), limits)
    with pytest.raises(OipError, match="at most 1"):
        read_json("x", "BYTES", (2,), ["", ""], limits)
