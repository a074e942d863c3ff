"""Pictures with a mask each: the folder layouts, reading masks, and checking all of them before the first step."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from vision.errors import InvalidInputError, MediaError
from vision.io.image_header import read_image_header
from vision.training.datasets.palettes import VOC_NAMES, Palette, find_palette, labels_of_colours
from vision.training.datasets.split import hold_out

log = logging.getLogger(__name__)

Labels = npt.NDArray[np.uint8]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
NAMES_FILE = "classes.txt"


@dataclass(frozen=True, slots=True)
class MaskedPicture:
    """A picture and the file that tells the class of each of its pixels."""

    image: Path
    mask: Path


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


@dataclass(frozen=True, slots=True)
class SegmentationData:
    """What a training run learns from and is measured on."""

    train: tuple[MaskedPicture, ...]
    val: tuple[MaskedPicture, ...]
    format: MaskFormat


def read_mask(path: Path, form: MaskFormat) -> Labels:
    """Return the labels uint8 [H, W] of a mask file.

    Raises:
        InvalidInputError: it is no picture, coloured where numbers are expected (or the other way round), or has a
            value or colour that is neither a class nor ``ignore``; names the file and the remedy.
    """
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            coloured = form.palette is not None and mode in ("RGB", "RGBA", "P")
            values = np.asarray(picture.convert("RGB") if coloured else picture)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as exc:
        raise InvalidInputError(f"the mask {path} cannot be read: {exc}; mend or remove it", path=path) from exc
    if coloured and form.palette is not None:
        labels, foreign = labels_of_colours(values, form.palette, form.ignore)
        if foreign is not None:
            raise InvalidInputError(
                f"the mask {path} has the colour {foreign}, which is no class of the palette; add it to the palette, "
                "or save masks as PNG, which keeps colours exact",
                path=path,
            )
        return labels
    return _checked(path, mode, values, form)


def _checked(path: Path, mode: str, values: npt.NDArray[Any], form: MaskFormat) -> Labels:
    """Return the numbers of a mask as labels, or say what is wrong with them."""
    if values.ndim != 2:
        raise InvalidInputError(
            f"the mask {path} must have one number a pixel (PNG of mode L or P), got {mode} with {values.shape[-1]} "
            "channels; name its colours: --set palette=voc, camvid or a file of lines name,red,green,blue",
            path=path,
        )
    if mode == "1":
        values = values.astype(np.uint8)
    count = len(form.class_names)
    wrong = values[(values != form.ignore) & ((values < 0) | (values >= count))]
    if wrong.size:
        found = sorted({int(value) for value in np.unique(wrong)})
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        hint = "binary masks are 0 and 1" if found == [255] else "correct the mask, name more classes, or set ignore"
        raise InvalidInputError(
            f"the mask {path} must hold the classes 0 to {count - 1} and {form.ignore} for none, got {shown}; {hint}",
            path=path,
        )
    return np.asarray(values, np.uint8)


def load_segmentation_data(
    data: Path,
    val_data: Path | None = None,
    *,
    val_fraction: float = 0.2,
    classes: Sequence[str] = (),
    ignore: int = 255,
    palette: str = "index",
) -> SegmentationData:
    """Return the checked pictures and masks of a run.

    Raises:
        InvalidInputError: a folder, a mask or a picture cannot be used; names the file and the remedy.
        ConfigError: an unknown palette.
    """
    train, val = find_parts(data)
    if val_data is not None:
        train, val = (*train, *val), ()
        val_train, val_val = find_parts(val_data)
        val = val_val or val_train
    elif not val:
        kept, held = hold_out(train, val_fraction, lambda pair: pair.image)
        train, val = tuple(kept), tuple(held)
    colours = find_palette(palette)
    form = MaskFormat(class_names_of(data, classes, colours, (*train, *val), ignore), ignore, colours)
    check_masks((*train, *val), form)
    return SegmentationData(train, val, form)


def find_parts(folder: Path) -> tuple[tuple[MaskedPicture, ...], tuple[MaskedPicture, ...]]:
    """Return the pictures to train on and to validate on that lie in ``folder``; the latter may be none.

    Raises:
        InvalidInputError: the folder is missing or of no known layout, or a picture has no mask.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"pictures and masks must lie in a folder, found no folder {folder}", path=folder)
    if (folder / "SegmentationClass").is_dir():
        return _voc_list(folder, "train"), _voc_list(folder, "val")
    if (folder / "images").is_dir():
        return pairs_of(folder), ()
    if (folder / "train" / "images").is_dir():
        return pairs_of(folder / "train"), pairs_of(folder / "val") if (folder / "val" / "images").is_dir() else ()
    raise InvalidInputError(
        f"{folder} must hold images/ and masks/, or train/ and val/ of such, or Pascal VOC's JPEGImages/ and "
        f"SegmentationClass/, found {', '.join(sorted(path.name for path in folder.iterdir())[:8]) or 'nothing'}; "
        "give the folder above them",
        path=folder,
    )


