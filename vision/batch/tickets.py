"""What the coordinator knows of the work under way: tries of items, and the batches that their pictures form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from vision.batch.facts import Row
from vision.batch.items import Failure, Item, Shard
from vision.batch.messages import Placed

# Processes that an item may cost before it is given up.
TRIES = 2


@dataclass(slots=True, eq=False)
class Ticket:
    """One try of an item.

    Attributes:
        number: of this try; another try of the item has another one.
        item, shard, position: what is tried, and its place in its shard.
        decode_strikes, infer_strikes: processes that died on the item, or had to be ended, in this and earlier tries.
        grants: offsets of room that its decoder was given and has not used, with their sizes.
        waiting: decoded pictures that are in no group yet.
        frame_size: bytes of a decoded frame; 0 before the first.
        data, path: where its fetched bytes lie: a place in the shared memory, or a file.
        is_at_decoder: a decoder has it, or was given it.
        groups: numbers of its groups that wait or are being computed.
        rows: what was computed, by frame.
        decoded: pictures that came from the decoder. is_decoded: no more will come. note: what was wrong with it then.
        inferer: the process that has its stream's state.
        is_closed: its outcome is settled; what still comes of it is dropped.
    """

    number: int
    item: Item
    shard: Shard
    position: int
    decode_strikes: int = 0
    infer_strikes: int = 0
    grants: dict[int, int] = field(default_factory=dict)
    waiting: list[Placed] = field(default_factory=list)
    frame_size: int = 0
    groups: set[int] = field(default_factory=set)
    rows: dict[int, Row] = field(default_factory=dict)
    decoded: int = 0
    is_decoded: bool = False
    note: str | None = None
    inferer: int | None = None
    data: tuple[int, int] | None = None
    path: str | None = None
    is_at_decoder: bool = False
    is_closed: bool = False

    @property
    def order(self) -> tuple[int, int]:
        """Its place in the job: earlier work goes first."""
        return self.shard.index, self.position

    @property
    def is_complete(self) -> bool:
        """Whether all of its pictures have become rows."""
        return self.is_decoded and len(self.rows) == self.decoded


@dataclass(slots=True, eq=False)
class Group:
    """Pictures that are one batch.

    Attributes:
        number: unique. order: its place in the job.
        pictures: in order.
        is_suspect: an inference process died while it computed them, so they run alone.
        inferer: the process that must compute them; None for any.
        sent_s: when they were sent to it.
    """

    number: int
    order: tuple[int, int, int]
    pictures: tuple[Placed, ...]
    is_suspect: bool = False
    inferer: int | None = None
    sent_s: float = 0.0

    def __lt__(self, other: Group) -> bool:
        return (self.order, self.number) < (other.order, other.number)


class PictureBatch:
    """Neighbours in a shard that are computed together: which ones is decided by their places, never by chance.

    Args:
        positions: of the pictures in their shard.
    """

    def __init__(self, positions: Iterable[int]) -> None:
        self._missing = set(positions)
        self._pictures: dict[int, Placed] = {}

    def add(self, position: int, picture: Placed) -> None:
        """Take a decoded picture."""
        self._missing.discard(position)
        self._pictures[position] = picture

    def drop(self, position: int) -> None:
        """Wait no longer for a picture that could not be decoded."""
        self._missing.discard(position)

    @property
    def is_settled(self) -> bool:
        """Whether every picture has come, or never will."""
        return not self._missing

    def take(self) -> tuple[Placed, ...]:
        """Return the pictures that came, in order."""
        return tuple(self._pictures[position] for position in sorted(self._pictures))


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """What became of an item: its rows, and what failed."""

    item: Item
    rows: list[Row]
    failure: Failure | None
