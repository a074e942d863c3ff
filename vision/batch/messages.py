"""What the coordinator of a local run and its worker processes say to each other."""

from __future__ import annotations

from typing import Any, NamedTuple

from vision.batch.config import BatchConfig
from vision.batch.items import Item
from vision.io.frame_range import FrameRange


class Grant(NamedTuple):
    """Room in the shared memory for one picture of a ticket."""

    ticket: int
    offset: int
    size: int


class Decode(NamedTuple):
    """To a decoder: read an item. ``ticket`` is one try of it.

    ``data`` is where fetched bytes of a picture lie in the shared memory (offset, size), ``path`` where a fetched video
    lies; both None for what can be opened where it is.
    """

    ticket: int
    item: Item
    grants: tuple[Grant, ...] = ()
    data: tuple[int, int] | None = None
    path: str | None = None


class Cancel(NamedTuple):
    """To a decoder: nobody wants more of this ticket."""

    ticket: int


class Begun(NamedTuple):
    """From a decoder that waited for orders: this ticket is the one that it works on now."""

    ticket: int


class Need(NamedTuple):
    """From a decoder: a picture is decoded and has no room; ``size`` bytes are needed."""

    ticket: int
    size: int


class Decoded(NamedTuple):
    """From a decoder: a picture or frame lies at the grant's offset."""

    ticket: int
    offset: int
    size_hw: tuple[int, int]
    frame_index: int
    timestamp_s: float | None


class Finished(NamedTuple):
    """From a decoder: nothing more will come of a ticket.

    ``error`` says what was wrong with it; what came before is whole. ``seconds`` were spent on it without waiting.
    ``picture`` is what became of an item that is one picture, and ``begun`` the ticket that it works on from now on,
    if it has one: one message for a picture, for the coordinator's time bounds what a GPU can be given.
    """

    ticket: int
    error: str | None
    seconds: float
    picture: Decoded | None = None
    begun: int | None = None


class Divide(NamedTuple):
    """To a divider: look for places at which this video can be cut into parts of about ``chunk`` frames."""

    path: str
    chunk: int


class Reading(NamedTuple):
    """From a divider: it gets on with its video; sent when it begins, and now and then."""


class Divided(NamedTuple):
    """From a divider: the parts of its video, or None where it stays whole."""

    parts: list[FrameRange] | None


class Setup(NamedTuple):
    """To an inference process, first of all: what it is to load."""

    config: BatchConfig
    device: str | None
    threads: int


class Refused(NamedTuple):
    """From an inference process: the networks cannot be loaded. ``error`` is one of our exceptions."""

    error: Exception


class Placed(NamedTuple):
    """One picture of a group: whose it is and where it lies."""

    ticket: int
    item: int
    path: str
    offset: int
    size_hw: tuple[int, int]
    frame_index: int
    timestamp_s: float | None


class Infer(NamedTuple):
    """To an inference process: compute these pictures as one batch."""

    group: int
    pictures: tuple[Placed, ...]


class Forget(NamedTuple):
    """To an inference process: the stream of this ticket has ended."""

    ticket: int


class Inferred(NamedTuple):
    """From an inference process: for each picture of a group its row, or the error as text."""

    group: int
    outcomes: list[dict[str, Any] | str]
    seconds: float
