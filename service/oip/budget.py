"""What the pictures of one request may hold together: it may have many, and is one place in the queue."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from service.admission import Ticket
from service.oip.schema import ModelSchema
from vision.errors import LimitExceededError

CHANNELS = 3


@dataclass(frozen=True, slots=True)
class AnswerCost:
    """What an answer takes for each pixel of its pictures.

    Attributes:
        bytes_per_pixel: while it is made and written; 0 where answers do not grow with pictures.
        max_pixels: most that can be answered in this form, None for any number.
    """

    bytes_per_pixel: int = 0
    max_pixels: int | None = None

    @classmethod
    def of(cls, schema: ModelSchema, *, as_json: bool, max_json_labels: int) -> AnswerCost:
        """Return the cost of a model's answer.

        Args:
            schema: of the model.
            as_json: whether label maps are wanted as numbers in JSON.
            max_json_labels: most labels of an answer in JSON.
        """
        if schema.task != "segment":
            return cls()
        label_bytes = 1 if schema.label_datatype == "UINT8" else 8
        # The maps and the batch of them; then their bytes and the body, or text, whose buffer doubles as it grows.
        written = 8 if as_json else 2 * label_bytes
        return cls(2 * label_bytes + written, max_json_labels if as_json else None)


class PictureBudget:
    """Books the pictures of one request and the answers to them on its ticket; asked from the decode threads.

    Alone on the server a ticket may grow beyond the queue, so that one picture at the limit is not refused for ever.
    What keeps sixty-four of them from it is this budget, and it refuses for good and not until later: the same request
    would not fit the next time.

    Args:
        ticket: of the request.
        cost: of its answer.
        max_bytes: of pictures and answers; the first picture may always be there.
    """

    def __init__(self, ticket: Ticket, cost: AnswerCost, max_bytes: int) -> None:
        self._ticket = ticket
        self._cost = cost
        self._max_bytes = max_bytes
        self._pixels = 0
        self._bytes = 0
        self._lock = threading.Lock()

    def grow(self, n_bytes: int) -> None:
        """Take a picture in that will be decoded to so many bytes of RGB; raises as ``take`` and ``Ticket.grow``."""
        self.take(n_bytes // CHANNELS, n_bytes)

    def borrow(self, n_bytes: int) -> None:
        """Book on the ticket what only decoding needs, or give it back (below zero)."""
        self._ticket.borrow(n_bytes)

    def take(self, pixels: int, n_bytes: int = 0) -> None:
        """Take a picture in that holds so many bytes besides those booked already.

        Raises:
            LimitExceededError: the pictures of the request are too many for one answer, or for the server.
            QueueFullError: there is no room now.
        """
        booked = n_bytes + pixels * self._cost.bytes_per_pixel
        with self._lock:
            is_first = not self._pixels
            self._pixels += pixels
            self._bytes += booked
            total_pixels, total_bytes = self._pixels, self._bytes
        if self._cost.max_pixels is not None and total_pixels > self._cost.max_pixels:
            raise LimitExceededError(
                f"label maps in JSON must have at most {self._cost.max_pixels} pixels, got {total_pixels} or more; ask "
                "for the output with binary_data, or send smaller pictures"
            )
        if total_bytes > self._max_bytes and not is_first:
            raise LimitExceededError(
                f"the pictures of one request and the answer to them must take at most {self._max_bytes >> 10} KiB, "
                f"got {total_bytes >> 10} or more; spread them over requests"
            )
        self._ticket.grow(booked)
