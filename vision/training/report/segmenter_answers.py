"""What a segmenter answered on its validation pictures, kept in the run folder: one index mask a picture, and scores.

The truth is not copied: its files are named, with how their masks are to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.evaluation.segmentation import NO_LABEL, SegmentationMeter, labels_by_name, maps_with_truth
from vision.io.writers.masks import write_index_mask
from vision.palette import mask_palette
from vision.segmentation.segmenter import Segmenter
from vision.training.datasets.mask_layouts import MaskedPicture
from vision.training.datasets.masks import MaskFormat, read_mask
from vision.training.datasets.palettes import IGNORED_NAME, Colour, Palette
from vision.training.report.answers import ANSWERS_FOLDER, load_arrays, save_arrays
from vision.types import FloatArray, IntArray

SEGMENTATION_FILE = "segmentation.npz"
FOUND_FOLDER = "found"


@dataclass(frozen=True, slots=True, eq=False)
class SegmenterAnswers:
    """Scores of a run's model on its validation pictures, and where pictures, truth and answers lie.

    Attributes:
        class_names: of the labels.
        confusion: int64 [K, K] pixels; rows are true classes, columns found ones.
        border_f1: float32 [K], NaN for a class that no picture shows.
        accuracy: float32 [N], the share of right pixels in each picture, NaN where none is known.
        pictures: N of them, with the masks of the truth. form: how these are read.
        found: N index masks of the model's answers.
    """

    class_names: tuple[str, ...]
    confusion: IntArray
    border_f1: FloatArray
    accuracy: FloatArray
    pictures: tuple[MaskedPicture, ...]
    form: MaskFormat
    found: tuple[Path, ...]

    def truth(self, row: int) -> npt.NDArray[np.int16]:
        """Return the true labels int16 [H, W] of a picture, -1 where nothing is known; raises InvalidInputError."""
        label_of = labels_by_name(self.form.class_names, self.class_names, ignore=self.form.ignore)
        return np.asarray(label_of[read_mask(self.pictures[row].mask, self.form)], np.int16)

    def answer(self, row: int) -> npt.NDArray[np.int16]:
        """Return the found labels int16 [H, W] of a picture; raises InvalidInputError."""
        return read_mask(self.found[row], MaskFormat(self.class_names)).astype(np.int16)


def answer_pictures(
    out: Path,
    segmenter: Segmenter,
    pictures: Sequence[MaskedPicture],
    form: MaskFormat,
    on_image: Callable[[], None] = lambda: None,
) -> SegmentationMeter:
    """Run a segmenter on pictures with masks, keep its answers in ``out/validation/``, and return the scores."""
    names = segmenter.class_names
    meter, colours = SegmentationMeter(names, ignore=NO_LABEL), mask_palette(names)
    folder = out / ANSWERS_FOLDER / FOUND_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.png"):  # of an export before
        path.unlink()
    accuracy, found = [], []
    for number, (labels, truth) in enumerate(maps_with_truth(segmenter, pictures, form)):
        meter.add(labels, truth)
        known = truth != NO_LABEL
        accuracy.append((labels == truth)[known].mean() if known.any() else np.nan)
        # Numbered: pictures of several folders may share a name.
        found.append(folder / f"{number:05d}_{pictures[number].image.stem}.png")
        write_index_mask(found[-1], labels.astype(np.uint8), colours, overwrite=True)
        on_image()
    _save(out, meter, pictures, form, np.asarray(accuracy, np.float32), found)
    return meter


def load_segmentation(out: Path) -> SegmenterAnswers | None:
    """Return what ``answer_pictures`` kept, or None."""
    table = load_arrays(out, SEGMENTATION_FILE)
    if table is None:
        return None
    images, masks = (tuple(map(Path, _texts(table[key]))) for key in ("images", "masks"))
    folder = out / ANSWERS_FOLDER / FOUND_FOLDER
    return SegmenterAnswers(
        class_names=_texts(table["class_names"]),
        confusion=table["confusion"],
        border_f1=table["border_f1"],
        accuracy=table["accuracy"],
        pictures=tuple(map(MaskedPicture, images, masks)),
        form=MaskFormat(_texts(table["mask_names"]), int(table["ignore"]), _palette_of(table)),
        found=tuple(folder / name for name in _texts(table["found"])),
    )


def _save(
    out: Path,
    meter: SegmentationMeter,
    pictures: Sequence[MaskedPicture],
    form: MaskFormat,
    accuracy: FloatArray,
    found: Sequence[Path],
) -> None:
    palette = form.palette or Palette((), ())
    owned = [(name, colour) for name, colours in zip(palette.names, palette.colours, strict=True) for colour in colours]
    owned += [(IGNORED_NAME, colour) for colour in palette.ignored]
    save_arrays(
        out,
        SEGMENTATION_FILE,
        class_names=np.asarray(meter.class_names, np.str_),
        confusion=meter.confusion,
        border_f1=np.asarray([item.border_f1 for item in meter.classes()], np.float32),
        accuracy=accuracy,
        images=np.asarray([str(picture.image.absolute()) for picture in pictures], np.str_),
        masks=np.asarray([str(picture.mask.absolute()) for picture in pictures], np.str_),
        found=np.asarray([path.name for path in found], np.str_),
        mask_names=np.asarray(form.class_names, np.str_),
        ignore=np.asarray(form.ignore),
        palette_names=np.asarray([name for name, _ in owned], np.str_),
        palette_colours=np.asarray([colour for _, colour in owned], np.int64).reshape(-1, 3),
        palette_others=np.asarray(palette.others),
    )


def _palette_of(table: dict[str, npt.NDArray[Any]]) -> Palette | None:
    """Return the palette whose colours were kept with a name each; classes in the order of their first."""
    colours: dict[str, list[Colour]] = {IGNORED_NAME: []}
    for name, (red, green, blue) in zip(_texts(table["palette_names"]), table["palette_colours"], strict=True):
        colours.setdefault(name, []).append((int(red), int(green), int(blue)))
    ignored = tuple(colours.pop(IGNORED_NAME))
    if not colours:
        return None
    return Palette(tuple(colours), tuple(map(tuple, colours.values())), ignored, bool(table["palette_others"]))


def _texts(values: npt.NDArray[np.str_]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
