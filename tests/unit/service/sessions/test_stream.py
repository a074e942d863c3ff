"""The WebSocket of a session against clients that no library would let us be: silent, greedy, gone."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from square_streams import SquareBuilder, png, square_store

from service.errors import QueueFullError, RateLimitedError
from service.sessions.session import Session
from service.sessions.store import SessionStore
from service.sessions.stream import FrameStream
from service.stream_options import StreamOptions


class Client:
    """Stands for starlette's WebSocket and whoever is at its other end.

    Attributes:
        reading: answers are taken while it is set.
        answers: what was sent to the client.
        closed: code and reason with which the server closed.
    """

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reading = asyncio.Event()
        self.reading.set()
        self.closed: tuple[int, str] | None = None

    def send(self, data: bytes | str | dict[str, Any]) -> None:
        """Send a picture, a text, or a header."""
        if isinstance(data, dict):
            data = orjson.dumps(data).decode()
        kind = "bytes" if isinstance(data, bytes) else "text"
        self.incoming.put_nowait({"type": "websocket.receive", kind: data})

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def answer(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.answers.get(), 5)

    # What the server calls.

    async def receive(self) -> dict[str, Any]:
        return await self.incoming.get()

    async def send_text(self, text: str) -> None:
        await self.reading.wait()
        self.answers.put_nowait(orjson.loads(text))

    async def close(self, code: int, reason: str = "") -> None:
        self.closed = (code, reason)


def serve(store: SessionStore, session: Session, client: Client, **options: Any) -> asyncio.Task[None]:
    stream = FrameStream(client, session, draining=store.draining, max_bytes=100_000, **options)  # type: ignore[arg-type]
    return asyncio.create_task(stream.run())


async def opened(builder: SquareBuilder, pool: ThreadPoolExecutor, **settings: Any) -> tuple[SessionStore, Session]:
    store = square_store(builder, pool, **settings)
    return store, await store.create(StreamOptions(), "key")


def test_frames_are_answered_in_order_and_give_their_credit_back(
    builder: SquareBuilder, pool: ThreadPoolExecutor
) -> None:
    async def run() -> None:
        store, session = await opened(builder, pool)
        client = Client()
        task = serve(store, session, client)
        ready = await client.answer()
        assert ready == {"type": "ready", "session": session.session_id, "credit": 4, "next_sequence": 0}
        credit, sequences = ready["credit"], []
        for step in range(10):
            if not credit:
                answer = await client.answer()
                credit += answer["credit"]
                sequences.append(answer["sequence"])
            client.send(png(step))
            credit -= 1
        while len(sequences) < 10:
            sequences.append((await client.answer())["sequence"])
        assert sequences == list(range(10))
        client.leave()
        await task
        assert client.closed is None
        assert not session.gone.is_set()

    asyncio.run(run())


def test_a_bad_picture_or_header_is_told_in_its_turn_and_the_stream_goes_on(
    builder: SquareBuilder, pool: ThreadPoolExecutor
) -> None:
    async def run() -> None:
        store, session = await opened(builder, pool, session_credit=16)
        client = Client()
        task = serve(store, session, client)
        await client.answer()
        client.send({"type": "frame", "sequence": 5, "timestamp_s": 1})
        client.send(png(0))
        client.send(b"no picture")
        for text in (
            "{",
            '{"type": "other"}',
            '{"type": "frame", "sequence": -1}',
            '{"type": "frame", "sequence": "6"}',
            '{"type": "frame", "timestamp_s": 1e400}',
            '{"type": "frame", "more": 1}',
            "x" * 5000,
        ):
            client.send(text)
            client.send(png(1))
        client.send({"type": "frame"})
        client.send({"type": "frame"})
        client.send(png(1))
        client.send({"type": "frame", "sequence": 5})
        client.send(b"")
        client.send({"type": "frame", "sequence": 3})
        client.send(png(1))
        client.send({"type": "frame", "sequence": 6, "timestamp_s": 0.5})
        client.send(png(1))
        client.send(png(1))
        first = await client.answer()
        assert (first["type"], first["sequence"], first["timestamp_s"]) == ("result", 5, 1.0)
        bad = await client.answer()
        assert (bad["type"], bad["error"]["code"], bad["sequence"]) == ("error", "invalid_image", 6)
        headers = [await client.answer() for _ in range(8)]
        assert {row["error"]["code"] for row in headers} == {"bad_request"}
        replay = await client.answer()
        assert replay.pop("replay") is True
        assert replay == first
        codes = [(await client.answer())["error"]["code"] for _ in range(2)]
        assert codes == ["conflict", "invalid_parameter"]
        assert (await client.answer())["sequence"] == 6
        assert builder.detector.seen == [5, 6]
        client.leave()
        await task

    asyncio.run(run())


def test_a_client_that_sends_without_credit_is_closed(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store, session = await opened(builder, pool, session_credit=2)
        client = Client()
        builder.detector.gate.clear()
        task = serve(store, session, client)
        client.send(png(0))
        client.send(png(1))
        while not builder.detector.seen:
            await asyncio.sleep(0.005)
        client.send(png(2))
        await task
        assert client.closed is not None
        assert client.closed[0] == 1008
        builder.detector.gate.set()
        while session.waiting:
            await asyncio.sleep(0.005)
        # What had begun is finished, what had not is dropped; the session lives.
        assert session.next_sequence == 1
        assert builder.detector.seen == [0]

    asyncio.run(run())


def test_a_client_that_does_not_read_is_closed(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store, session = await opened(builder, pool)
        client = Client()
        task = serve(store, session, client, send_timeout_s=0.05)
        await client.answer()
        client.reading.clear()
        for step in range(4):
            client.send(png(step))
        await asyncio.wait_for(task, 5)
        assert client.closed is not None
        assert client.closed[0] == 1008
        assert "not read" in client.closed[1]

    asyncio.run(run())


def test_a_picture_beyond_the_limit_closes(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store, session = await opened(builder, pool)
        client = Client()
        task = serve(store, session, client)
        client.send(bytes(100_001))
        await task
        assert client.closed is not None
        assert client.closed[0] == 1009

    asyncio.run(run())


def test_a_newer_socket_takes_over(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store, session = await opened(builder, pool)
        first, second = Client(), Client()
        older = serve(store, session, first)
        await first.answer()
        builder.detector.gate.clear()
        first.send(png(0))
        first.send(png(1))
        while not builder.detector.seen:
            await asyncio.sleep(0.005)
        newer = serve(store, session, second)
        await older
        assert first.closed is not None
        assert first.closed[0] == 4409
        builder.detector.gate.set()
        # The frame that had begun counts, the other one was dropped.
        assert (await second.answer())["next_sequence"] == 1
        second.send({"type": "frame", "sequence": 0})
        second.send(png(0))
        assert (await second.answer())["replay"] is True
        second.send(png(1))
        assert (await second.answer())["sequence"] == 1
        assert builder.detector.seen == [0, 1]
        second.leave()
        await newer

    asyncio.run(run())


@pytest.mark.parametrize(("end", "code"), [("delete", 4404), ("drain", 1001)])
def test_the_server_ends_the_socket(builder: SquareBuilder, pool: ThreadPoolExecutor, end: str, code: int) -> None:
    async def run() -> None:
        store, session = await opened(builder, pool)
        client = Client()
        task = serve(store, session, client)
        await client.answer()
        builder.detector.gate.clear()
        client.send(png(0))
        while not builder.detector.seen:
            await asyncio.sleep(0.005)
        if end == "delete":
            store.delete(session.session_id, "key")
        else:
            store.drain()
            client.send(png(1))
            await asyncio.sleep(0.03)
            assert client.closed is None
        builder.detector.gate.set()
        await task
        assert client.closed is not None
        assert client.closed[0] == code
        if end == "drain":
            # What was on its way is answered first, and what comes then is refused.
            assert (await client.answer())["sequence"] == 0
            assert (await client.answer())["error"]["code"] == "draining"

    asyncio.run(run())


def test_a_frame_without_a_place_in_the_servers_queue_is_refused(
    builder: SquareBuilder, pool: ThreadPoolExecutor
) -> None:
    async def run() -> None:
        store, session = await opened(builder, pool)
        client = Client()

        def enter(n_bytes: int) -> Any:
            raise QueueFullError(f"{n_bytes} are too many")

        task = serve(store, session, client, enter=enter)
        await client.answer()
        client.send(png(0))
        answer = await client.answer()
        assert (answer["error"]["code"], answer["credit"]) == ("queue_full", 1)
        client.leave()
        await task
        assert session.next_sequence == 0

    asyncio.run(run())


def test_frames_beyond_the_rate_are_refused_in_their_turn_whatever_their_header(
    builder: SquareBuilder, pool: ThreadPoolExecutor
) -> None:
    async def run() -> None:
        store, session = await opened(builder, pool)
        client, left = Client(), 1

        def count_frame() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise RateLimitedError("too many", retry_after_s=3)

        task = serve(store, session, client, count_frame=count_frame)
        await client.answer()
        client.send(png(0))
        client.send({"type": "frame", "sequence": 7})
        client.send(png(1))
        client.send("no header")
        client.send(png(2))
        answers = [await client.answer() for _ in range(3)]
        assert [answer["type"] for answer in answers] == ["result", "error", "error"]
        assert [answer["credit"] for answer in answers] == [1, 1, 1]
        assert {answer["error"]["code"] for answer in answers[1:]} == {"rate_limited"}
        assert answers[1]["sequence"] == 7
        client.leave()
        await task
        assert session.next_sequence == 1

    asyncio.run(run())
