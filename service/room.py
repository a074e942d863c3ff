"""Room for what arrives from many clients, of which none may take all: places of bodies, their bytes, and the bytes of
WebSocket messages in pieces."""

from __future__ import annotations


class SharedRoom:
    """Counts what clients hold of a limited room. A client alone may take half of it; beyond, at most an eighth each.

    So one busy client is not slowed down while there is room, and a hostile one leaves room for the others. Not
    thread-safe.

    Args:
        limit: of all clients together.

    >>> room = SharedRoom(16)
    >>> room.add("a", 8)
    >>> room.fits("a", 1), room.fits("b", 2), room.fits("b", 9)
    (False, True, False)
    """

    __slots__ = ("_by_client", "limit", "total")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._by_client: dict[str, int] = {}

    def fits(self, client: str, amount: int) -> bool:
        """Say whether a client may take so much more; the client "" stands for many and has no share of its own."""
        total = self.total + amount
        if 2 * total <= self.limit:
            return True
        held = self._by_client.get(client, 0)
        # Who holds nothing yet may begin, however small the room is.
        return total <= self.limit and (not held or not client or 8 * (held + amount) <= self.limit)

    def add(self, client: str, amount: int) -> None:
        """Count what a client takes, or gives back (below zero)."""
        self.total += amount
        held = self._by_client.get(client, 0) + amount
        if held:
            self._by_client[client] = held
        else:
            self._by_client.pop(client, None)  # clients come and go; the table must not grow with them
