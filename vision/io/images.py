"""Image bytes to an upright RGB picture: the first step of a frame's path for still images.

BGR, EXIF orientation, palettes, alpha and 16 bit end here; every later stage sees uint8 [H, W, 3] RGB. The size is read
from the header before anything is decoded, because a PNG of 17 KB can claim 144 megapixels.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vision.errors import ConfigError, InvalidInputError, LimitExceededError, MediaError
from vision.types import Frame, ImageArray
from vision.validation import MAX_PIXELS

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
# Enough bytes for is_image_header: WebP names itself at bytes 8-11.
HEADER_BYTES = 12

# What Pillow's plugins raise on damaged bytes; collected by fuzzing (tests/unit/io/test_images.py).
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# The plugins are called by name instead of Image.open: only these formats are ever tried, and Pillow's process-wide
# size limit (MAX_IMAGE_PIXELS, a warning and then an error) does not stand in for ours.
_PLUGINS: tuple[tuple[bytes, Callable[..., Image.Image]], ...] = (
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    (b"II*\x00", TiffImagePlugin.TiffImageFile),
    (b"MM\x00*", TiffImagePlugin.TiffImageFile),
    (b"GIF8", GifImagePlugin.GifImageFile),
)


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a single picture may cost.

    Attributes:
        max_pixels: width times height as the header states it, >= 1. Also the limit of one video frame.
        max_bytes: encoded size in bytes, >= 1.
        max_side: width and height each, >= 1. What works on one axis alone costs by its length, however few pixels
            there are; the default is the most that JPEG has.
    """

    max_pixels: int = MAX_PIXELS
    max_bytes: int = 256 * 1024 * 1024
    max_side: int = 65_535

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_bytes", "max_side"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, got {getattr(self, name)}; leave it out for the default")

    def check_size(self, size_wh: tuple[int, int], name: str) -> None:
        """Raise LimitExceededError where a picture (``name`` in the message) is larger than allowed."""
        width, height = size_wh
        if width * height > self.max_pixels:
            raise LimitExceededError(
                f"{name} must have at most {self.max_pixels} pixels, got {width} x {height}; "
                "scale it down or raise max_pixels",
                expected=f"<= {self.max_pixels} pixels",
                actual=f"{width} x {height}",
                path=name,
            )
        if max(size_wh) > self.max_side:
            raise LimitExceededError(
                f"{name} must have at most {self.max_side} pixels a side, got {width} x {height}; "
                "cut it into pieces or scale it down",
                expected=f"sides <= {self.max_side} pixels",
                actual=f"{width} x {height}",
                path=name,
            )


DEFAULT_LIMITS = ImageLimits()


def is_image_header(head: bytes) -> bool:
    """Return whether the first HEADER_BYTES bytes are those of a supported image format."""
    return find_plugin(head) is not None


def decode_image(
    data: bytes,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    source: str = "",
    reserve: Callable[[int], None] | None = None,
    borrow: Callable[[int], None] | None = None,
) -> ImageArray:
    """Return the picture as upright uint8 [H, W, 3] RGB.

    EXIF orientation is applied once. Grey becomes three equal channels, CMYK is converted, 16 bit is scaled to 8 (the
    high byte), transparent pixels are laid on white, and an animation gives its first frame.

    Args:
        data: an encoded JPEG, PNG, WebP, BMP, TIFF or GIF.
        limits: largest size accepted, checked on the header before decoding.
        source: name for error messages.
        reserve: called with the bytes of the decoded picture before any of it is decoded; what it raises comes out.
        borrow: called after it with the bytes that decoding needs beside those, and with as many below zero when they
            are free again; not where decoding fails.

    Raises:
        LimitExceededError: more bytes or pixels than allowed.
        MediaError: not a supported image, damaged, or cut short (never filled up with grey).
    """
    name = source or "the image"
    _check_bytes(len(data), limits, name)
    image = _open_header(data, name)
    try:
        limits.check_size(image.size, name)
        if reserve is not None:
            reserve(image.size[0] * image.size[1] * 3)
        is_plain = _is_plain_jpeg(image, data)
        passing = image.size[0] * image.size[1] * (_decoding_cost(image, is_plain) - 3)
        if borrow is not None:
            borrow(passing)
        rgb = _decode_plain_jpeg(data, _orientation(image), name) if is_plain else _decode_any(image, name)
        if borrow is not None:
            image.close()
            borrow(-passing)
        return rgb
    except DECODE_ERRORS as exc:
        if isinstance(exc, InvalidInputError):
            raise
        raise MediaError(
            f"{name} cannot be decoded: {_one_line(exc)}; it is damaged or cut short, export or download it again",
            expected="a complete image",
            actual=_one_line(exc),
            path=source or None,
        ) from exc
    finally:
        image.close()


