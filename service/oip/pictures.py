"""The pictures of a request: encoded files in a BYTES tensor, or raw RGB in a UINT8 tensor; and an embedder's boxes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.oip.limits import OipError, OipLimits
from service.oip.tensors import BYTES, Tensor
from service.parameters import MAX_BOXES
from vision.errors import closest_hint
from vision.types import FloatArray, ImageArray

IMAGE, PIXELS, BOXES = "image", "pixels", "boxes"
Picture = bytes | memoryview | ImageArray


@dataclass(frozen=True, slots=True, eq=False)
class RequestPictures:
    """What a request asks a model about.

    Attributes:
        pictures: encoded files, or uint8 [H, W, 3] RGB; at least one.
        boxes: float32 [N, 4] xyxy pixels in the only picture; None for whole pictures.
    """

    pictures: Sequence[Picture]
    boxes: FloatArray | None = None


def read_pictures(inputs: Sequence[Tensor], limits: OipLimits, *, takes_boxes: bool = False) -> RequestPictures:
    """Return the pictures in the inputs of a request, not decoded yet.

    Args:
        inputs: ``image`` or ``pixels``, and ``boxes`` where ``takes_boxes``.
        limits: how many pictures there may be.
        takes_boxes: whether the model embeds regions of a picture.

    Raises:
        OipError: an input is unknown, missing, of the wrong datatype or shape, or holds no or too many pictures.
    """
    by_name = {tensor.name: tensor for tensor in inputs}
    known = (IMAGE, PIXELS, BOXES) if takes_boxes else (IMAGE, PIXELS)
    for name in by_name:
        if name not in known:
            raise OipError(f"the model's inputs must be {', '.join(known)}, got {name!r}{closest_hint(name, known)}; "
                           "see its metadata")  # fmt: skip
    if (IMAGE in by_name) == (PIXELS in by_name):
        found = "both" if IMAGE in by_name else "neither"
        raise OipError(
            f"a request must have the input {IMAGE} (BYTES, encoded pictures) or {PIXELS} (UINT8, raw RGB), got "
            f"{found}; send one"
        )
    pictures = _encoded(by_name[IMAGE]) if IMAGE in by_name else _raw(by_name[PIXELS])
    if not 0 < len(pictures) <= limits.max_pictures:
        raise OipError(
            f"a request must have 1 to {limits.max_pictures} pictures, got {len(pictures)}; spread them over requests"
        )
    boxes = by_name.get(BOXES)
    return RequestPictures(pictures, None if boxes is None else _boxes(boxes, len(pictures)))


def _encoded(tensor: Tensor) -> list[bytes | memoryview]:
    """Return the files in a BYTES tensor [B] or [B, 1]."""
    if tensor.datatype != BYTES:
        raise OipError(f"input {IMAGE} must be BYTES, got {tensor.datatype}; raw RGB goes into {PIXELS}")
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ((), (1,)):
        raise OipError(f"input {IMAGE} must have shape [B] or [B, 1], got {list(tensor.shape)}; send one file a row")
    return [_from_base64(text) for text in tensor.strings] if tensor.from_json else list(tensor.strings)


def _from_base64(text: bytes | memoryview) -> bytes:
    """Return the file that JSON, which holds text only, carries as base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise OipError(
            f"a picture in JSON must be base64 text, got something else ({exc}); encode the file, or send binary data"
        ) from exc


def _raw(tensor: Tensor) -> list[ImageArray]:
    """Return the pictures of a UINT8 tensor [H, W, 3] or [B, H, W, 3] as views of it."""
    if tensor.datatype != "UINT8":
        raise OipError(f"input {PIXELS} must be UINT8, got {tensor.datatype}; encoded files go into {IMAGE}")
    shape = tensor.shape
    if len(shape) not in (3, 4) or shape[-1] != 3 or 0 in shape[-3:]:
        raise OipError(
            f"input {PIXELS} must have shape [H, W, 3] or [B, H, W, 3] with at least one pixel, got {list(shape)}; "
            "send RGB with the colours last"
        )
    return [tensor.array] if len(shape) == 3 else list(tensor.array)


def _boxes(tensor: Tensor, pictures: int) -> FloatArray:
    """Return the boxes of the only picture."""
    if tensor.datatype != "FP32" or len(tensor.shape) != 2 or tensor.shape[1] != 4:
        raise OipError(
            f"input {BOXES} must be FP32 [N, 4], xyxy in pixels, got {tensor.datatype} {list(tensor.shape)}; correct it"
        )
    if not 1 <= len(tensor.array) <= MAX_BOXES:
        raise OipError(f"{BOXES} must be 1 to {MAX_BOXES}, got {len(tensor.array)}; spread them over requests")
    if pictures != 1:
        raise OipError(f"{BOXES} must come with one picture, got {pictures}; send a request for each picture")
    boxes = tensor.array
    ordered = bool((boxes[:, :2] <= boxes[:, 2:]).all())
    if not np.isfinite(boxes).all() or not ordered:
        raise OipError(f"{BOXES} must be finite with x1 <= x2 and y1 <= y2, got others; correct them")
    return boxes
