"""All of a segmenter's data before the first step: what to train on, what to validate on, what the labels mean."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.training.datasets.mask_layouts import VOC_MASKS, MaskedPicture, find_parts
from vision.training.datasets.masks import Counts, MaskFormat, check_masks, read_mask
from vision.training.datasets.palettes import VOC_NAMES, Palette, find_palette
from vision.training.datasets.pictures import load_rgb
from vision.training.datasets.split import hold_out

log = logging.getLogger(__name__)

NAMES_FILE = "classes.txt"
MOST_CLASSES = 256


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationData:
    """What a training run learns from and is measured on.

    Attributes:
        train, val: pictures with their masks, all checked.
        format: how the masks are read.
        counts: pixels of each class in the training masks, int64 [K]; 0 for a class that is ``format.ignore``.
    """

    train: tuple[MaskedPicture, ...]
    val: tuple[MaskedPicture, ...]
    format: MaskFormat
    counts: npt.NDArray[np.int64]


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

    Every mask and every validation picture is decoded, of the other pictures the heads are read.

    Raises:
        InvalidInputError: a folder, a mask or a picture cannot be used; names the file and the remedy.
        ConfigError: an unknown palette.
    """
    train, val = _split(data, val_data, val_fraction)
    colours = find_palette(palette)
    form = MaskFormat(class_names_of(data, classes, colours, (*train, *val), ignore), ignore, colours)
    counts = check_masks(train, form)
    check_masks(val, form)
    with ThreadPoolExecutor() as pool:
        # One that is damaged inside would end the run at its first validation.
        for _ in pool.map(lambda pair: load_rgb(pair.image).shape, val):
            pass
    _check_classes(counts, form, data)
    counts[form.ignore] = 0  # it may be the number of a class: masks of which 0 is "unlabelled"
    return SegmentationData(train, val, form, counts[: len(form.class_names)])


def _split(
    data: Path, val_data: Path | None, val_fraction: float
) -> tuple[tuple[MaskedPicture, ...], tuple[MaskedPicture, ...]]:
    """Return the pictures to train on and to validate on; none is in both."""
    train, val = find_parts(data)
    if val_data is None:
        if val:
            return train, val
        kept, held = hold_out(train, val_fraction, lambda pair: pair.image)
        return tuple(kept), tuple(held)
    val_train, val_val = find_parts(val_data)
    wanted = val_val or val_train
    measured = {pair.image.resolve() for pair in wanted}
    everything = (*train, *val)
    kept = [pair for pair in everything if pair.image.resolve() not in measured]
    if not kept:
        raise InvalidInputError(
            f"val_data must hold other pictures than data, got all of {data} in {val_data}; leave val_data out to hold "
            "some of them out",
            path=val_data,
        )
    if len(kept) < len(everything):
        log.warning("%d pictures of %s are validated on, not trained on", len(everything) - len(kept), data)
    return tuple(kept), wanted


def class_names_of(
    data: Path, classes: Sequence[str], palette: Palette | None, pairs: Sequence[MaskedPicture], ignore: int
) -> tuple[str, ...]:
    """Return the name of each label: those that are given or that the data says, or numbers up to the highest value.

    Raises:
        InvalidInputError: fewer than two or more than 256 classes, one name twice, or not as many as in the palette.
    """
    names, file = named_classes(data, classes, palette) or _numbered(pairs, ignore), data / NAMES_FILE
    if not 2 <= len(names) <= MOST_CLASSES:
        raise InvalidInputError(
            f"a segmenter tells 2 to {MOST_CLASSES} classes apart, got {len(names)} ({', '.join(names[:4])}); name "
            f"them in {file}, one a line, or by --set classes; binary masks are 0 and 1, not 0 and 255",
            path=data,
        )
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInputError(
            f"classes must have different names, got {doubled[0]} twice; correct {file}, or name them by --set classes",
            path=data,
        )
    if palette is not None and len(names) != len(palette.colours):
        raise InvalidInputError(
            f"there must be a name for each of the {len(palette.colours)} classes of the palette, got {len(names)}; "
            "leave the names out to take the palette's",
            path=data,
        )
    return names


def named_classes(data: Path, classes: Sequence[str], palette: Palette | None) -> tuple[str, ...]:
    """Return the names that are given, of the palette, of classes.txt in ``data``, or of VOC; () where nobody says."""
    file = data / NAMES_FILE
    if classes:
        return tuple(classes)
    if palette is not None:
        return palette.names
    if file.is_file():
        return _read_names(file)
    return VOC_NAMES if (data / VOC_MASKS).is_dir() else ()


def _read_names(file: Path) -> tuple[str, ...]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"{file} must be UTF-8 text, one class a line: {exc}; save it so", path=file) from exc
    return tuple(line.strip() for line in lines if line.strip())


def _numbered(pairs: Sequence[MaskedPicture], ignore: int) -> tuple[str, ...]:
    """Return "class 0" and so on up to the highest value in the masks."""
    anything = MaskFormat(tuple(map(str, range(MOST_CLASSES))), ignore)

    def highest(pair: MaskedPicture) -> int:
        labels = read_mask(pair.mask, anything)
        return int(labels[labels != ignore].max(initial=0))

    with ThreadPoolExecutor() as pool:
        count = max(pool.map(highest, pairs), default=-1) + 1
    log.warning("nobody says what the %d mask values mean; name them in %s or by --set classes", count, NAMES_FILE)
    return tuple(f"class {label}" for label in range(count))


def _check_classes(counts: Counts, form: MaskFormat, data: Path) -> None:
    """Refuse training masks of one class besides ``ignore``, and name the classes that none of them has."""
    learnt = {name: counts[label] > 0 for label, name in enumerate(form.class_names) if label != form.ignore}
    absent = [name for name, occurs in learnt.items() if not occurs]
    if len(learnt) - len(absent) < 2:
        present = next((name for name, occurs in learnt.items() if occurs), "none")
        ignored = int(counts[form.ignore])
        hint = f"; {ignored} pixels are {form.ignore} and ignored" if ignored else ""
        raise InvalidInputError(
            f"the training masks of {data} must show at least two classes, got {present} alone{hint}; binary masks are "
            "0 and 1, not 0 and 255",
            path=data,
        )
    if absent:
        log.warning(
            "no training mask has the classes %s: they cannot be learnt", ", ".join(absent[:8])
            + (", ..." if len(absent) > 8 else "")
        )  # fmt: skip
