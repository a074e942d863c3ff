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
    """Return the form that the client likes best, JSON first among equals.

    Raises:
        NotAcceptableError: none that we can make is accepted.
    """
    header = request.headers.get("accept")
    if header is None or header == "*/*" or header.startswith("application/json"):
        return Form.JSON
    best, best_quality = None, 0.0
    for part in header[:1000].split(","):
        kind, _, rest = part.strip().partition(";")
        quality = _quality(rest)
        for form in Form:
            if quality > best_quality and kind.strip().lower() in (form, form.partition("/")[0] + "/*", "*/*"):
                best, best_quality = form, quality
    if best is None:
        raise NotAcceptableError(f"Accept must name {', '.join(Form)}, got {header[:100]!r}; leave it out for JSON")
    return best


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
