"""One named tensor of a message, and its bytes in the binary extension.

Numbers are little-endian, row-major. BF16 has no numpy type: its values are float32 that BF16 can hold. BYTES is a list
of byte strings, each with its length in four bytes before it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.oip.limits import OipError, OipLimits

BYTES, BF16, BOOL = "BYTES", "BF16", "BOOL"
NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    BOOL: np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    BF16: np.dtype("<f4"),
}
DATATYPES = (*NUMPY_TYPES, BYTES)
LENGTH_BYTES = 4

Bytes = bytes | memoryview
Strings = tuple[Bytes, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor as it was read, or as it will be written.

    Attributes:
        name: as the model's metadata has it.
        datatype: one of ``DATATYPES``.
        shape: its dimensions, none negative.
        values: an array of that shape; for BYTES the elements in row-major order, read ones as views of the body.
        from_json: whether the values came as JSON, where BYTES is text.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: npt.NDArray[Any] | Strings
    from_json: bool = False

    @classmethod
    def of(cls, name: str, datatype: str, array: npt.NDArray[Any]) -> Tensor:
        """Return the tensor of an array, which is cast to the datatype's numpy type."""
        return cls(name, datatype, array.shape, np.ascontiguousarray(array, NUMPY_TYPES[datatype]).reshape(array.shape))

    @classmethod
    def of_strings(cls, name: str, shape: Sequence[int], strings: Sequence[Bytes]) -> Tensor:
        """Return a BYTES tensor; ``shape`` must hold as many elements as there are strings."""
        return cls(name, BYTES, tuple(shape), tuple(strings))

    @property
    def array(self) -> npt.NDArray[Any]:
        """The values of a tensor of numbers."""
        if isinstance(self.values, tuple):
            raise OipError(f"tensor {self.name!r} must hold numbers, got BYTES; send its datatype as in the metadata")
        return self.values

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return sum(map(len, self.values)) if isinstance(self.values, tuple) else self.values.nbytes

    @property
    def strings(self) -> Strings:
        """The values of a BYTES tensor, row-major."""
        if not isinstance(self.values, tuple):
            raise OipError(f"tensor {self.name!r} must be BYTES, got {self.datatype}; send it as in the metadata")
        return self.values


def element_count(shape: Sequence[int]) -> int:
    """Return how many elements a shape holds; Python's integers do not overflow."""
    return math.prod(shape)


def byte_size(datatype: str, shape: Sequence[int]) -> int | None:
    """Return the size of a binary tensor, or None for BYTES, whose elements say it themselves."""
    if datatype == BYTES:
        return None
    return element_count(shape) * (2 if datatype == BF16 else NUMPY_TYPES[datatype].itemsize)


def read_binary(name: str, datatype: str, shape: tuple[int, ...], data: memoryview, limits: OipLimits) -> Tensor:
    """Return the tensor in ``data``, which it must fill exactly; numbers and strings are views of it.

    Raises:
        OipError: the size is not that of datatype and shape, a length reaches beyond the buffer, or a BOOL is no 0 or
            1.
    """
    expected = byte_size(datatype, shape)
    if expected is None:
        return Tensor(name, BYTES, shape, _read_strings(name, element_count(shape), data, limits))
    if len(data) != expected:
        raise OipError(
            f"input {name!r} must have binary_data_size {expected} for {datatype} {list(shape)}, got {len(data)}; "
            "correct shape, datatype or size"
        )
    if datatype == BF16:
        return Tensor(name, BF16, shape, from_bf16(np.frombuffer(data, "<u2")).reshape(shape))
    if datatype == BOOL:
        flags = np.frombuffer(data, np.uint8)
        if flags.size and flags.max() > 1:
            raise OipError(f"input {name!r} must hold bytes 0 or 1 as BOOL, got {int(flags.max())}; send UINT8 instead")
        return Tensor(name, BOOL, shape, flags.view(np.bool_).reshape(shape))
    return Tensor(name, datatype, shape, np.frombuffer(data, NUMPY_TYPES[datatype]).reshape(shape))


def write_binary(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor as the binary extension has them."""
    if isinstance(tensor.values, tuple):
        parts: list[Bytes] = []
        for string in tensor.values:
            parts += (struct.pack("<I", len(string)), string)
        return b"".join(parts)
    if tensor.datatype == BF16:
        return to_bf16(tensor.values).tobytes()
    return tensor.values.astype(NUMPY_TYPES[tensor.datatype], copy=False).tobytes()


def _read_strings(name: str, count: int, data: memoryview, limits: OipLimits) -> Strings:
    """Return the elements of a BYTES tensor as views of ``data``."""
    if count > limits.max_strings:
        raise OipError(
            f"BYTES input {name!r} must have at most {limits.max_strings} elements, got {count}; send fewer a request"
        )
    strings: list[Bytes] = []
    offset, size = 0, len(data)
    for index in range(count):
        if offset + LENGTH_BYTES > size:
            raise OipError(
                f"BYTES input {name!r} must have {count} elements, its {size} bytes end in element {index}; "
                "write a little-endian length of 4 bytes before each"
            )
        (length,) = struct.unpack_from("<I", data, offset)
        offset += LENGTH_BYTES
        if length > size - offset:
            raise OipError(
                f"element {index} of BYTES input {name!r} must lie within its {size} bytes, its length says {length} "
                f"from byte {offset}; write a little-endian length of 4 bytes before each"
            )
        strings.append(data[offset : offset + length])
        offset += length
    if offset != size:
        raise OipError(
            f"BYTES input {name!r} must end after its {count} elements, {size - offset} bytes follow; "
            "correct shape or binary_data_size"
        )
    return tuple(strings)


def from_bf16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Return the values of BF16 bits: the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bf16(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Return the nearest BF16 bits, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).reshape(-1)
    # uint64: rounding the largest negative NaN up would wrap around to 0.
    rounded = (bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet_nan = (bits >> 16) | 0x0040
    return np.where((bits & 0x7FFFFFFF) > 0x7F800000, quiet_nan, rounded).astype(np.uint16)
