"""Who gets a session, how many there are, and how long they live."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from square_streams import SquareBuilder, png, square_store

from service.errors import InvalidParameterError, UnavailableError
from service.sessions import store as store_module
from service.sessions.errors import SessionNotFoundError, TooManySessionsError
from service.stream_options import StreamOptions
from vision.errors import ConfigError

OPTIONS = StreamOptions()


class Clock:
    """Stands for ``time`` in the modules that count a session's life."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    time = perf_counter = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in ("opening", "store", "session"):
        monkeypatch.setattr(f"service.sessions.{module}.time", made)
    return made


def test_only_the_owner_finds_a_session(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store = square_store(builder, pool)
        mine, other = await store.create(OPTIONS, "mine"), await store.create(OPTIONS, "other")
        assert store.get(mine.session_id, "mine") is mine
        assert store.owned_by("mine") == [mine]
        for session_id in (other.session_id, "0" * 32, "../etc/passwd"):
            with pytest.raises(SessionNotFoundError, match="one of this key"):
                store.get(session_id, "mine")
        with pytest.raises(SessionNotFoundError):
            store.delete(other.session_id, "mine")
        assert len(store) == 2

    asyncio.run(run())


def test_a_session_ends_without_frames_and_its_owner_is_told(
    builder: SquareBuilder, pool: ThreadPoolExecutor, clock: Clock
) -> None:
    async def run() -> None:
        store = square_store(builder, pool)
        session = await store.create(OPTIONS, "mine", ttl_s=10.0)
        assert store.describe(session).expires_at == 1010
        clock.seconds += 9
        await session.submit(png(0), sequence=None, timestamp_s=None)
        clock.seconds += 9
        assert store.describe(session).expires_at == 1019
        clock.seconds += 1
        with pytest.raises(SessionNotFoundError, match="expired"):
            store.get(session.session_id, "mine")
        with pytest.raises(SessionNotFoundError, match="one of this key"):
            store.get(session.session_id, "other")
        assert len(store) == 0
        assert session.gone.is_set()

    asyncio.run(run())


def test_the_sweeper_ends_sessions_that_nobody_asks_for(
    builder: SquareBuilder, pool: ThreadPoolExecutor, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SWEEP_S", 0.01)

    async def run() -> None:
        store = square_store(builder, pool)
        await store.start()
        session = await store.create(OPTIONS, "mine")
        builder.detector.gate.clear()
        frame = asyncio.create_task(session.submit(png(0), sequence=None, timestamp_s=None))
        await asyncio.sleep(0.02)
        clock.seconds += 1000
        await asyncio.sleep(0.05)
        # A frame on its way keeps its session, however long it takes.
        assert len(store) == 1
        builder.detector.gate.set()
        await frame
        clock.seconds += 1000
        await asyncio.wait_for(session.gone.wait(), 2)
        await store.close()
        assert session.pipeline.tracker is None

    asyncio.run(run())


def test_places_are_limited_for_a_key_and_for_all(
    builder: SquareBuilder, pool: ThreadPoolExecutor, clock: Clock
) -> None:
    async def run() -> None:
        store = square_store(builder, pool, sessions_max=3, sessions_max_per_key=2)
        await store.create(OPTIONS, "a", ttl_s=30.0)
        await store.create(OPTIONS, "a", ttl_s=20.0)
        clock.seconds += 4
        with pytest.raises(TooManySessionsError, match="of one key") as caught:
            await store.create(OPTIONS, "a")
        assert caught.value.headers == {"Retry-After": "16"}
        await store.create(OPTIONS, "b")
        with pytest.raises(TooManySessionsError, match="on this server"):
            await store.create(OPTIONS, "c")
        clock.seconds += 16
        await store.create(OPTIONS, "c")
        assert len(store) == 3

    asyncio.run(run())


def test_sessions_that_are_being_opened_count(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store = square_store(builder, pool, sessions_max=3)
        made = await asyncio.gather(*(store.create(OPTIONS, "key") for _ in range(8)), return_exceptions=True)
        assert sum(isinstance(each, TooManySessionsError) for each in made) == 5
        assert len(store) == 3

    asyncio.run(run())


def test_options_that_cannot_be_met_take_no_place(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store = square_store(builder, pool, sessions_max=1)
        with pytest.raises(ConfigError, match="did you mean 'bytetrack'"):
            await store.create(StreamOptions(tracker="bytetrak"), "key")
        with pytest.raises(InvalidParameterError, match="ttl_s"):
            await store.create(OPTIONS, "key", ttl_s=1e6)
        await store.create(OPTIONS, "key")

    asyncio.run(run())


def test_a_store_that_drains_opens_nothing(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store = square_store(builder, pool)
        session = await store.create(OPTIONS, "key")
        store.drain()
        with pytest.raises(UnavailableError) as caught:
            await store.create(OPTIONS, "key")
        assert caught.value.error_code == "draining"
        assert not session.gone.is_set()
        await store.close()
        assert session.gone.is_set()
        assert len(store) == 0

    asyncio.run(run())
