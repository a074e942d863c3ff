"""A session as one file: an .npz of plain arrays with a header in JSON and a digest over all of it.

The file comes back from clients, so nothing in it is believed: members must be stored uncompressed (what they unpack to
is then what was sent), their names and number are limited (``archive``), and an array is read only where its header
agrees with the bytes that are there. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from service.errors import BodyTooLargeError
from service.sessions.archive import read_members
from service.sessions.errors import InvalidSnapshotError
from service.stream_options import StreamOptions
from service.stream_state import StreamState
from vision.tracking.snapshot import DAMAGED

FORMAT = 1
MAX_LENGTH = 2**31
MAX_SNAPSHOT_BYTES = 96 << 20
"""Above ``state.MAX_STATE_BYTES``: what a session can hold can be saved and restored."""

# An array's own head in format 1.0: magic, version, two bytes of length, and at most as many as those can say.
MAX_ARRAY_HEAD = 10 + (1 << 16)
# Booleans, integers, floats and text: no objects, no records.
_KINDS = frozenset("biufU")
# What zip, numpy and its parser of headers raise for bytes that somebody made up.
BROKEN = (*DAMAGED, RuntimeError, MemoryError, OverflowError, IndexError, struct.error)


class SnapshotHeader(BaseModel):
    """What a snapshot says of its session besides the arrays.

    Attributes:
        kind, format: what file this is.
        version: of the Stride32 that wrote it; for people.
        options: of the session, with the names that defaults stood for.
        ttl_s: time-to-live in seconds.
        next_sequence: lowest number of the next frame.
        last_timestamp_s: time of the last frame that had one.
        class_names: the detector's.
        tracking: settings of the tracker, all of them.
        models: digest of each network by its role.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["stride32-session"] = "stride32-session"
    format: int
    version: str = Field(max_length=100)
    options: StreamOptions
    ttl_s: float = Field(gt=0)
    next_sequence: Annotated[int, Field(ge=0, le=2**53)]
    last_timestamp_s: float | None = None
    class_names: tuple[str, ...]
    tracking: dict[str, JsonValue]
    models: dict[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session between two frames."""

    header: SnapshotHeader
    state: StreamState


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return the file; raises BodyTooLargeError for one that could not be sent back."""
    header = np.frombuffer(snapshot.header.model_dump_json().encode(), np.uint8)
    arrays: dict[str, npt.NDArray[Any]] = {"header": header}
    for part, values in (("tracker", snapshot.state.tracker), ("camera", snapshot.state.camera)):
        arrays.update({f"{part}.{name}": array for name, array in values.items()})
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, digest=np.array(digest_arrays(arrays)), **arrays)
    if file.tell() > MAX_SNAPSHOT_BYTES:
        raise BodyTooLargeError(
            f"a snapshot must have at most {MAX_SNAPSHOT_BYTES} bytes, this session's has {file.tell()}; use a lower "
            "tracking.max_age or tracking.gallery_size"
        )
    return file.getvalue()


def decode_snapshot(data: bytes | bytearray) -> Snapshot:
    """Return the session that ``encode_snapshot`` was given; its arrays are views of ``data``.

    Raises:
        InvalidSnapshotError: the bytes are no snapshot, or were damaged or changed.
    """
    try:
        arrays = _read_arrays(data)
        stored = str(arrays.pop("digest"))
        if stored != digest_arrays(arrays):
            raise _refused("its digest does not fit its content")
        header = SnapshotHeader.model_validate_json(arrays.pop("header").tobytes())
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in error["loc"]) or "header"
        raise _refused(f"its header is not one ({place}: {error['msg']})") from None
    except BROKEN as exc:
        if isinstance(exc, InvalidSnapshotError):
            raise
        raise _refused(" ".join(str(exc).split())[:200] or type(exc).__name__) from exc
    if header.format != FORMAT:
        raise _refused(f"it is of format {header.format}, and this server reads {FORMAT}")
    parts: dict[str, dict[str, npt.NDArray[Any]]] = {"tracker": {}, "camera": {}}
    for name, array in arrays.items():
        part, _, field = name.partition(".")
        parts[part][field] = array
    return Snapshot(header, StreamState(parts["tracker"], parts["camera"]))


def digest_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return the hexadecimal sha256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {arrays[name].shape}\n".encode())
        # A view: a copy of the largest array would be most of a session once more.
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _read_arrays(data: bytes | bytearray) -> dict[str, npt.NDArray[Any]]:
    """Return the members as arrays, most of them views of ``data``."""
    if len(data) > MAX_SNAPSHOT_BYTES:
        raise _refused(f"it has {len(data)} bytes, and none has more than {MAX_SNAPSHOT_BYTES}")
    return {name: _read_array(content) for name, content in read_members(data).items()}


def _read_array(content: memoryview) -> npt.NDArray[Any]:
    """Return a member's array as a view; nothing is allocated for more than the bytes that are there."""
    head = io.BytesIO(content[:MAX_ARRAY_HEAD])
    if np.lib.format.read_magic(head) != (1, 0):
        raise ValueError("an array of an unknown version")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(head)
    # A type of no bytes would let any shape agree with an empty content.
    if dtype.kind not in _KINDS or not dtype.itemsize or fortran_order or len(shape) > 4:
        raise ValueError(f"an array of type {dtype.str} that no session has")
    if not all(0 <= length <= MAX_LENGTH for length in shape):
        raise ValueError("an array of a length that no session has")
    values = content[head.tell() :]
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError("an array with more or fewer bytes than its shape says")
    if dtype.kind == "b":
        # Any byte but 0 is true; numpy's own booleans are only ever 0 and 1, and its code counts on that.
        return np.not_equal(np.frombuffer(values, np.uint8), 0).reshape(shape)
    return np.frombuffer(values, dtype).reshape(shape)


def _refused(found: str) -> InvalidSnapshotError:
    return InvalidSnapshotError(
        f"the body must be a session's snapshot as it was downloaded, but {found}; download it again"
    )
