"""What an image file says of itself before any pixel is decoded: size, orientation, kind of pixels, and a cut end.

Training data are looked at in this way: thousands of files whose annotations need no more than the size of the picture.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image

from vision.errors import MediaError
from vision.io.images import DECODE_ERRORS, HEADER_BYTES, find_plugin

# A JPEG may carry a camera's own data behind its end marker, seldom more than this.
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The head of an image file.

    Attributes:
        stored_wh: width and height of the stored pixels.
        orientation: EXIF orientation, 1 (upright) to 8. A PNG's EXIF behind its pixels is not looked for.
        format: "JPEG", "PNG", "WEBP", "BMP", "TIFF" or "GIF".
        mode: Pillow's name of the pixel layout, for example "RGB", "L" (grey), "P" (palette), "RGBA", "I;16".
        frames: number of pictures in the file.
    """

    stored_wh: tuple[int, int]
    orientation: int
    format: str
    mode: str
    frames: int

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the upright picture, which all coordinates of this package belong to."""
        width, height = self.stored_wh
        return (height, width) if self.orientation >= 5 else (width, height)


def read_image_header(path: Path) -> ImageHeader:
    """Return the head of the image file, after a look at its end.

    Raises:
        MediaError: the file cannot be opened, is no image of a supported kind, has a damaged header, or is a JPEG, PNG
            or WebP that is cut short.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
            plugin = find_plugin(head)
            if plugin is None:
                found = "an empty file" if not head else f"bytes that begin with {head[:8]!r}"
                raise MediaError(
                    f"{path} must be a JPEG, PNG, WebP, BMP, TIFF or GIF image, got {found}; convert or remove it",
                    path=path,
                )
            if _is_cut_short(file, head):
                raise MediaError(f"{path} is cut short; export or download it again", path=path)
            file.seek(0)
            with plugin(file) as image:
                return _header(image)
    except DECODE_ERRORS as exc:
        if isinstance(exc, MediaError):
            raise
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else " ".join(str(exc).split())
        raise MediaError(
            f"{path} cannot be read as an image: {reason or type(exc).__name__}; export or download it again", path=path
        ) from exc


def _header(image: Image.Image) -> ImageHeader:
    orientation = _orientation(image)
    width, height = image.size
    # Pillow gives a TIFF's size as it will be after its own turning.
    stored_wh = (height, width) if image.format == "TIFF" and orientation >= 5 else (width, height)
    frames = getattr(image, "n_frames", 1)
    return ImageHeader(stored_wh, orientation, str(image.format), image.mode, int(frames))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation without decoding pixels; damaged EXIF counts as upright, as in decode_image."""
    # Asked for its EXIF, Pillow's PNG reader decodes the whole picture to find a chunk behind it.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _is_cut_short(file: BinaryIO, head: bytes) -> bool:
    """Return whether the end of the file is missing, as its format tells it: an end mark, or a length in the head."""
    size = file.seek(0, os.SEEK_END)
    if head.startswith(b"RIFF"):
        return size < int(struct.unpack("<I", head[4:8])[0]) + 8
    if not head.startswith((b"\xff\xd8\xff", b"\x89PNG")):
        return False
    file.seek(max(0, size - _TAIL_BYTES))
    return (b"\xff\xd9" if head.startswith(b"\xff") else b"IEND") not in file.read()
