"""Answers as pictures: which form the client accepts, drawing and encoding."""

from __future__ import annotations

import io
from enum import StrEnum

import cv2
import numpy as np
from PIL import Image
from starlette.requests import Request

from service.errors import NotAcceptableError
from vision.palette import mask_palette
from vision.render import Annotator
from vision.types import Frame, FrameResult, ImageArray, SegmentationMap

JPEG_QUALITY = 90


class Form(StrEnum):
    """What an answer can be."""

    JSON = "application/json"
    JPEG = "image/jpeg"
    PNG = "image/png"


def accepted_form(request: Request) -> Form:
    """Return the form that the client likes best; of equals one that is named before one that ``*`` covers, then JSON.

    Raises:
        NotAcceptableError: none that we can make is accepted.
    """
    header = request.headers.get("accept")
    if header is None or header in ("*/*", Form.JSON):
        return Form.JSON
    qualities: dict[str, float] = {}
    for part in header[:1000].split(","):
        kind, _, rest = part.strip().partition(";")
        if kind:  # a comma at the end names nothing
            qualities.setdefault(kind.strip().lower(), _quality(rest))
    # The most special range that covers a form decides about it, also against it (q=0).
    ranks = [next((r for r in _ranges(form) if r in qualities), "") for form in Form]
    scored = [(qualities.get(found, 0.0), found == form, form) for form, found in zip(Form, ranks, strict=True)]
    quality, _, best = max(scored, key=lambda each: each[:2])
    if quality == 0.0:
        raise NotAcceptableError(f"Accept must name {', '.join(Form)}, got {header[:100]!r}; leave it out for JSON")
    return best


def _ranges(form: Form) -> tuple[str, str, str]:
    """Return the media ranges that cover a form, the most special first."""
    return form, form.partition("/")[0] + "/*", "*/*"


def _quality(parameters: str) -> float:
    """Return the q of an Accept part; 1 without one, 0 for nonsense."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def draw(frame: Frame, result: FrameResult, class_names: tuple[str, ...], form: Form) -> bytes:
    """Return the frame with the result drawn onto it, encoded as JPEG or PNG."""
    return encode(Annotator(class_names).draw(frame, result), form)


def encode(image: ImageArray, form: Form) -> bytes:
    """Return an RGB picture uint8 [H, W, 3] as JPEG or PNG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if form is Form.JPEG else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    suffix = ".jpg" if form is Form.JPEG else ".png"
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done, "OpenCV encodes every uint8 picture"
    return bytes(data)


def mask_png(segmentation: SegmentationMap) -> bytes:
    """Return the class numbers as a PNG with a palette; pixel values are the labels."""
    mask = Image.fromarray(segmentation.labels.astype(np.uint8))
    mask.putpalette([channel for rgb in mask_palette(segmentation.class_names) for channel in rgb])
    output = io.BytesIO()
    mask.save(output, "PNG", compress_level=3)
    return output.getvalue()
