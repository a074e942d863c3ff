"""What a report shows, before it is a page: tiles, tables and pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vision.figures import DARK, LIGHT, Theme, picture_bytes, png_bytes
from vision.types import ImageArray

PHOTO_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a report.

    Attributes:
        name: of its file, without suffix.
        title, caption: plain text.
        png: what the file holds.
        inline: what the page shows, PNG or JPEG.
        inline_dark: the same for a dark page; None shows ``inline`` there too.
    """

    name: str
    title: str
    caption: str
    png: bytes
    inline: bytes
    inline_dark: bytes | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain text below a header, as many in each row as in the header.

    ``links`` are the addresses that the first texts of the rows lead to, one a row, empty for none; () has no links.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    links: tuple[str, ...] = ()


@dataclass(slots=True)
class Content:
    """What one kind of model adds to a report: main figures as (label, value), plots, photos and tables."""

    tiles: list[tuple[str, str]] = field(default_factory=list)
    plots: list[Picture] = field(default_factory=list)
    photos: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plot(name: str, title: str, caption: str, draw: Callable[[Theme], Any]) -> Picture:
    """Return a picture of the figure that ``draw`` makes for a theme; the file is the light one."""
    light = png_bytes(draw(LIGHT))
    return Picture(name, title, caption, light, light, png_bytes(draw(DARK)))


def photo(name: str, title: str, caption: str, image: ImageArray) -> Picture:
    """Return a picture of an RGB array: PNG in its file, JPEG in the page, which a phone has to load."""
    return Picture(name, title, caption, picture_bytes(image), picture_bytes(image, jpeg_quality=PHOTO_QUALITY))


def share(value: float) -> str:
    """Return a number in [0, 1] with three digits, and a hyphen for -1, the mark of what does not occur.

    >>> share(0.51234), share(-1.0)
    ('0.512', '-')
    """
    return "-" if value < 0 else f"{value:.3f}"


def columns(*values: object) -> tuple[str, ...]:
    """Return a row of texts; floats as ``share``."""
    return tuple(share(value) if isinstance(value, float) else str(value) for value in values)
