"""What one message of the protocol may hold, and the error of one that breaks the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.errors import BadRequestError

# A client's own words in an error message are cut here: errors must not echo bodies.
MAX_QUOTED = 80


class OipError(BadRequestError):
    """The message is malformed, or asks for what the protocol or the model does not have; status 400."""


@dataclass(frozen=True, slots=True)
class OipLimits:
    """Bounds of one request; with them its memory stays a small multiple of its bytes.

    Attributes:
        max_body_bytes: the whole body, after decompression.
        max_json_bytes: the JSON part. Parsed JSON takes up to 25 times its bytes; binary tensors take none.
        max_json_values: commas of the JSON: a parser's work cannot be interrupted, and others wait for it.
        max_json_containers: arrays and objects of the JSON, which cost most: nested data has one for each pixel.
        max_tensors: inputs, and requested outputs.
        max_dims: dimensions of a tensor.
        max_strings: elements of a BYTES tensor, each of which is an object.
        max_parameters: parameters of a request or of a tensor.
        max_pictures: pictures of a request.
        max_json_labels: labels of maps in the JSON of an answer; each becomes up to four characters.
    """

    max_body_bytes: int = 32 << 20
    max_json_bytes: int = 16 << 20
    max_json_values: int = 3_000_000
    max_json_containers: int = 250_000
    max_tensors: int = 16
    max_dims: int = 8
    max_strings: int = 4096
    max_parameters: int = 64
    max_pictures: int = 64
    max_json_labels: int = 16 << 20


DEFAULT_LIMITS = OipLimits()


def quote(value: Any) -> str:
    """Return a short, printable form of a client's value for a message.

    >>> quote("x" * 200)[-8:]
    "xxxx...'"
    """
    if isinstance(value, dict | list):
        return f"a JSON {'object' if isinstance(value, dict) else 'array'} of {len(value)}"
    if isinstance(value, str) and len(value) > MAX_QUOTED:
        return repr(value[:MAX_QUOTED] + "...")
    text = repr(value)
    return text if len(text) <= 2 * MAX_QUOTED else text[: 2 * MAX_QUOTED] + "..."
