"""What a mask's values or colours mean: Pascal VOC's palette, CamVid's, or one from a file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vision.errors import ConfigError, InvalidInputError

VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
VOC_VOID = (224, 224, 192)

# The eleven classes of SegNet (Badrinarayanan 2017) in the colours of the original 32; other colours are ignored.
CAMVID = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (0, 0, 192),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of classes.

    Attributes:
        names: of the classes in label order.
        colours: RGB of each class.
        others: whether colours that are no class mean "ignore"; otherwise they are an error.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    others: bool = False

    def table(self, ignore: int) -> dict[int, int]:
        """Return packed colour (red * 65536 + green * 256 + blue) -> label."""
        known = {pack(colour): label for label, colour in enumerate(self.colours)}
        return {pack(VOC_VOID): ignore, **known} if self.colours == voc_colours(len(self.colours)) else known


def pack(colour: tuple[int, int, int]) -> int:
    """Return an RGB colour as one number.

    >>> pack((1, 2, 3))
    66051
    """
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def voc_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return the first colours of the Pascal VOC palette: the label's bits, dealt out to red, green and blue.

    >>> voc_colours(4)
    ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    """
    colours = []
    for label in range(count):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= (label >> (3 * bit + channel) & 1) << (7 - bit)
        colours.append((channels[0], channels[1], channels[2]))
    return tuple(colours)


def find_palette(name: str) -> Palette | None:
    """Return the palette called ``name``, of the file at that path, or None for "index".

    Raises:
        ConfigError: nothing has that name.
        InvalidInputError: the file has no such lines, or one name or colour twice.
    """
    if name == "index":
        return None
    if name == "voc":
        return Palette(VOC_NAMES, voc_colours(len(VOC_NAMES)))
    if name == "camvid":
        return Palette(tuple(CAMVID), tuple(CAMVID.values()), others=True)
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"palette must be index, voc, camvid or a file of lines name,red,green,blue, got {name!r}; masks with one "
            "number a pixel are index"
        )
    return _read_palette(path)


def _read_palette(path: Path) -> Palette:
    names: list[str] = []
    colours: list[tuple[int, int, int]] = []
    for number, row in enumerate(_rows(path), 1):
        if not row or row[0].startswith("#"):
            continue
        try:
            name, *channels = (cell.strip() for cell in row)
            red, green, blue = map(int, channels)
        except ValueError as exc:
            raise InvalidInputError(
                f"{path}: line {number} must be name,red,green,blue, got {','.join(row)!r}; correct it", path=path
            ) from exc
        if not name or not all(0 <= channel <= 255 for channel in (red, green, blue)):
            raise InvalidInputError(
                f"{path}: line {number} must have a name and channels in [0, 255], got {','.join(row)!r}; correct it",
                path=path,
            )
        if name in names or (red, green, blue) in colours:
            raise InvalidInputError(
                f"{path}: line {number} repeats a name or a colour: {','.join(row)}; give each class its own",
                path=path,
            )
        names.append(name)
        colours.append((red, green, blue))
    return Palette(tuple(names), tuple(colours))


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise InvalidInputError(
            f"{path} must be text of lines name,red,green,blue: {exc}; palette takes such a file, or voc or camvid",
            path=path,
        ) from exc


def labels_of_colours(
    picture: npt.NDArray[np.uint8], palette: Palette, ignore: int
) -> tuple[npt.NDArray[np.uint8], tuple[int, int, int] | None]:
    """Return labels uint8 [H, W] of an RGB mask [H, W, 3], and one colour that is no class, or None.

    Colours that are no class become ``ignore``.
    """
    packed = picture[..., 0].astype(np.int32) << 16 | picture[..., 1].astype(np.int32) << 8 | picture[..., 2]
    keys, values = _sorted_table(palette, ignore)
    # Neighbours are mostly alike: only where a colour begins in its row of memory it is looked up.
    flat = packed.ravel()
    begins = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    colours = flat[begins]
    places = np.minimum(np.searchsorted(keys, colours), len(keys) - 1)
    known = keys[places] == colours
    labels = np.where(known, values[places], np.uint8(ignore))
    foreign = None
    if not palette.others and not known.all():
        colour = int(colours[~known][0])
        foreign = colour >> 16, colour >> 8 & 255, colour & 255
    lengths = np.diff(np.concatenate([begins, [flat.size]]))
    return np.repeat(labels, lengths).reshape(packed.shape), foreign


@cache
def _sorted_table(palette: Palette, ignore: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Return the packed colours of a palette in rising order, and their labels."""
    table = sorted(palette.table(ignore).items())
    return np.array([key for key, _ in table], np.int32), np.array([label for _, label in table], np.uint8)