def pairs_of(folder: Path) -> tuple[MaskedPicture, ...]:
    """Return the pictures of ``folder/images`` with the masks of the same name in ``folder/masks``."""
    masks_folder = folder / "masks"
    if not masks_folder.is_dir():
        raise InvalidInputError(f"masks must lie in {masks_folder}, beside images, found no such folder", path=folder)
    masks = {path.stem: path for path in _pictures(masks_folder)}
    images = {path.stem: path for path in _pictures(folder / "images")}
    missing = [path for stem, path in images.items() if stem not in masks]
    if missing:
        raise InvalidInputError(
            f"{len(missing)} of {len(images)} pictures have no mask, first {missing[0]}; put {missing[0].stem}.png "
            f"into {masks_folder}, or take the picture away",
            path=missing[0],
        )
    if unused := sorted(masks.keys() - images.keys()):
        log.warning("%d masks in %s belong to no picture, first %s", len(unused), masks_folder, unused[0])
    if not images:
        raise InvalidInputError(f"{folder / 'images'} holds no picture; put some there", path=folder)
    return tuple(MaskedPicture(path, masks[stem]) for stem, path in images.items())


def _pictures(folder: Path) -> Iterator[Path]:
    """Yield the pictures of a folder by name."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file():
            yield path


def _voc_list(folder: Path, part: str) -> tuple[MaskedPicture, ...]:
    """Return the pictures that ImageSets/Segmentation names for one part; none without that list."""
    path = folder / "ImageSets" / "Segmentation" / f"{part}.txt"
    if not path.is_file():
        if part == "train":
            raise InvalidInputError(f"Pascal VOC lists its pictures in {path}, found no such file", path=path)
        return ()
    pairs = []
    for name in path.read_text(encoding="utf-8").split():
        pair = MaskedPicture(folder / "JPEGImages" / f"{name}.jpg", folder / "SegmentationClass" / f"{name}.png")
        for file in (pair.image, pair.mask):
            if not file.is_file():
                raise InvalidInputError(f"{path} names {name}, but there is no {file}; put it there", path=file)
        pairs.append(pair)
    return tuple(pairs)


def class_names_of(
    data: Path, classes: Sequence[str], palette: Palette | None, pairs: Sequence[MaskedPicture], ignore: int
) -> tuple[str, ...]:
    """Return the name of each label: those that are given, of the palette, of classes.txt, of VOC, or numbers.

    Raises:
        InvalidInputError: fewer than two classes.
    """
    names = tuple(classes)
    if not names and palette is not None:
        names = palette.names
    file = data / NAMES_FILE
    if not names and file.is_file():
        names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    if not names and (data / "SegmentationClass").is_dir():
        names = VOC_NAMES
    if not names:
        names = _numbered(pairs, ignore)
    if len(names) < 2:
        raise InvalidInputError(
            f"a segmenter tells at least two classes apart, got {', '.join(names) or 'none'}; name them in {file}, one "
            "a line, or by --set classes",
            path=data,
        )
    return names


def _numbered(pairs: Sequence[MaskedPicture], ignore: int) -> tuple[str, ...]:
    """Return "class 0" and so on up to the highest value in the masks."""
    anything = MaskFormat(tuple(map(str, range(256))), ignore)
    with ThreadPoolExecutor() as pool:
        highest = pool.map(lambda pair: _highest(read_mask(pair.mask, anything), ignore), pairs)
        count = max(highest, default=-1) + 1
    log.warning("nobody says what the %d mask values mean; name them in %s or by --set classes", count, NAMES_FILE)
    return tuple(f"class {label}" for label in range(count))


def _highest(labels: Labels, ignore: int) -> int:
    return int(labels[labels != ignore].max(initial=0))


def check_masks(pairs: Sequence[MaskedPicture], form: MaskFormat) -> None:
    """Read every mask once and every picture's header; about 2 ms each.

    Raises:
        InvalidInputError: the first that cannot be used, with how many there are; logs the others.
    """
    with ThreadPoolExecutor() as pool:
        found = [error for error in pool.map(lambda pair: _error_of(pair, form), pairs) if error is not None]
    for error in found[1:6]:
        log.error("%s", error)
    if found:
        rest = f" ({len(found) - 1} more masks cannot be used either)" if len(found) > 1 else ""
        raise InvalidInputError(f"{found[0]}{rest}", path=found[0].path)


def _error_of(pair: MaskedPicture, form: MaskFormat) -> InvalidInputError | None:
    try:
        width, height = read_image_header(pair.image).size_wh
        labels = read_mask(pair.mask, form)
    except InvalidInputError as exc:
        return exc
    except MediaError as exc:
        return InvalidInputError(f"the picture {pair.image} cannot be read: {exc}; mend or remove it", path=pair.image)
    if labels.shape != (height, width):
        return InvalidInputError(
            f"the mask {pair.mask} must have the size of its picture, {width} x {height}, got {labels.shape[1]} x "
            f"{labels.shape[0]}; save it at the picture's size, without smoothing",
            path=pair.mask,
        )
    if (labels == form.ignore).all():
        return InvalidInputError(
            f"the mask {pair.mask} has no pixel of any class, {form.ignore} everywhere; take the picture away",
            path=pair.mask,
        )
    return None
