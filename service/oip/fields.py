"""The fields of a request's JSON, each checked on its own: names, shapes, datatypes, parameters.

Every function here raises OipError for a field that breaks the protocol.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from service.oip.limits import OipError, OipLimits, quote
from service.oip.tensors import DATATYPES, element_count
from vision.errors import closest_hint

MAX_ID, MAX_NAME = 256, 100
# One dimension alone may not be larger than what an index can be; the product is checked against the bytes.
MAX_DIM = (1 << 31) - 1
MAX_ELEMENTS = 1 << 48
# Share of letters from which on a name counts as one of ours misspelt.
NEARLY = 0.75


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """Its name."""
        ...


def read_id(value: Any) -> str:
    """Return the request's id, empty where there is none."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_ID:
        raise OipError(f"id must be a string of at most {MAX_ID} characters, got {quote(value)}; shorten it")
    return value


def check_list(what: str, rows: Any, limits: OipLimits) -> None:
    """Check that inputs or outputs are a list that is not too long."""
    if not isinstance(rows, list):
        raise OipError(f"{what} must be a JSON array of tensors, got {quote(rows)}; see the model's metadata")
    if len(rows) > limits.max_tensors:
        raise OipError(f"{what} must be at most {limits.max_tensors} tensors, got {len(rows)}; send fewer")


def read_name(what: str, row: Any, keys: set[str], earlier: Sequence[Named]) -> str:
    """Return the name of a row of inputs or outputs, with its keys checked."""
    if not isinstance(row, dict):
        raise OipError(f"each {what} must be a JSON object, got {quote(row)}; see the model's metadata")
    name = row.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise OipError(
            f"each {what} must have a name of 1 to {MAX_NAME} characters, got {quote(name)}; see the metadata"
        )
    if any(name == tensor.name for tensor in earlier):
        raise OipError(f"each {what} must be there once, got {name!r} twice; send one")
    check_keys(f"{what} {name!r}", row, keys)
    return name


def check_keys(where: str, row: Mapping[str, Any], known: set[str]) -> None:
    """Raise OipError for a key that would otherwise be ignored: most are misspelt."""
    check_known(f"the keys of {where}", row, known)


def check_known(where: str, row: Mapping[str, Any], known: set[str]) -> None:
    """Check that a JSON object has known keys only, and suggest a spelling."""
    for key in row:
        if key not in known:
            raise OipError(
                f"{where} must be among {', '.join(sorted(known))}, got {quote(key)}{closest_hint(key[:100], known)}; "
                "correct it"
            )


def check_misspelt(where: str, row: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse parameters that are nearly ours. All others are ignored: clients send what other servers, and gateways on
    the way, have a use for, such as ``content_type``."""
    for key in row:
        if key not in known and difflib.get_close_matches(key[:100], known, n=1, cutoff=NEARLY):
            raise OipError(
                f"{where} must be spelt as in {', '.join(sorted(known))}, got {quote(key)}"
                f"{closest_hint(key[:100], known)}; correct it"
            )


def read_parameters(where: str, row: Mapping[str, Any], limits: OipLimits) -> dict[str, Any]:
    """Return a copy of the parameters of a request or tensor."""
    parameters = row.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict) or len(parameters) > limits.max_parameters:
        raise OipError(
            f"the parameters of {where} must be a JSON object of at most {limits.max_parameters} entries, got "
            f"{quote(parameters)}; correct them"
        )
    return dict(parameters)


def read_flag(name: str, value: Any) -> bool:
    """Return a parameter that is true or false."""
    if not isinstance(value, bool):
        raise OipError(f"{name} must be true or false, got {quote(value)}; correct it")
    return value


def read_datatype(name: str, value: Any) -> str:
    """Return the datatype of an input."""
    if not isinstance(value, str) or value not in DATATYPES:
        hint = closest_hint(value[:20], DATATYPES) if isinstance(value, str) else ""
        raise OipError(
            f"datatype of input {name!r} must be one of {', '.join(DATATYPES)}, got {quote(value)}{hint}; correct it"
        )
    return value


def read_shape(name: str, value: Any, limits: OipLimits) -> tuple[int, ...]:
    """Return a shape whose dimensions are sane one by one; what they make together is checked against the bytes."""
    if not isinstance(value, list) or len(value) > limits.max_dims:
        raise OipError(
            f"shape of input {name!r} must be a JSON array of at most {limits.max_dims} dimensions, got "
            f"{quote(value)}; correct it"
        )
    for dim in value:
        if type(dim) is not int or not 0 <= dim <= MAX_DIM:
            raise OipError(
                f"each dimension of input {name!r} must be a whole number from 0 to {MAX_DIM}, got {quote(dim)}; "
                "send the real shape, -1 stands in metadata alone"
            )
    # numpy refuses shapes whose other dimensions overflow even where one is zero.
    if element_count([max(1, dim) for dim in value]) > MAX_ELEMENTS:
        raise OipError(f"shape of input {name!r} must fit a request, got {value}; correct it")
    return tuple(value)


def read_binary_size(name: str, row: Mapping[str, Any], limits: OipLimits) -> int | None:
    """Return how many bytes of the binary part belong to an input, None for JSON data."""
    parameters = read_parameters(f"input {name!r}", row, limits)
    refuse_shared_memory(name, parameters)
    check_misspelt(f"parameters of input {name!r}", parameters, {"binary_data_size"})
    size = parameters.get("binary_data_size")
    if (size is None) == ("data" not in row):
        found = "neither" if size is None else "both"
        raise OipError(f"input {name!r} must have either data or the parameter binary_data_size, got {found}; send one")
    if size is not None and (type(size) is not int or size < 0):
        raise OipError(
            f"binary_data_size of input {name!r} must be its length in bytes, got {quote(size)}; send a whole number"
        )
    return size


def refuse_shared_memory(name: str, parameters: Mapping[str, Any]) -> None:
    """Refuse a tensor in shared memory: a client's key must not open memory of the server."""
    if any(key.startswith("shared_memory_") for key in parameters):
        raise OipError(
            f"tensor {name!r} must come in the request, got a shared memory region; this server opens none: send "
            "binary data"
        )
