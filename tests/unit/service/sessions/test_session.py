"""Frames of one session: in order, once each, and without a trace when they fail."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from square_streams import SquareBuilder, png, square_store

from service import stream_state as state_module
from service.errors import (
    DeadlineError,
    InferenceFailedError,
    InvalidParameterError,
    QueueFullError,
    SessionTooLargeError,
)
from service.sessions.errors import SequenceConflictError, SessionNotFoundError
from service.sessions.session import Session
from service.stream_options import StreamOptions
from vision.errors import LimitExceededError, MediaError

TRACKING = {"tracking.camera_motion": "flow", "tracking.n_init": 2}
OPTIONS = StreamOptions(settings=TRACKING)


async def send(session: Session, step: int, sequence: int | None = None, time: float | None = None) -> dict[str, Any]:
    """Return the answer to the frame of a step."""
    answer = await session.submit(png(step), sequence=sequence, timestamp_s=time)
    row: dict[str, Any] = orjson.loads(answer.body)
    return row


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("timings_ms", "session")}


async def reference(builder: SquareBuilder, pool: ThreadPoolExecutor, steps: list[int]) -> list[dict[str, Any]]:
    """Return the answers of an undisturbed session."""
    session = await square_store(builder, pool).create(OPTIONS, "reference")
    return [without_times(await send(session, step, step)) for step in steps]


def test_frames_are_numbered_and_tracked(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        session = await square_store(builder, pool).create(OPTIONS, "key")
        rows = [await send(session, step) for step in range(4)]
        assert [row["sequence"] for row in rows] == [0, 1, 2, 3]
        assert [track["id"] for track in rows[3]["tracks"]] == [1, 2]
        assert rows[3]["tracks"][0]["state"] == "confirmed"
        assert rows[3]["image"] == {"width": 128, "height": 96}
        assert {"decode", "detect", "track"} <= rows[3]["timings_ms"].keys()
        assert session.next_sequence == 4

    asyncio.run(run())


def test_the_last_frame_again_gets_the_same_bytes(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        session = await square_store(builder, pool).create(OPTIONS, "key")
        await send(session, 0, 0)
        first = await session.submit(png(1), sequence=1, timestamp_s=None)
        again = await session.submit(b"no picture", sequence=1, timestamp_s=None)
        assert again.body == first.body
        assert (first.replayed, again.replayed) == (False, True)
        assert builder.detector.seen == [0, 1]

    asyncio.run(run())


def test_lower_numbers_conflict_and_gaps_are_dropped_frames(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        sure = StreamOptions(settings={"tracking.n_init": 1})
        session = await square_store(builder, pool).create(sure, "key")
        await send(session, 0, 0)
        row = await send(session, 3, 7)
        assert [track["age"] for track in row["tracks"]] == [7, 7]
        with pytest.raises(SequenceConflictError, match="next_sequence 8"):
            await send(session, 3, 6)
        assert builder.detector.seen == [0, 7]

    asyncio.run(run())


def test_time_must_rise(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        session = await square_store(builder, pool).create(OPTIONS, "key")
        await send(session, 0, time=1.0)
        with pytest.raises(InvalidParameterError, match="timestamp_s must be above"):
            await send(session, 1, time=1.0)
        assert session.next_sequence == 1
        await send(session, 1, time=1.5)
        assert session.last_timestamp_s == 1.5

    asyncio.run(run())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", MediaError),
        (b"not a picture", MediaError),
        (png(0)[:200], MediaError),
        (png(0, size_hw=(600, 600)), LimitExceededError),
    ],
)
def test_a_bad_picture_leaves_no_trace(
    builder: SquareBuilder, pool: ThreadPoolExecutor, data: bytes, error: type[Exception]
) -> None:
    async def run() -> None:
        session = await square_store(builder, pool).create(OPTIONS, "key")
        rows = [without_times(await send(session, 0, 0))]
        with pytest.raises(error):
            await session.submit(data, sequence=1, timestamp_s=None)
        rows += [without_times(await send(session, step, step)) for step in (1, 2)]
        assert rows == await reference(builder, pool, [0, 1, 2])

    asyncio.run(run())


@pytest.mark.parametrize("failure", [InferenceFailedError("it failed"), ValueError("a bug"), DeadlineError("late")])
@pytest.mark.parametrize("stage", ["detector", "segmenter", "tracker"])
def test_a_frame_whose_inference_fails_leaves_no_trace(
    builder: SquareBuilder, pool: ThreadPoolExecutor, failure: Exception, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        options = OPTIONS.model_copy(update={"segment": stage == "segmenter"})
        session = await square_store(builder, pool).create(options, "key")
        rows = [without_times(await send(session, step, step)) for step in (0, 1)]
        if stage == "tracker":
            # Late in the update: what it has moved by then must be moved back.
            assert session.pipeline.tracker is not None
            monkeypatch.setattr(session.pipeline.tracker, "_begin", lambda *_: (_ for _ in ()).throw(failure))
        else:
            getattr(builder, stage).failures.append(failure)
        with pytest.raises(type(failure)):
            await send(session, 2, 2)
        assert session.next_sequence == 2
        rows += [without_times(await send(session, step, step)) for step in (2, 3)]
        for row in rows:
            for track in row["tracks"]:
                track.pop("surface", None)
        assert rows == await reference(builder, pool, [0, 1, 2, 3])

    asyncio.run(run())


def test_a_frame_is_processed_once_though_its_sender_went_away(
    builder: SquareBuilder, pool: ThreadPoolExecutor
) -> None:
    async def run() -> None:
        session = await square_store(builder, pool).create(OPTIONS, "key")
        builder.detector.gate.clear()
        sender = asyncio.create_task(session.submit(png(0), sequence=0, timestamp_s=None))
        while not builder.detector.seen:
            await asyncio.sleep(0.005)
        sender.cancel()
        again = asyncio.create_task(session.submit(png(0), sequence=0, timestamp_s=None))
        await asyncio.sleep(0.02)
        assert not again.done()
        builder.detector.gate.set()
        assert (await again).replayed
        assert builder.detector.seen == [0]

    asyncio.run(run())


def test_frames_that_come_together_are_answered_in_order(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        session = await square_store(builder, pool, session_credit=8).create(OPTIONS, "key")
        rows = await asyncio.gather(*(send(session, step) for step in range(8)))
        assert [row["sequence"] for row in rows] == list(range(8))
        assert [without_times(row) for row in rows] == await reference(builder, pool, list(range(8)))

    asyncio.run(run())


def test_more_frames_than_credit_are_refused(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        session = await square_store(builder, pool, session_credit=2).create(OPTIONS, "key")
        builder.detector.gate.clear()
        waiting = [asyncio.create_task(send(session, step)) for step in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(QueueFullError) as caught:
            await send(session, 2)
        assert caught.value.headers == {"Retry-After": "1"}
        builder.detector.gate.set()
        assert [row["sequence"] for row in await asyncio.gather(*waiting)] == [0, 1]
        assert session.waiting == 0

    asyncio.run(run())


def test_a_slow_frame_is_finished_and_one_that_did_not_begin_is_dropped(
    builder: SquareBuilder, pool: ThreadPoolExecutor
) -> None:
    async def run() -> None:
        session = await square_store(builder, pool, request_timeout_s=0.5).create(OPTIONS, "key")
        builder.detector.gate.clear()
        first = asyncio.create_task(send(session, 0, 0))
        while not builder.detector.seen:
            await asyncio.sleep(0.005)
        second = asyncio.create_task(send(session, 1, 1))
        with pytest.raises(DeadlineError, match="still being processed"):
            await first
        with pytest.raises(DeadlineError, match="dropped"):
            await second
        builder.detector.gate.set()
        while session.waiting:
            await asyncio.sleep(0.005)
        assert builder.detector.seen == [0]
        assert (await session.submit(b"", sequence=0, timestamp_s=None)).replayed
        assert (await send(session, 1, 1))["sequence"] == 1

    asyncio.run(run())


def test_the_next_picture_is_decoded_while_one_is_inferred(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store = square_store(builder, pool)
        session = await store.create(OPTIONS, "key")
        decoded: list[bytes] = []
        decode = session.work.decode

        async def noted(data: bytes, place: Any) -> Any:
            decoded.append(data)
            return await decode(data, place)

        object.__setattr__(session.work, "decode", noted)
        builder.detector.gate.clear()
        waiting = [asyncio.create_task(send(session, step)) for step in range(4)]
        while len(decoded) < 2:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.03)
        # One in the pipeline and one behind it: further pictures stay encoded.
        assert len(decoded) == 2
        builder.detector.gate.set()
        await asyncio.gather(*waiting)
        assert len(decoded) == 4

    asyncio.run(run())


@pytest.mark.parametrize("limit", [{"MAX_STATE_BYTES": 100}, {"MAX_TRACKS": 1}])
def test_what_a_session_remembers_is_bounded(
    builder: SquareBuilder, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, limit: dict[str, int]
) -> None:
    async def run() -> None:
        session = await square_store(builder, pool).create(OPTIONS, "key")
        await send(session, 0)
        for name, value in limit.items():
            monkeypatch.setattr(state_module, name, value)
        with pytest.raises(SessionTooLargeError, match="max_age"):
            await send(session, 1)
        assert session.next_sequence == 1

    asyncio.run(run())


def test_an_ended_session_drops_what_waits_and_finishes_what_runs(
    builder: SquareBuilder, pool: ThreadPoolExecutor
) -> None:
    async def run() -> None:
        store = square_store(builder, pool)
        session = await store.create(OPTIONS, "key")
        builder.detector.gate.clear()
        running, waiting = (asyncio.create_task(send(session, step)) for step in range(2))
        while not builder.detector.seen:
            await asyncio.sleep(0.005)
        store.delete(session.session_id, "key")
        builder.detector.gate.set()
        assert (await running)["sequence"] == 0
        with pytest.raises(SessionNotFoundError, match="deleted"):
            await waiting
        await store.close()
        assert builder.detector.seen == [0]

    asyncio.run(run())
