"""What can go wrong with a session, each with its status and code."""

from __future__ import annotations

from service.errors import ConflictError, InvalidParameterError, NotFoundError, RateLimitedError


class SessionNotFoundError(NotFoundError):
    """No session of that id belongs to the key: it never did, it was deleted, or it expired."""

    code = "session_not_found"


class TooManySessionsError(RateLimitedError):
    """All places are taken, those of the key or those of the server."""

    code = "too_many_sessions"


class SequenceConflictError(ConflictError):
    """The number of a frame is below the next one, and it is not the last one again.

    Args:
        sequence: of the frame.
        next_sequence: lowest number of the next frame.
        has_last: whether the last frame's answer can be had again; a restored session has none yet.
    """

    def __init__(self, sequence: int, next_sequence: int, *, has_last: bool) -> None:
        again = f", or {next_sequence - 1} for the last answer again" if has_last else ""
        advice = f"frames come in order, go on with next_sequence {next_sequence}" if next_sequence else "count from 0"
        super().__init__(f"sequence must be {next_sequence} or higher (next_sequence){again}, got {sequence}; {advice}")
        self.next_sequence = next_sequence


class InvalidSnapshotError(InvalidParameterError):
    """The bytes are no snapshot, a damaged one, or one that does not fit this server."""

    code = "invalid_snapshot"
