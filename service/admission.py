"""Who may come in: a bounded number of requests and of bytes, decided before a body is read.

A body on its way takes no place of the queue: slow clients would fill it while the device has nothing to do. Bodies
have a room of their own, of which one client cannot take all.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from service.errors import BodyTooLargeError, CancelledWorkError, QueueFullError, UnavailableError
from service.metrics import Metrics
from service.room import SharedRoom


class Admission:
    """Counts the bodies on their way, the requests between body and answer, and the bytes that both hold.

    Args:
        max_items: most requests that wait for an answer at a time; twice as many bodies may be on their way.
        max_bytes: most bytes of encoded bodies and decoded pictures at a time.
        max_body_bytes: largest body of one request.
        metrics: is told of rejects.
        max_wait_s: longest time that anybody is told to stay away.
    """

    def __init__(
        self, *, max_items: int, max_bytes: int, max_body_bytes: int, metrics: Metrics, max_wait_s: float = 30.0
    ) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.max_body_bytes = max_body_bytes
        self.metrics = metrics
        self.max_wait_s = max_wait_s
        self.items = 0
        self.bytes = 0
        self.uploads = SharedRoom(2 * max_items)
        self.upload_bytes = SharedRoom(max_bytes)
        self.draining = False
        self.mean_wait_s = 0.05
        # Decode threads book the size of pictures while the event loop admits others.
        self._lock = threading.Lock()

    def enter(self, content_length: int | None, client: str = "") -> Ticket:
        """Return the ticket of a request whose body is on its way; ``Ticket.arrived`` gives it its place in the queue.

        Args:
            content_length: bytes of the body, None where it is not said.
            client: who sends it, for the share of one client; "" for nobody in particular.

        Raises:
            BodyTooLargeError: the body is larger than any may be.
            QueueFullError: all places or bytes are taken, or this client's share of those on their way is.
            UnavailableError: the server is going down.
        """
        length = content_length or 0
        if length > self.max_body_bytes:
            raise self.too_large(f"{length} bytes are announced")
        self._refuse_while_draining()
        with self._lock:
            if self.items >= self.max_items:
                raise self._full(f"{self.items} requests wait")
            if not self.uploads.fits(client, 1):
                raise self._full(f"{self.uploads.total} bodies are on their way, all or your share")
            ticket = Ticket(self, client)
            if length:
                self._book(ticket, length)
            self.uploads.add(client, 1)
        return ticket

    def admit(self, n_bytes: int) -> Ticket:
        """Return the place of a request whose body is here already; raises QueueFullError and UnavailableError."""
        self._refuse_while_draining()
        ticket = Ticket(self, None)
        with self._lock:
            if self.items >= self.max_items:
                raise self._full(f"{self.items} requests wait")
            self._book(ticket, n_bytes)
            self.items += 1
        return ticket

    def arrive(self, ticket: Ticket) -> None:
        """Give a request its place in the queue, for its body is here; raises QueueFullError where all are taken."""
        with self._lock:
            if ticket.client is None:
                return
            if self.items >= self.max_items:
                raise self._full(f"{self.items} requests wait")
            self._end_upload(ticket, ticket.client)
            self.items += 1

    def book(self, ticket: Ticket, n_bytes: int) -> None:
        """Add bytes to a ticket; raises QueueFullError where they are too many, CancelledWorkError for a closed one."""
        with self._lock:
            if not ticket.is_open:
                # A decode thread comes late: nobody would give these bytes back.
                raise CancelledWorkError("the request was given up while its picture was decoded")
            self._book(ticket, n_bytes)

    def leave(self, ticket: Ticket) -> None:
        """Give back a place and its bytes, once."""
        with self._lock:
            if not ticket.is_open:
                return
            ticket.is_open = False
            self.bytes -= ticket.bytes
            if ticket.client is None:
                self.items -= 1
            else:
                self._end_upload(ticket, ticket.client)

    def observe(self, seconds: float) -> None:
        """Learn how long one request takes from its body to its answer, for Retry-After."""
        self.mean_wait_s += 0.05 * (seconds - self.mean_wait_s)

    def too_large(self, found: str, max_bytes: int | None = None) -> BodyTooLargeError:
        """Return the error of a body beyond ``max_bytes``, by default the limit of all."""
        self.metrics.rejected("body_too_large")
        limit = self.max_body_bytes if max_bytes is None else max_bytes
        return BodyTooLargeError(f"the body must have at most {limit} bytes, {found}; send a smaller one")

    def _book(self, ticket: Ticket, n_bytes: int) -> None:
        # One request alone may always go on: a picture at the limit must not be refused for ever.
        is_alone = self.bytes == ticket.bytes
        if n_bytes > 0 and self.bytes + n_bytes > self.max_bytes and not is_alone:
            raise self._full(f"requests hold {self.bytes >> 20} MiB")
        if ticket.client is not None:
            if not is_alone and not self.upload_bytes.fits(ticket.client, n_bytes):
                raise self._full(f"bodies of {self.upload_bytes.total >> 20} MiB are on their way, all or your share")
            self.upload_bytes.add(ticket.client, n_bytes)
        self.bytes += n_bytes
        ticket.bytes += n_bytes

    def _end_upload(self, ticket: Ticket, client: str) -> None:
        self.uploads.add(client, -1)
        if ticket.bytes:
            self.upload_bytes.add(client, -ticket.bytes)
        ticket.client = None

    def _refuse_while_draining(self) -> None:
        if self.draining:
            self.metrics.rejected("draining")
            raise UnavailableError("this server is going down and takes no new work; ask another one", code="draining")

    def _full(self, found: str) -> QueueFullError:
        self.metrics.rejected("queue_full")
        return QueueFullError(
            f"the queue must have room for a request, {found}; try again after the time in Retry-After",
            # In the time that one request takes now, all that wait have been answered: the wait grows with the queue.
            retry_after_s=min(self.mean_wait_s, self.max_wait_s),
        )


class Ticket:
    """One request's place in the queue; a context manager that gives it back.

    Attributes:
        client: who sends the body, while it is on its way; None once it has arrived.
        bytes: that the request holds.
        is_open: whether the place is still its own; all three change under the admission's lock.
    """

    __slots__ = ("_admission", "bytes", "client", "is_open")

    def __init__(self, admission: Admission, client: str | None) -> None:
        self._admission = admission
        self.client = client
        self.bytes = 0
        self.is_open = True

    def arrived(self) -> None:
        """Take a place in the queue: the body is here. A second call does nothing; raises QueueFullError."""
        self._admission.arrive(self)

    def grow(self, n_bytes: int) -> None:
        """Add bytes that the request holds until its answer.

        Raises:
            QueueFullError: there is no room for them. CancelledWorkError: the place was given back.
        """
        self._admission.book(self, n_bytes)

    def borrow(self, n_bytes: int) -> None:
        """Add bytes that are needed for a while, or give them back (below zero); raises as ``grow``."""
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
