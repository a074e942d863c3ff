"""Masks of pictures: reading one, and checking all of them before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vision.errors import InvalidInputError, MediaError
from vision.io.image_header import read_image_header
from vision.io.images import DECODE_ERRORS
from vision.training.datasets.mask_layouts import MaskedPicture, log
from vision.training.datasets.palettes import Palette, labels_of_colours

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


def read_mask(path: Path, form: MaskFormat) -> Labels:
    """Return the labels uint8 [H, W] of a mask file.

    Raises:
        InvalidInputError: it is no picture, a JPEG, coloured where numbers are expected, or has a value or colour that
            is neither a class nor ``ignore``; names the file and the remedy.
    """
    try:
        with Image.open(path) as picture:
            kind, mode = picture.format, picture.mode
            coloured = form.palette is not None and mode in _COLOUR_MODES
            values = np.asarray(picture.convert("RGB") if coloured and mode != "RGB" else picture)
    except (*DECODE_ERRORS, Image.DecompressionBombError) as exc:
        raise InvalidInputError(f"the mask {path} cannot be read: {exc}; mend or remove it", path=path) from exc
    if kind == "JPEG":
        raise InvalidInputError(
            f"the mask {path} must keep every value exactly, got a JPEG, which changes them at all borders; save masks "
            "as PNG from their source (a JPEG turned into a PNG stays wrong)",
            path=path,
        )
    if coloured and form.palette is not None:
        labels, foreign = labels_of_colours(values, form.palette, form.ignore)
        if foreign is not None:
            raise InvalidInputError(
                f"the mask {path} must have the colours of the palette alone, got {foreign}; add it to the palette, or "
                "save the mask without smoothing",
                path=path,
            )
        return labels
    return _checked(path, mode, values, form)


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
        header = read_image_header(pair.image)
        labels = read_mask(pair.mask, form)
    except InvalidInputError as exc:
        if not isinstance(exc, MediaError):
            return exc
        return InvalidInputError(f"the picture {pair.image} cannot be read: {exc}; mend or remove it", path=pair.image)
    width, height = header.size_wh
    if labels.shape != (height, width):
        turned = labels.shape == header.stored_wh[::-1]
        remedy = "turn it as the picture's EXIF says" if turned else "save it at the picture's size, without smoothing"
        return InvalidInputError(
            f"the mask {pair.mask} must have the size of its picture, {width} x {height}, got {labels.shape[1]} x "
            f"{labels.shape[0]}; {remedy}",
            path=pair.mask,
        )
    counts = np.bincount(labels.ravel(), minlength=256).astype(np.int64)
    if counts[form.ignore] == labels.size:
        return InvalidInputError(
            f"the mask {pair.mask} must have a pixel of some class, got {form.ignore} everywhere; take the picture "
            "away",
            path=pair.mask,
        )
    return counts
