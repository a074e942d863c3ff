"""A decoder: items in, pictures into the shared memory. Loads no torch, so that a dozen of them are cheap.

Untrusted bytes meet native code here and nowhere else in a run; a file that kills or hangs the process costs this
process, and the coordinator knows which file it was.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

from vision.batch.arena import ArenaView
from vision.batch.items import Item
from vision.batch.messages import Begun, Cancel, Decode, Decoded, Finished, Grant, Need
from vision.batch.worker_process import connect
from vision.errors import MediaError, VisionError
from vision.io.images import ImageLimits, decode_image, read_image
from vision.io.video import DecodeBudget
from vision.io.video_range import VideoRangeReader
from vision.types import Frame

# A file may take this share of the time of an item to open, and as much again to its first picture: then its error is
# told before the coordinator loses patience with the process.
_BUDGET_SHARE = 0.4
# Damaged packets are passed over faster than good ones are decoded; mostly the time decides.
_PACKETS_PER_S = 1000
# FFmpeg takes no time without end.
_DAY_S = 86400.0


def decode_budget(item_timeout_s: float) -> DecodeBudget:
    """Return how long a video may give no picture where an item may take ``item_timeout_s``."""
    limit_s = min(item_timeout_s, _DAY_S)
    return DecodeBudget(packets=math.ceil(_PACKETS_PER_S * limit_s), seconds=_BUDGET_SHARE * limit_s)


class _CancelledError(Exception):
    """The coordinator wants no more of a ticket."""


class Decoder:
    """One decoder's work on the tickets that the coordinator sends, one after the other.

    Args:
        connection: to the coordinator. arena: where pictures go.
        limits: largest picture that is decoded.
        budget: of a video without pictures.
    """

    def __init__(self, connection: Connection, arena: ArenaView, limits: ImageLimits, budget: DecodeBudget) -> None:
        self._connection = connection
        self._arena = arena
        self._limits = limits
        self._budget = budget
        self._orders: deque[Decode] = deque()
        self._grants: dict[int, list[Grant]] = {}
        self._cancelled: set[int] = set()
        self._current = -1
        self._picture: Decoded | None = None
        self._waited_s = 0.0

    def serve(self) -> None:
        """Work until the coordinator has gone."""
        begun = None
        while True:
            while not self._orders:
                self._receive()
            order = self._orders.popleft()
            self._current, self._picture = order.ticket, None
            self._grants.setdefault(order.ticket, []).extend(order.grants)
            if begun != order.ticket:
                self._connection.send(Begun(order.ticket))
            started, self._waited_s = time.perf_counter(), 0.0
            error = self._decode(order)
            seconds = time.perf_counter() - started - self._waited_s
            begun = self._orders[0].ticket if self._orders else None
            self._connection.send(Finished(order.ticket, error, seconds, self._picture, begun))
            self._current = -1
            self._grants.pop(order.ticket, None)
            self._cancelled.discard(order.ticket)

    def _decode(self, order: Decode) -> str | None:
        try:
            for frame in self._frames(order):
                delivered = self._deliver(order.ticket, frame)
                if order.item.kind == "image":
                    self._picture = delivered  # told with the end
                else:
                    self._connection.send(delivered)
        except _CancelledError:
            return None
        except VisionError as exc:
            return " ".join(str(exc).split())
        except Exception as exc:  # a decoder's own exceptions: the item is lost, the job is not
            return f"{order.item.name} cannot be decoded: {type(exc).__name__}: {' '.join(str(exc).split())}"
        return None

    def _frames(self, order: Decode) -> Iterator[Frame]:
        item = order.item
        if item.kind == "image":
            yield self._read_picture(order)
            return
        path = order.path or item.address
        limit = self._limits.max_pixels
        with closing(
            VideoRangeReader(path, item.frames, max_pixels=limit, name=item.name, budget=self._budget)
        ) as reader:
            yield from reader
            if reader.truncated:
                raise MediaError(f"{item.name} is damaged or cut short; what can be decoded of it is kept", path=path)

    def _read_picture(self, order: Decode) -> Frame:
        item = order.item
        if order.data is not None:
            data = self._arena.read(*order.data)
        elif item.length >= 0:
            data = _read_part(Path(item.address), item)
        else:
            return read_image(item.address, limits=self._limits, source=item.name)
        return Frame(decode_image(data, limits=self._limits, source=item.name), source=item.name)

    def _deliver(self, ticket: int, frame: Frame) -> Decoded:
        # Orders, cancellations and grants that came while this frame was decoded.
        while self._connection.poll():
            self._receive()
        room = self._room(ticket, frame.image.nbytes)
        self._arena.picture(room.offset, frame.size_hw)[...] = frame.image
        return Decoded(ticket, room.offset, frame.size_hw, frame.index, frame.timestamp_s)

    def _room(self, ticket: int, size: int) -> Grant:
        """Return room of at least ``size`` bytes, waiting for it if need be."""
        started = time.perf_counter()
        is_asked = False
        while True:
            if ticket in self._cancelled:
                raise _CancelledError
            # Once asked, the coordinator has taken back what is smaller; some of it may still be on its way.
            grants = [grant for grant in self._grants.get(ticket, []) if not is_asked or grant.size >= size]
            self._grants[ticket] = grants
            fitting = next((grant for grant in grants if grant.size >= size), None)
            if fitting is not None:
                grants.remove(fitting)
                self._waited_s += time.perf_counter() - started
                return fitting
            if not is_asked:
                self._connection.send(Need(ticket, size))
                self._grants[ticket] = []
                is_asked = True
            self._receive()

    def _receive(self) -> None:
        match self._connection.recv():
            case Decode() as order:
                self._orders.append(order)
            case Grant() as grant if grant.ticket == self._current:
                self._grants[grant.ticket].append(grant)
            case Cancel(ticket) if ticket == self._current or any(order.ticket == ticket for order in self._orders):
                self._cancelled.add(ticket)
            case _:
                pass  # about a ticket that was finished when it was sent


def _read_part(path: Path, item: Item) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(item.offset)
            data = file.read(item.length)
    except OSError as exc:
        raise MediaError(f"{item.name} cannot be read: {exc.strerror or exc}; check {path}", path=path) from exc
    if len(data) < item.length:
        raise MediaError(
            f"{item.name} must have {item.length} bytes in {path.name}, found {len(data)}; the tar is cut short or was "
            "changed since the job was planned",
            path=path,
        )
    return data


def main() -> None:
    """Serve the coordinator that started this process."""
    connection, arena = connect(int(sys.argv[1])), ArenaView(int(sys.argv[2]))
    limits = ImageLimits(max_pixels=int(sys.argv[3]))
    try:
        Decoder(connection, arena, limits, decode_budget(float(sys.argv[4]))).serve()
    except (EOFError, OSError):
        return


if __name__ == "__main__":
    main()
