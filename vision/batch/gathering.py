"""Files that a listing came upon, to the items of a job: pictures, videos, shards or nothing, by their suffix."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vision.batch.columns import ItemRows
from vision.batch.filesystems import is_url, one_line
from vision.batch.items import ItemKind
from vision.batch.local_listing import FoundFile
from vision.batch.ordered_map import ordered_map
from vision.batch.remote_listing import open_remote
from vision.batch.tar_index import TarDamage, TarMember, is_compressed_tar, is_tar, read_members
from vision.errors import InvalidInputError
from vision.io.container import VIDEO_SUFFIXES, mask_credentials
from vision.io.images import HEADER_BYTES, IMAGE_SUFFIXES, is_image_header

# A remote tar's headers come one behind the other; several tars wait for theirs at a time.
_TAR_THREADS = 8


class Gathering:
    """The items of a job under construction.

    Args:
        base: folder or prefix that names of files start from, with a slash at its end; "" for whole paths and URLs.
        videos_only: pictures are counted and left out.

    Attributes:
        base: as given.
        notes: lines about what was left out or is damaged.
        n_pictures: that were left out.
        n_damaged: items that stand for damaged tars.
        low, high: the first and the last address in plain order, of whole ones.
    """

    def __init__(self, base: str = "", *, videos_only: bool = False) -> None:
        self.notes: list[str] = []
        self.n_pictures = 0
        self.n_damaged = 0
        self.low = self.high = ""
        self.base = base
        self._videos_only = videos_only
        self._rows = ItemRows(base)
        self._tars: list[FoundFile] = []
        self._n_compressed = 0

    def add(self, file: FoundFile, *, is_named: bool) -> None:
        """Add a file; one that somebody named is an item whatever its suffix says.

        Raises:
            InvalidInputError: a compressed tar was named.
        """
        name = file.name
        suffix = name[name.rfind(".") :].lower()
        if suffix in IMAGE_SUFFIXES:
            self._add_item(file, "image")
        elif suffix in VIDEO_SUFFIXES:
            self._add_item(file, "video")
        elif is_tar(name):
            self._tars.append(file)
        elif is_compressed_tar(name):
            if is_named:
                raise compressed_tar_error(name)
            self._n_compressed += 1
        elif is_named:
            self._add_item(file, _sniff(name))

    def finish(self) -> Any:
        """Return the items as a table in no order, after reading the tars that were found."""
        if self._n_compressed:
            self.note(
                f"{self._n_compressed} compressed tars were left out: their members cannot be read apart; unpack them "
                "to .tar"
            )
        threads = _TAR_THREADS if any(is_url(self.base + tar.name) for tar in self._tars) else 1
        indexed = ordered_map(self._index, self._tars, threads)
        for tar, (members, damage) in zip(self._tars, indexed, strict=True):
            self._add_members(tar, members)
            if damage:
                self.note(
                    f"{mask_credentials(tar.name)} is damaged or no tar behind {len(members)} pictures ({damage})"
                )
                self.n_damaged += 1
                # An item that fails, so that the shard is in quarantine.
                self._add_row(tar, "image", tar.name, offset=max(tar.size, 0), length=0)
        if self._videos_only and self.n_pictures:
            self.note(f"{self.n_pictures} pictures were left out: tracking is of videos")
        return self._rows.finish()

    def _add_item(self, file: FoundFile, kind: ItemKind) -> None:
        if kind == "image" and self._videos_only:
            self.n_pictures += 1
            return
        self._note_address(file.name)
        self._rows.add(file.name, kind, size=file.size, stamp=file.stamp)

    def _add_members(self, tar: FoundFile, members: Iterable[TarMember]) -> None:
        for member in members:
            if self._videos_only:
                self.n_pictures += 1
            else:
                self._add_row(tar, "image", f"{tar.name}/{member.name}", offset=member.offset, length=member.length)

    def _add_row(self, tar: FoundFile, kind: ItemKind, name: str, *, offset: int, length: int) -> None:
        self._note_address(tar.name)
        address = self.base + tar.name
        self._rows.add(name, kind, address=address, offset=offset, length=length, size=length, stamp=tar.stamp)

    def _note_address(self, address: str) -> None:
        if not self.low or address < self.low:
            self.low = address
        if address > self.high:
            self.high = address

    def note(self, line: str) -> None:
        """Write a line down."""
        # Reports are UTF-8; names of files need not be.
        self.notes.append(line.encode("utf-8", "backslashreplace").decode())

    def _index(self, tar: FoundFile) -> tuple[list[TarMember], str]:
        """Return the pictures of a tar and what is wrong with it, or ""; a store that gives no answer raises."""
        members: list[TarMember] = []
        address = self.base + tar.name
        try:
            if is_url(address):
                with open_remote(address, ahead=True) as file:
                    damage = _collect(file, members)
            else:
                with Path(address).open("rb") as file:
                    damage = _collect(file, members)
        except (OSError, ValueError) as exc:
            if not is_missing(exc):
                raise
            damage = one_line(exc)
        return members, damage


def is_missing(exc: BaseException) -> bool:
    """Return whether an error, or the one behind it, says for certain that a file is not there for us."""
    known = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
    return isinstance(exc, known) or isinstance(exc.__cause__, known)


def compressed_tar_error(name: str) -> InvalidInputError:
    """Return the error for a compressed tar."""
    return InvalidInputError(
        f"shards must be plain .tar files, got {mask_credentials(name)}: members of a compressed tar cannot be read "
        "apart; unpack it to .tar (pictures are compressed already)",
        expected=".tar",
        actual=name,
    )


def _collect(file: Any, members: list[TarMember]) -> str:
    """Put the pictures of a tar into a list and return what is wrong with it, or ""."""
    try:
        members.extend(read_members(file))
    except TarDamage as exc:
        return str(exc)
    return ""


def _sniff(name: str) -> ItemKind:
    """Return what a file of no known suffix is, as far as this machine can tell without asking anybody."""
    if is_url(name) or not os.path.isfile(name):  # noqa: PTH113 - Path refuses some names
        return "image"
    try:
        with Path(name).open("rb") as file:
            return "image" if is_image_header(file.read(HEADER_BYTES)) else "video"
    except OSError:
        return "image"
