"""Who may come in: a bounded number of requests and of bytes, decided before a body is read."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from service.errors import BodyTooLargeError, CancelledWorkError, QueueFullError, UnavailableError
from service.metrics import Metrics


class Admission:
    """Counts the requests between admission and answer, and the bytes that they hold.

    Args:
        max_items: most requests at a time.
        max_bytes: most bytes of encoded bodies and decoded pictures at a time.
        max_body_bytes: largest body of one request.
        metrics: is told of rejects.
    """

    def __init__(self, *, max_items: int, max_bytes: int, max_body_bytes: int, metrics: Metrics) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.max_body_bytes = max_body_bytes
        self.metrics = metrics
        self.items = 0
        self.bytes = 0
        self.draining = False
        self.mean_service_s = 0.05
        # Decode threads book the size of pictures while the event loop admits others.
        self._lock = threading.Lock()

    def enter(self, content_length: int | None) -> Ticket:
        """Return the place of a request whose body has this many bytes (None: not said).

        Raises:
            BodyTooLargeError: the body is larger than any may be.
            QueueFullError: all places or bytes are taken. UnavailableError: the server is going down.
        """
        if content_length is not None and content_length > self.max_body_bytes:
            raise self.too_large(f"{content_length} bytes are announced")
        if self.draining:
            self.metrics.rejected("draining")
            raise UnavailableError("this server is going down and takes no new work; ask another one", code="draining")
        with self._lock:
            if self.items >= self.max_items:
                raise self._full(f"{self.items} requests wait")
            self.items += 1
        ticket = Ticket(self)
        try:
            ticket.grow(content_length or 0)
        except BaseException:
            ticket.release()
            raise
        return ticket

    def book(self, ticket: Ticket, n_bytes: int) -> None:
        """Add bytes to a ticket; raises QueueFullError where they are too many, CancelledWorkError for a closed one."""
        with self._lock:
            if not ticket.is_open:
                # A decode thread comes late: nobody would give these bytes back.
                raise CancelledWorkError("the request was given up while its picture was decoded")
            # One request alone may always go on: a picture at the limit must not be refused for ever.
            if self.bytes + n_bytes > self.max_bytes and self.items > 1:
                raise self._full(f"requests hold {self.bytes >> 20} MiB")
            self.bytes += n_bytes
            ticket.bytes += n_bytes

    def leave(self, ticket: Ticket) -> None:
        """Give back a place and its bytes, once."""
        with self._lock:
            if ticket.is_open:
                ticket.is_open = False
                self.items -= 1
                self.bytes -= ticket.bytes

    def observe(self, seconds: float) -> None:
        """Learn how long one request takes, for Retry-After."""
        self.mean_service_s += 0.05 * (seconds - self.mean_service_s)

    def too_large(self, found: str) -> BodyTooLargeError:
        """Return the error of a body beyond the limit."""
        self.metrics.rejected("body_too_large")
        return BodyTooLargeError(
            f"the body must have at most {self.max_body_bytes} bytes, {found}; send a smaller picture"
        )

    def _full(self, found: str) -> QueueFullError:
        self.metrics.rejected("queue_full")
        return QueueFullError(
            f"the queue must have room for a request, {found}; try again after the time in Retry-After",
            retry_after_s=self.mean_service_s * self.items,
        )


class Ticket:
    """One request's place in the queue; a context manager that gives it back.

    Attributes:
        bytes: that the request holds.
        is_open: whether the place is still its own; both change under the admission's lock.
    """

    __slots__ = ("_admission", "bytes", "is_open")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.bytes = 0
        self.is_open = True

    def grow(self, n_bytes: int) -> None:
        """Add bytes that the request holds.

        Raises:
            QueueFullError: there is no room for them. CancelledWorkError: the place was given back.
        """
        self._admission.book(self, n_bytes)

    def release(self) -> None:
        """Give the place back; a second call does nothing."""
        self._admission.leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
