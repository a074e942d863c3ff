"""Masks of pictures: reading one, and checking all of them before the first step."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vision.errors import InvalidInputError, LimitExceededError, MediaError
from vision.io.image_header import ImageHeader, read_image_header
from vision.io.images import DECODE_ERRORS, DEFAULT_LIMITS, ImageLimits, find_plugin
from vision.training.datasets.mask_layouts import MaskedPicture
from vision.training.datasets.palettes import Palette, labels_of_colours

log = logging.getLogger(__name__)

Labels = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]

_COLOUR_MODES = frozenset({"RGB", "RGBA", "P"})


@dataclass(frozen=True, slots=True)
class MaskFormat:
    """How masks are to be read.

    Attributes:
        class_names: of the labels 0, 1, 2, ...
        ignore: value that is no class.
        palette: colours of coloured masks; None reads numbers.
    """

    class_names: tuple[str, ...]
    ignore: int = 255
    palette: Palette | None = None


def read_mask(
    path: Path, form: MaskFormat, *, picture: ImageHeader | None = None, limits: ImageLimits = DEFAULT_LIMITS
) -> Labels:
    """Return the labels uint8 [H, W] of a mask file.

    Args:
        path: PNG, BMP, TIFF, GIF or lossless WebP.
        form: what its numbers or colours mean.
        picture: head of the picture that it belongs to; a mask of another size is refused before it is decoded.
        limits: largest size accepted, checked before decoding too.

    Raises:
        LimitExceededError: more bytes or pixels than allowed.
        InvalidInputError: it is no picture, of a lossy format or of another size, coloured where numbers are expected,
            or has a value or colour that is neither a class nor ``ignore``; names the file and the remedy.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
        with _open(data) as image:
            _refuse_lossy(path, image, data)
            _check_size(path, image.size, len(data), limits)
            if picture is not None:
                _compare_sizes(path, image.size, picture)
            mode = image.mode
            coloured = form.palette is not None and mode in _COLOUR_MODES
            values = np.asarray(image.convert("RGB") if coloured and mode != "RGB" else image)
    except DECODE_ERRORS as exc:
        if isinstance(exc, InvalidInputError):
            raise
        raise InvalidInputError(f"the mask {path} cannot be read: {exc}; mend or remove it", path=path) from exc
    if not coloured or form.palette is None:
        return _checked(path, mode, values, form)
    labels, foreign = labels_of_colours(values, form.palette, form.ignore)
    _check_colours(path, foreign, form.palette)
    return labels


def _open(data: bytes) -> Image.Image:
    """Return the lazily opened picture; Image.open would try every format that Pillow knows, Ghostscript's too."""
    plugin = find_plugin(data)
    if plugin is None:
        found = f"bytes that begin with {data[:8]!r}" if data else "an empty file"
        raise ValueError(f"it must be a PNG, BMP, TIFF, GIF or lossless WebP, got {found}")
    return plugin(io.BytesIO(data))


def _refuse_lossy(path: Path, image: Image.Image, data: bytes) -> None:
    kind = "a JPEG" if image.format == "JPEG" else ""
    if image.format == "TIFF" and "jpeg" in str(image.info.get("compression", "")):
        kind = "a TIFF with JPEG compression"
    elif image.format == "WEBP" and _is_lossy_webp(data):
        kind = "a lossy WebP"
    if kind:
        raise InvalidInputError(
            f"the mask {path} must keep every value exactly, got {kind}, which changes them at all borders; save masks "
            "as PNG from their source (a JPEG turned into a PNG stays wrong)",
            path=path,
        )


def _is_lossy_webp(data: bytes) -> bool:
    """Return whether the chunks of a WebP file hold a lossy picture; lossless ones are called "VP8L"."""
    at = 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"VP8 ":
            return True
        # A picture of an animation lies within a chunk, behind 16 bytes that place it; others are padded to be even.
        at += 8 + (16 if kind == b"ANMF" else size + size % 2)
    return False


def _check_size(path: Path, size_wh: tuple[int, int], n_bytes: int, limits: ImageLimits) -> None:
    width, height = size_wh
    if n_bytes <= limits.max_bytes and width * height <= limits.max_pixels:
        return
    raise LimitExceededError(
        f"the mask {path} must have at most {limits.max_pixels} pixels and {limits.max_bytes} bytes, got {width} x "
        f"{height} in {'more' if n_bytes > limits.max_bytes else n_bytes} bytes; scale picture and mask down, or cut "
        "both into parts",
        path=path,
    )


