"""What a job is made of: items (one picture, one video or a part of one) and shards (runs of items).

Everything else of the package speaks of these. A shard is the unit of commit: its file is there and whole, or it is not
there. An item is the unit of work, of retry and of quarantine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vision.io.frame_range import FrameRange

__all__ = ["Failure", "FrameRange", "Item", "ItemKind", "Shard", "Stage"]

ItemKind = Literal["image", "video"]
# Where an item was lost: its bytes, its pixels, the networks, or the file it should go to.
Stage = Literal["fetch", "decode", "infer"]


@dataclass(frozen=True, slots=True)
class Item:
    """One unit of work.

    Attributes:
        index: position in the sorted list of the job, from 0; the column ``item`` of its rows.
        name: what rows call it: the POSIX path below SOURCE, a member of a tar behind the tar's own name and a slash.
            Parts of one video share it.
        address: where its bytes are: an absolute local path, or an fsspec URL.
        kind: a picture, or a video (or part of one).
        offset, length: the bytes of a tar's member in the file at ``address``; 0 and -1 for a whole file.
        frames: which frames of a video; None for all of them, and for pictures.
    """

    index: int
    name: str
    address: str
    kind: ItemKind
    offset: int = 0
    length: int = -1
    frames: FrameRange | None = None

    @property
    def is_remote(self) -> bool:
        """Whether its bytes must be fetched before a decoder can open them."""
        return "://" in self.address

    @property
    def label(self) -> str:
        """Name for people: with the frames, where it is part of a video."""
        part = self.frames
        return self.name if part is None else f"{self.name} (frames {part.start} to {part.stop - 1})"


@dataclass(frozen=True, slots=True)
class Shard:
    """A run of items whose rows share one file.

    Attributes:
        index: from 0.
        items: in order.
        digest: sha256 of what identifies the items (name, kind, place in a tar, size, change stamp, frames), which is
            not where they are; hexadecimal.
    """

    index: int
    items: tuple[Item, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An item, or a part of it, that could not be processed; a line of ``quarantine.jsonl``.

    Attributes:
        item: index of the item.
        path: name of the item.
        stage: where it failed.
        error: one line.
        tries: how often it was tried.
        rows: rows that there are nevertheless: those before the damage in a video.
    """

    item: int
    path: str
    stage: Stage
    error: str
    tries: int = 1
    rows: int = 0
