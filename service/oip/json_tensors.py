"""Tensor data as JSON: flat or nested as the shape says, row-major; BYTES as text.

The checks run at the speed of C (``map``, ``set``, ``chain``): a picture is millions of numbers. numpy sees the values
only when every one is known to be a number of the right kind, for ``np.array`` of mixed lists guesses, and may allocate
far more than was sent.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from service.oip.limits import OipError, OipLimits, quote
from service.oip.tensors import BF16, BOOL, BYTES, NUMPY_TYPES, Tensor, element_count, from_bf16, to_bf16

_INT, _BOOL, _TEXT, _NUMBERS = frozenset({int}), frozenset({bool}), frozenset({str}), frozenset({int, float})


def read_json(name: str, datatype: str, shape: tuple[int, ...], data: Any, limits: OipLimits) -> Tensor:
    """Return the tensor of parsed JSON ``data``.

    Raises:
        OipError: nesting or count do not fit the shape, or a value is not of the datatype.
    """
    flat = _flatten(name, data, shape)
    if datatype == BYTES:
        if len(flat) > limits.max_strings:
            raise OipError(
                f"BYTES input {name!r} must have at most {limits.max_strings} elements, got {len(flat)}; send fewer a "
                "request"
            )
        _check_types(name, datatype, flat, _TEXT, "strings")
        return Tensor(name, BYTES, shape, tuple(text.encode() for text in flat), from_json=True)
    if datatype == BOOL:
        _check_types(name, datatype, flat, _BOOL, "true and false")
        return Tensor(name, BOOL, shape, np.array(flat, np.bool_).reshape(shape), from_json=True)
    dtype = NUMPY_TYPES[datatype]
    array = _floats(name, datatype, flat) if dtype.kind == "f" else _integers(name, datatype, flat)
    return Tensor(name, datatype, shape, array.reshape(shape), from_json=True)


def write_json(tensor: Tensor) -> Any:
    """Return what orjson writes as a tensor's data: a flat array, or a list of text.

    Raises:
        OipError: an element of a BYTES tensor is no UTF-8 text; JSON cannot carry it.
    """
    if isinstance(tensor.values, tuple):
        try:
            return [bytes(string).decode() for string in tensor.values]
        except UnicodeDecodeError as exc:
            raise OipError(
                f"output {tensor.name!r} must be UTF-8 to be sent as JSON, {exc.reason}; ask for it with binary_data"
            ) from exc
    values = tensor.values.reshape(-1)
    # orjson has no float16 on all its supported releases.
    return values.astype(np.float32) if values.dtype == np.float16 else np.ascontiguousarray(values)


def _flatten(name: str, data: Any, shape: tuple[int, ...]) -> list[Any]:
    """Return the elements of flat or nested data, checked against the shape level by level."""
    count = element_count(shape)
    if not isinstance(data, list):
        raise OipError(f"the data of input {name!r} must be a JSON array, got {quote(data)}; wrap it in [ ]")
    if not (data and isinstance(data[0], list)):
        if len(data) != count:
            raise OipError(
                f"input {name!r} must have {count} elements for shape {list(shape)}, got {len(data)}; correct either"
            )
        return data
    level: list[Any] = [data]
    for axis, length in enumerate(shape):
        if set(map(type, level)) - {list} or set(map(len, level)) - {length}:
            raise OipError(
                f"nested data of input {name!r} must follow its shape {list(shape)}, dimension {axis} does not have "
                f"{length} everywhere; correct the shape, or send the elements as one flat array"
            )
        level = list(chain.from_iterable(level))
    return level


def _check_types(name: str, datatype: str, flat: list[Any], allowed: frozenset[type], words: str) -> None:
    """Raise OipError unless every element is of an allowed type; a bool is no number here."""
    wrong = set(map(type, flat)) - allowed
    if wrong:
        index = next(position for position, value in enumerate(flat) if type(value) not in allowed)
        raise OipError(
            f"{datatype} input {name!r} must hold {words}, element {index} is {quote(flat[index])}; correct the data "
            "or the datatype"
        )


def _integers(name: str, datatype: str, flat: list[Any]) -> npt.NDArray[Any]:
    """Return integers as an array; numpy versions differ in what they do beyond the range, so it is checked first."""
    _check_types(name, datatype, flat, _INT, "integers")
    dtype = NUMPY_TYPES[datatype]
    bounds = np.iinfo(dtype)
    if flat and not (bounds.min <= min(flat) and max(flat) <= bounds.max):
        raise OipError(
            f"{datatype} input {name!r} must hold integers from {bounds.min} to {bounds.max}, got {min(flat)} to "
            f"{max(flat)}; choose a wider datatype"
        )
    return np.array(flat, dtype)


def _floats(name: str, datatype: str, flat: list[Any]) -> npt.NDArray[Any]:
    """Return numbers as an array of floats; one that becomes infinite in the datatype is an error."""
    _check_types(name, datatype, flat, _NUMBERS, "numbers")
    with np.errstate(over="ignore"):
        array = np.array(flat, np.float64).astype(NUMPY_TYPES[datatype])
    if datatype == BF16 and array.size:
        # The values that BF16 can hold: what writing and reading the bits gives.
        array = from_bf16(to_bf16(array))
    if not np.isfinite(array).all():
        raise OipError(f"{datatype} input {name!r} must hold finite numbers of its range; choose a wider datatype")
    return array