def _compare_sizes(path: Path, size_wh: tuple[int, int], picture: ImageHeader) -> None:
    width, height = picture.size_wh
    if size_wh == (width, height):
        return
    turned = size_wh == picture.stored_wh
    remedy = "turn it as the picture's EXIF says" if turned else "save it at the picture's size, without smoothing"
    raise InvalidInputError(
        f"the mask {path} must have the size of its picture, {width} x {height}, got {size_wh[0]} x {size_wh[1]}; "
        f"{remedy}",
        path=path,
    )


def _check_colours(path: Path, foreign: Sequence[tuple[int, int, int]], palette: Palette) -> None:
    """Refuse colours that a palette does not name, or more of them than it forgives."""
    if len(foreign) <= palette.most_others:
        return
    if palette.others:
        raise InvalidInputError(
            f"the mask {path} must have the colours of the palette and at most {palette.most_others} others, got "
            f"{len(foreign)} others, first {foreign[0]}; save it as PNG from its source, without smoothing (one that "
            "was a JPEG once stays wrong)",
            path=path,
        )
    more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
    raise InvalidInputError(
        f"the mask {path} must have the colours of the palette alone, got {foreign[0]}{more}; add it to the palette "
        "(under the name ignore if it is no class), or save the mask without smoothing",
        path=path,
    )


def _checked(path: Path, mode: str, values: npt.NDArray[Any], form: MaskFormat) -> Labels:
    """Return the numbers of a mask as labels, or say what is wrong with them."""
    if values.ndim != 2 or values.dtype.kind not in "biu":
        raise InvalidInputError(
            f"the mask {path} must have one whole number a pixel (PNG of mode L or P), got mode {mode}; name its "
            "colours: --set palette=voc, camvid or a file of lines name,red,green,blue",
            path=path,
        )
    if mode == "1":
        values = values.astype(np.uint8)
    count = len(form.class_names)
    if values.dtype == np.uint8:  # by far the most; np.unique would sort every pixel
        occurring = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    else:
        occurring = np.unique(values)
    wrong = [int(value) for value in occurring if value != form.ignore and not 0 <= value < count]
    if wrong:
        shown = ", ".join(map(str, wrong[:8])) + (", ..." if len(wrong) > 8 else "")
        hint = "binary masks are 0 and 1" if wrong == [255] else "correct the mask, name more classes, or set ignore"
        raise InvalidInputError(
            f"the mask {path} must hold the classes 0 to {count - 1} and {form.ignore} for none, got {shown}; {hint}",
            path=path,
        )
    return np.asarray(values, np.uint8)


def check_masks(pairs: Sequence[MaskedPicture], form: MaskFormat) -> Counts:
    """Read every mask once and every picture's header, about 2 ms each; return the pixels of each value, int64 [256].

    Raises:
        InvalidInputError: the first that cannot be used, with how many there are; logs a few of the others.
    """
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda pair: _look_at(pair, form), pairs))
    found = [answer for answer in answers if isinstance(answer, InvalidInputError)]
    for error in found[1:6]:
        log.error("%s", error)
    if found:
        rest = f" ({len(found) - 1} more cannot be used either)" if len(found) > 1 else ""
        raise InvalidInputError(f"{found[0]}{rest}", path=found[0].path)
    total = np.zeros(256, np.int64)
    for answer in answers:
        if isinstance(answer, np.ndarray):
            total += answer
    return total


def _look_at(pair: MaskedPicture, form: MaskFormat) -> Counts | InvalidInputError:
    """Return the pixels of each value of a mask, or what is wrong with it or with its picture."""
    try:
        labels = read_mask(pair.mask, form, picture=read_image_header(pair.image))
    except MediaError as exc:
        return InvalidInputError(f"the picture {pair.image} cannot be read: {exc}; mend or remove it", path=pair.image)
    except InvalidInputError as exc:
        return exc
    counts = np.bincount(labels.ravel(), minlength=256).astype(np.int64)
    if counts[form.ignore] == labels.size:
        return InvalidInputError(
            f"the mask {pair.mask} must have a pixel of some class, got {form.ignore} everywhere; take the picture "
            "away",
            path=pair.mask,
        )
    return counts
