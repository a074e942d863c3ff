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

Colour = tuple[int, int, int]

# The 32 classes of CamVid (Brostow 2009) in the eleven groups that SegNet (Badrinarayanan 2017) is measured on.
CAMVID: dict[str, dict[str, Colour]] = {
    "sky": {"Sky": (128, 128, 128)},
    "building": {
        "Building": (128, 0, 0),
        "Archway": (192, 0, 128),
        "Bridge": (0, 128, 64),
        "Tunnel": (64, 0, 64),
        "Wall": (64, 192, 0),
    },
    "pole": {"Column_Pole": (192, 192, 128), "TrafficCone": (0, 0, 64)},
    "road": {"Road": (128, 64, 128), "LaneMkgsDriv": (128, 0, 192), "LaneMkgsNonDriv": (192, 0, 64)},
    "pavement": {"Sidewalk": (0, 0, 192), "ParkingBlock": (64, 192, 128), "RoadShoulder": (128, 128, 192)},
    "tree": {"Tree": (128, 128, 0), "VegetationMisc": (192, 192, 0)},
    "sign": {"SignSymbol": (192, 128, 128), "Misc_Text": (128, 128, 64), "TrafficLight": (0, 64, 64)},
    "fence": {"Fence": (64, 64, 128)},
    "car": {
        "Car": (64, 0, 128),
        "SUVPickupTruck": (64, 128, 192),
        "Truck_Bus": (192, 128, 192),
        "Train": (192, 64, 128),
        "OtherMoving": (128, 64, 64),
    },
    "pedestrian": {
        "Pedestrian": (64, 64, 0),
        "Child": (192, 128, 64),
        "CartLuggagePram": (64, 0, 192),
        "Animal": (64, 128, 64),
    },
    "bicyclist": {"Bicyclist": (0, 128, 192), "MotorcycleScooter": (192, 0, 192)},
}
CAMVID_VOID = (0, 0, 0)
# Reserved in palette files for colours that are no class.
IGNORED_NAME = "ignore"
# Hand-drawn masks have a handful of stray colours; lossy compression makes hundreds or thousands.
MOST_OTHERS = 32


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of classes.

    Attributes:
        names: of the classes in label order.
        colours: RGB of each class, one or several; no colour occurs twice.
        ignored: colours that mean "ignore".
        others: whether up to ``MOST_OTHERS`` colours in a mask that are not named here mean "ignore"; otherwise they
            are an error.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[Colour, ...], ...]
    ignored: tuple[Colour, ...] = ()
    others: bool = False

    def table(self, ignore: int) -> dict[int, int]:
        """Return packed colour (red * 65536 + green * 256 + blue) -> label."""
        known = {pack(colour): label for label, several in enumerate(self.colours) for colour in several}
        return {pack(colour): ignore for colour in self.ignored} | known

    @property
    def most_others(self) -> int:
        """How many colours a mask may have that are not named here."""
        return MOST_OTHERS if self.others else 0


def pack(colour: Colour) -> int:
    """Return an RGB colour as one number.

    >>> pack((1, 2, 3))
    66051
    """
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def voc_colours(count: int) -> tuple[Colour, ...]:
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
        InvalidInputError: the file has no such lines, or one colour twice.
    """
    if name == "index":
        return None
    if name == "voc":
        return Palette(VOC_NAMES, tuple((colour,) for colour in voc_colours(len(VOC_NAMES))), (VOC_VOID,))
    if name == "camvid":
        colours = tuple(tuple(group.values()) for group in CAMVID.values())
        return Palette(tuple(CAMVID), colours, (CAMVID_VOID,), others=True)
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"palette must be index, voc, camvid or a file of lines name,red,green,blue, got {name!r}; masks with one "
            "number a pixel are index"
        )
    return _read_palette(path)


def _read_palette(path: Path) -> Palette:
    """Return the palette of a file: lines of one name are one class, those named "ignore" are none."""
    lines: dict[Colour, int] = {}
    colours: dict[str, list[Colour]] = {IGNORED_NAME: []}
    for number, row in enumerate(_rows(path), 1):
        if not row or row[0].startswith("#"):
            continue
        name, colour = _parse_row(path, number, row)
        if (first := lines.setdefault(colour, number)) != number:
            raise InvalidInputError(
                f"{path}: a colour must stand in one line, line {number} repeats that of line {first}: "
                f"{','.join(row)}; remove one of them",
                path=path,
            )
        colours.setdefault(name, []).append(colour)
    ignored = colours.pop(IGNORED_NAME)
    return Palette(tuple(colours), tuple(map(tuple, colours.values())), tuple(ignored))


def _parse_row(path: Path, number: int, row: list[str]) -> tuple[str, Colour]:
    """Return the name and the colour of a palette file's line."""
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
    return name, (red, green, blue)


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
) -> tuple[npt.NDArray[np.uint8], list[Colour]]:
    """Return labels uint8 [H, W] of an RGB mask [H, W, 3], and the different colours that the palette does not name.

    The latter become ``ignore``.
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
    foreign = [(colour >> 16, colour >> 8 & 255, colour & 255) for colour in np.unique(colours[~known]).tolist()]
    lengths = np.diff(np.concatenate([begins, [flat.size]]))
    return np.repeat(labels, lengths).reshape(packed.shape), foreign


@cache
def _sorted_table(palette: Palette, ignore: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Return the packed colours of a palette in rising order, and their labels."""
    table = sorted(palette.table(ignore).items())
    return np.array([key for key, _ in table], np.int32), np.array([label for _, label in table], np.uint8)
