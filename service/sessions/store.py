"""All sessions of a server: found by their owners, ended when nobody uses them; bounded in number."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.errors import InvalidParameterError, UnavailableError
from service.sessions.errors import SessionNotFoundError, TooManySessionsError
from service.sessions.frames import Decode
from service.sessions.opening import SessionOpener, StreamBuilder
from service.sessions.requests import SessionInfo
from service.sessions.session import Session

if TYPE_CHECKING:
    from service.settings import Settings
    from service.stream_options import StreamOptions

SWEEP_S = 1.0
REMEMBERED_ENDS = 1024
"""Sessions of which it is remembered that they expired, so that their owners are told so."""


class SessionStore:
    """The sessions; its methods belong to the event loop.

    Args:
        builder: makes their pipelines.
        settings: time-to-live, caps, credit and threads.
        decode: decodes their pictures.
    """

    def __init__(self, builder: StreamBuilder, settings: Settings, decode: Decode) -> None:
        self.settings = settings
        self.draining = asyncio.Event()
        self._opener = SessionOpener(builder, settings, decode)
        self._sessions: dict[str, Session] = {}
        # Places of sessions that are being opened, by key.
        self._opening: dict[str, int] = {}
        self._expired: OrderedDict[str, str] = OrderedDict()
        self._closings: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._sessions)

    async def start(self) -> None:
        """Begin to end sessions whose time is over."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="session sweeper")

    def drain(self) -> None:
        """Take no new sessions; WebSockets are closed (1001), so that their clients go elsewhere."""
        self.draining.set()

    async def close(self) -> None:
        """End all sessions after the frames that are being inferred."""
        self.drain()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
            self._sweeper = None
        for session in list(self._sessions.values()):
            self._end(session, "the server is going down; restore the session's snapshot on another one")
        await asyncio.gather(*self._closings, return_exceptions=True)
        self._opener.close()

    async def create(self, options: StreamOptions, key_id: str, *, ttl_s: float | None = None) -> Session:
        """Return a new session.

        Raises:
            TooManySessionsError, UnavailableError: no place for it, or the server is going down.
            ConfigError, ModelNotFoundError, InvalidParameterError: options that cannot be met.
        """
        ttl_s = self._checked_ttl(ttl_s)
        with self._place(key_id):
            return self._add(await self._opener.open(options, key_id, ttl_s=ttl_s))

    async def restore(self, data: bytes | bytearray, key_id: str) -> Session:
        """Return a new session that goes on where the saved one was.

        Raises:
            InvalidSnapshotError, SessionTooLargeError: the snapshot is none, does not fit, or holds too much.
            Otherwise as ``create``.
        """
        with self._place(key_id):
            return self._add(await self._opener.reopen(data, key_id))

    def get(self, session_id: str, key_id: str) -> Session:
        """Return a session of the key; raises SessionNotFoundError, which says whether it expired."""
        session = self._sessions.get(session_id)
        if session is not None and session.remaining_s(time.monotonic()) <= 0:
            self._expire(session)
            session = None
        if session is not None and session.key_id == key_id:
            return session
        if self._expired.get(session_id) == key_id:
            raise SessionNotFoundError(_expired_message())
        raise SessionNotFoundError(
            "the session must be one of this key (GET /v1/sessions lists them), got an id that is none; open one with "
            "POST /v1/sessions"
        )

    def owned_by(self, key_id: str) -> list[Session]:
        """Return the key's sessions, oldest first."""
        now = time.monotonic()
        return [each for each in self._sessions.values() if each.key_id == key_id and each.remaining_s(now) > 0]

    def delete(self, session_id: str, key_id: str) -> None:
        """End a session; raises SessionNotFoundError."""
        session = self.get(session_id, key_id)
        self._end(session, "the session must exist, it was deleted; open one with POST /v1/sessions")

    @staticmethod
    def describe(session: Session) -> SessionInfo:
        """Return what its owner is told."""
        return SessionInfo(
            id=session.session_id,
            created_at=round(session.created_at, 3),
            expires_at=round(time.time() + session.remaining_s(time.monotonic()), 3),
            ttl_s=session.ttl_s,
            next_sequence=session.next_sequence,
            last_timestamp_s=session.last_timestamp_s,
            frames=session.frames,
            options=session.options.model_dump(mode="json"),
            class_names=list(session.class_names),
        )

    def _add(self, session: Session) -> Session:
        self._sessions[session.session_id] = session
        return session

    @contextmanager
    def _place(self, key_id: str) -> Iterator[None]:
        """Hold a place while a session is being opened, or refuse."""
        if self.draining.is_set():
            raise UnavailableError("this server is going down and takes no new sessions; ask another", code="draining")
        self._sweep_now()
        own = self.owned_by(key_id)
        if len(own) + self._opening.get(key_id, 0) >= self.settings.sessions_max_per_key:
            raise _too_many("of one key", self.settings.sessions_max_per_key, own)
        if len(self._sessions) + sum(self._opening.values()) >= self.settings.sessions_max:
            raise _too_many("on this server", self.settings.sessions_max, list(self._sessions.values()))
        self._opening[key_id] = self._opening.get(key_id, 0) + 1
        try:
            yield
        finally:
            self._opening[key_id] -= 1
            if not self._opening[key_id]:
                del self._opening[key_id]

    def _checked_ttl(self, ttl_s: float | None) -> float:
        if ttl_s is None:
            return self.settings.session_ttl_s
        if not 0 < ttl_s <= self.settings.session_max_ttl_s:
            raise InvalidParameterError(
                f"ttl_s must be above 0 and at most {self.settings.session_max_ttl_s:g} seconds, got {ttl_s:g}; lower "
                "it, and send frames to keep the session"
            )
        return ttl_s

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._sweep_now()

    def _sweep_now(self) -> None:
        now = time.monotonic()
        for session in [each for each in self._sessions.values() if each.remaining_s(now) <= 0]:
            self._expire(session)

    def _expire(self, session: Session) -> None:
        self._expired[session.session_id] = session.key_id
        while len(self._expired) > REMEMBERED_ENDS:
            self._expired.popitem(last=False)
        self._end(session, _expired_message())

    def _end(self, session: Session, reason: str) -> None:
        self._sessions.pop(session.session_id, None)
        session.end(reason)
        task = asyncio.get_running_loop().create_task(session.close(), name=f"end of {session.session_id}")
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)


def _too_many(whose: str, limit: int, sessions: list[Session]) -> TooManySessionsError:
    now = time.monotonic()
    soonest = min((session.remaining_s(now) for session in sessions), default=1.0)
    return TooManySessionsError(
        f"at most {limit} sessions {whose} may be open, and {limit} are; delete one, or wait until one expires",
        retry_after_s=max(1.0, soonest),
    )


def _expired_message() -> str:
    return (
        "the session must be alive, it expired: no frame came within its ttl_s; open one with POST /v1/sessions, or "
        "restore a snapshot"
    )