def read_image(
    path: str | Path, *, limits: ImageLimits = DEFAULT_LIMITS, index: int = 0, source: str | None = None
) -> Frame:
    """Return the image file as a Frame; ``source`` defaults to the path as given. Errors are those of decode_image."""
    name = str(path) if source is None else source
    try:
        with Path(path).open("rb") as file:
            # One byte more than allowed is enough to know, however large the file (or endless the pipe) is.
            data = file.read(limits.max_bytes + 1)
    except OSError as exc:
        raise MediaError(
            f"{name} cannot be read: {exc.strerror or exc}; check the path and its permissions", path=path
        ) from exc
    return Frame(decode_image(data, limits=limits, source=name), index=index, source=name)


def find_plugin(data: bytes) -> Callable[..., Image.Image] | None:
    """Return the Pillow plugin for bytes that begin like this (HEADER_BYTES are enough), None for other formats."""
    for magic, plugin in _PLUGINS:
        if data.startswith(magic):
            return plugin if magic != b"RIFF" or data[8:12] == b"WEBP" else None
    return None


def _open_header(data: bytes, name: str) -> Image.Image:
    """Return the lazily opened image; its pixels are not decoded yet."""
    plugin = find_plugin(data)
    if plugin is None:
        found = "an empty file" if not data else f"bytes that begin with {data[:8]!r}"
        raise MediaError(
            f"{name} must be a JPEG, PNG, WebP, BMP, TIFF or GIF image, got {found}; convert it or pass another file",
            expected="JPEG, PNG, WebP, BMP, TIFF or GIF",
            actual=found,
            path=name,
        )
    try:
        return plugin(io.BytesIO(data))
    except Image.DecompressionBombError as exc:
        raise LimitExceededError(f"{name} claims too many pixels: {_one_line(exc)}; scale it down", path=name) from exc
    except DECODE_ERRORS as exc:
        raise MediaError(
            f"{name} has a damaged header: {_one_line(exc)}; export or download it again", path=name
        ) from exc


def _check_bytes(n_bytes: int, limits: ImageLimits, name: str) -> None:
    if n_bytes > limits.max_bytes:
        raise LimitExceededError(
            f"{name} must have at most {limits.max_bytes} bytes, got more; scale it down or raise max_bytes",
            expected=f"<= {limits.max_bytes} bytes",
            actual=f"{n_bytes} bytes or more",
            path=name,
        )


def _is_plain_jpeg(image: Image.Image, data: bytes) -> bool:
    """Return whether OpenCV may decode it: twice as fast as Pillow and bit for bit the same picture.

    OpenCV fills a file that is cut short with grey and says nothing. An end marker cannot occur inside the pixel
    data, so a file that ends in one is whole; all others go to Pillow, which refuses what is cut.
    """
    return image.format == "JPEG" and image.mode in ("RGB", "L") and data.rstrip(b"\x00")[-2:] == b"\xff\xd9"


def _decoding_cost(image: Image.Image, is_plain_jpeg: bool) -> int:
    """Return the most bytes a pixel that decoding holds, the result's three among them.

    Measured as the growth of the process; Pillow keeps three channels in four bytes and hands them over by a copy.
    """
    if is_plain_jpeg:
        # A progressive file is whole in memory as coefficients before its first row is there.
        return 9 if image.info.get("progressive") else 6
    cost = 20 if _has_alpha(image) else 14
    # WebP has two canvases of its own for animations.
    return cost + 8 if image.format == "WEBP" else cost


def _decode_any(image: Image.Image, name: str) -> ImageArray:
    image.load()
    # After load: TIFF applies its own orientation while loading, and PNG may carry EXIF behind the pixels.
    orientation = _orientation(image)
    return _orient_array(np.asarray(_to_rgb(image, name)), orientation)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _decode_plain_jpeg(data: bytes, orientation: int, name: str) -> ImageArray:
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    rgb = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if rgb is None:
        raise MediaError(f"{name} is a damaged JPEG; export or download it again", path=name)
    return _orient_array(rgb, orientation)


def _orient_array(rgb: ImageArray, orientation: int) -> ImageArray:
    """Return the array turned as EXIF orientation 1-8 asks."""
    if orientation >= 5:
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (2, 3, 7, 6):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation 1-8; damaged EXIF counts as upright, since the picture itself is whole."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return the loaded image in mode RGB."""
    if image.mode in ("I", "F"):
        raise MediaError(
            f"{name} must have 8 or 16 bits a channel, got 32-bit grey of unknown range; convert it",
            path=name,
        )
    if image.mode.startswith("I;16"):
        # convert("L") would clip at 255; the high byte is how Pillow itself reads 16-bit colour.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if _has_alpha(image):
        picture = image.convert("RGBA")
        canvas = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(canvas, picture).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__
