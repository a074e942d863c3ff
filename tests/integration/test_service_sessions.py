"""Tracking sessions through the whole service on a real socket: HTTP, WebSocket, keys, and the numbers of the CLI."""

from __future__ import annotations

import asyncio
import base64
import http.client
import importlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import pytest
import websockets
from square_streams import ColourEmbedder, SquareDetector, picture, png
from typer.testing import CliRunner
from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.http11 import Response
from websockets.typing import Origin, Subprotocol

from service import loading, models
from service.app import create_app
from service.connections import ConnectionGate, EdgeLimits
from service.server import DrainingServer, _configure, open_listener
from service.settings import Settings
from service.state import Service
from vision import build
from vision.cli.main import app as cli

KEYS = ("a-key-of-somebody", "a-key-of-another-one")


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> SquareDetector:
    """Put a detector of squares in the place of the network, for the service and for the command line."""
    found = SquareDetector()
    for module in (models, build):
        monkeypatch.setattr(module, "build_detector", lambda *_: found)
        monkeypatch.setattr(module, "build_embedder", lambda *_: ColourEmbedder())
    monkeypatch.setattr(loading, "warm_up", lambda served, device: None)
    return found


class Server:
    """A running service in this event loop."""

    def __init__(self, port: int, service: Service, stop: Callable[[], None]) -> None:
        self.port = port
        self.service = service
        self.stop = stop

    async def request(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and body of an answer; JSON is read."""
        return await asyncio.to_thread(self._request, method, path, body, headers)

    def _request(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = json.dumps(body).encode() if isinstance(body, dict | list) else body
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, data, named)
            response = connection.getresponse()
            content = response.read()
            is_json = response.headers.get("content-type") == "application/json"
            return response.status, dict(response.headers.items()), json.loads(content) if is_json else content
        finally:
            connection.close()

    async def open(self, options: dict[str, Any] | None = None, **headers: str) -> str:
        """Return the id of a new session."""
        status, _, row = await self.request("POST", "/v1/sessions", options, **headers)
        assert status == 201, row
        name: str = row["id"]
        return name

    def stream(self, session: str, **options: Any) -> connect:
        """Return a connection to the session's WebSocket."""
        return connect(f"ws://127.0.0.1:{self.port}/v1/sessions/{session}/stream", **options)


@asynccontextmanager
async def serving(folder: Path, **fields: Any) -> AsyncIterator[Server]:
    """Run the service on a free port."""
    names = {"segmenter": "none", "classifier": "none", "embedder": "none"}
    settings = Settings(
        _env_file=None, **{**names, "port": 0, "data_dir": folder / "data", "jobs_workers": 0, **fields}
    )
    app = create_app(settings, background=False)
    service: Service = app.state.service
    gate = ConnectionGate(EdgeLimits.from_settings(settings), trusted_proxies=(), on_refusal=lambda reason: None)
    listener = open_listener(settings)
    server = DrainingServer(_configure(settings, app, gate), gate, 5.0, service.begin_draining)

    def stop() -> None:
        server.should_exit = True

    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            assert not task.done(), "the server did not start"
            await asyncio.sleep(0.01)
        yield Server(listener.getsockname()[1], service, stop)
    finally:
        stop()
        await asyncio.wait_for(task, 20)
        listener.close()


Test = Callable[[Server], Awaitable[None]]


def run(test: Test, folder: Path, **fields: Any) -> None:
    """Run a test against a server."""

    async def whole() -> None:
        async with serving(folder, **fields) as server:
            await test(server)

    asyncio.run(whole())


async def receive(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 10))
    return message


async def closed_with(socket: ClientConnection) -> int:
    """Return the code with which the server closes."""
    with suppress(websockets.ConnectionClosed):
        while True:
            await asyncio.wait_for(socket.recv(), 10)
    code = socket.close_code
    assert code is not None
    return code


def test_a_session_over_http(detector: SquareDetector, tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        status, headers, row = await server.request("POST", "/v1/sessions", {"tracker": "sort", "ttl_s": 30})
        assert status == 201
        path = f"/v1/sessions/{row['id']}"
        assert headers["location"] == path
        assert (row["next_sequence"], row["ttl_s"], row["class_names"]) == (0, 30.0, ["square", "other"])
        assert row["expires_at"] == pytest.approx(row["created_at"] + 30, abs=1)
        assert row["options"]["model"] == "person-lite0"
        status, _, first = await server.request("POST", f"{path}/frames?sequence=0&timestamp_s=0.5", png(0))
        assert (status, first["session"], first["timestamp_s"]) == (200, row["id"], 0.5)
        assert [found["class_name"] for found in first["detections"]] == ["square", "square"]
        status, headers, again = await server.request("POST", f"{path}/frames?sequence=0", png(0))
        assert (status, again, headers["idempotent-replay"]) == (200, first, "true")
        assert (await server.request("POST", f"{path}/frames", png(1)))[2]["sequence"] == 1
        status, _, error = await server.request("POST", f"{path}/frames?sequence=0", png(0))
        assert (status, error["error"]["code"]) == (409, "conflict")
        assert "next_sequence 2" in error["error"]["message"]
        status, _, listed = await server.request("GET", "/v1/sessions")
        assert [(each["id"], each["frames"]) for each in listed["sessions"]] == [(row["id"], 2)]
        assert (await server.request("DELETE", path))[0] == 204
        for method, tail, body in (("GET", "", None), ("DELETE", "", None), ("POST", "/frames", png(2))):
            status, _, error = await server.request(method, path + tail, body)
            assert (status, error["error"]["code"]) == (404, "session_not_found")
        assert detector.seen == [0, 1]

    run(test, tmp_path)


BAD_OPTIONS: list[tuple[Any, int, str]] = [
    (b"{", 400, "JSON"),
    ([], 422, "the body"),
    ({"trackr": "sort"}, 422, "did you mean 'tracker'"),
    ({"conf": "0.5"}, 422, "conf"),
    ({"conf": 2}, 422, "conf"),
    (b'{"conf": NaN}', 422, "conf"),
    ({"ttl_s": 0}, 422, "ttl_s"),
    ({"ttl_s": 1e9}, 422, "ttl_s"),
    ({"tracker": "magic"}, 422, "tracker must be one of"),
    ({"settings": {"runtime.threads": 99}}, 422, "settings must be"),
    ({"settings": {"tracking.max_age": -1}}, 422, "max_age"),
    ({"settings": {"tracking.gallery_size": 10**9}}, 422, "gallery_size"),
    ({"classes": ["unicorn"]}, 422, "unicorn"),
    ({"model": "none-such"}, 404, "none-such"),
    ({"model": "../../etc"}, 422, "model"),
    (b" " * (65 << 10), 413, "at most"),
]


def test_options_are_strict(detector: SquareDetector, tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        for body, status, words in BAD_OPTIONS:
            found, _, row = await server.request("POST", "/v1/sessions", body)
            assert (found, words in row["error"]["message"]) == (status, True), (body, row)
        assert len(server.service.sessions) == 0

    run(test, tmp_path)


def test_bad_frames_leave_the_session_alone(detector: SquareDetector, tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        path = f"/v1/sessions/{await server.open()}/frames"
        for query, body, headers, status, code in (
            ("", b"no picture", {}, 422, "invalid_image"),
            ("", png(0, size_hw=(300, 400)), {}, 413, "image_too_large"),
            ("", bytes(200_000), {}, 413, "body_too_large"),
            ("", png(0), {"content_type": "text/html"}, 415, "unsupported_media_type"),
            ("?sequence=-1", png(0), {}, 422, "invalid_parameter"),
            ("?sequence=9007199254740992", png(0), {}, 422, "invalid_parameter"),
            ("?timestamp_s=nan", png(0), {}, 422, "invalid_parameter"),
            ("?number=1", png(0), {}, 422, "invalid_parameter"),
        ):
            found, _, row = await server.request("POST", path + query, body, **headers)
            assert (found, row["error"]["code"]) == (status, code)
        detector.failures.append(ValueError("a bug"))
        found, _, row = await server.request("POST", path, png(0))
        assert (found, row["error"]["code"]) == (500, "inference_failed")
        found, _, row = await server.request("POST", path, png(0))
        assert (found, row["sequence"]) == (200, 0)
        assert server.service.admission.items == 0
        assert server.service.admission.bytes == 0

    run(test, tmp_path, max_pixels=100_000, max_body_bytes=100_000)


def test_places_are_limited(detector: SquareDetector, tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        session = await server.open()
        await server.open()
        status, headers, row = await server.request("POST", "/v1/sessions")
        assert (status, row["error"]["code"]) == (429, "too_many_sessions")
        assert 1 <= int(headers["retry-after"]) <= 60
        detector.gate.clear()
        path = f"/v1/sessions/{session}/frames"
        waiting = [asyncio.create_task(server.request("POST", path, png(step))) for step in range(3)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [(task.result()[0], task.result()[2]["error"]["code"]) for task in done] == [(429, "queue_full")]
        _, _, metrics = await server.request("GET", "/metrics")
        for reason in ("queue_full", "too_many_sessions"):
            assert f'stride32_rejects_total{{reason="{reason}"}} 1.0'.encode() in metrics
        detector.gate.set()
        assert sorted(status for status, _, _ in await asyncio.gather(*waiting)) == [200, 200, 429]

    run(test, tmp_path, sessions_max_per_key=2, session_credit=2)


def test_a_client_that_goes_away_gets_its_answer_later(detector: SquareDetector, tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        path = f"/v1/sessions/{await server.open()}/frames?sequence=0"
        detector.gate.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = png(0)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        while not detector.seen:
            await asyncio.sleep(0.005)
        writer.transport.abort()
        await asyncio.sleep(0.05)
        detector.gate.set()
        status, headers, row = await server.request("POST", path, body)
        assert (status, headers["idempotent-replay"], row["sequence"]) == (200, "true", 0)
        assert detector.seen == [0]

    run(test, tmp_path)


def test_snapshots_over_http(detector: SquareDetector, tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        path = f"/v1/sessions/{await server.open({'tracker': 'botsort'})}"
        for step in range(4):
            await server.request("POST", f"{path}/frames", png(step))
        status, headers, data = await server.request("GET", f"{path}/snapshot")
        assert (status, headers["content-type"]) == (200, "application/octet-stream")
        assert headers["content-disposition"].endswith('.npz"')
        status, headers, row = await server.request("POST", "/v1/sessions/restore", data)
        assert (status, row["next_sequence"], row["options"]["tracker"]) == (201, 4, "botsort")
        for step in range(4, 8):
            rows = [
                (await server.request("POST", f"{each}/frames", png(step)))[2] for each in (path, headers["location"])
            ]
            assert rows[0]["tracks"] == rows[1]["tracks"]
            assert rows[0]["tracks"]
        for body, status in ((b"", 422), (data[:-100], 422), (png(0), 422)):
            found, _, row = await server.request("POST", "/v1/sessions/restore", body)
            assert (found, row["error"]["code"]) == (status, "invalid_snapshot")
        assert server.service.admission.bytes == 0

    run(test, tmp_path, embedder="reid-lite")


def test_frames_of_a_websocket_count_as_requests(detector: SquareDetector, tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        session = await server.open()
        async with server.stream(session) as socket:
            await receive(socket)
            for step in range(3):
                await socket.send(png(step))
            answers = [await receive(socket) for _ in range(3)]
            assert [answer["type"] for answer in answers] == ["result", "result", "error"]
            assert answers[2]["error"]["code"] == "rate_limited"
        status, _, row = await server.request("GET", f"/v1/sessions/{session}")
        assert (status, row["error"]["code"]) == (429, "rate_limited")
        async with server.stream(session) as socket:
            assert await closed_with(socket) == 1008
        _, _, metrics = await server.request("GET", "/metrics")
        assert 'stride32_rejects_total{reason="rate_limited"} 3.0' in metrics.decode()

    # The session, the handshake, and two frames.
    run(test, tmp_path, rate_limit=0.001, rate_burst=4)


def test_a_session_over_a_websocket(detector: SquareDetector, tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        session = await server.open()
        async with server.stream(session) as socket:
            assert await receive(socket) == {"type": "ready", "session": session, "credit": 3, "next_sequence": 0}
            await socket.send(png(0))
            await socket.send(b"no picture")
            await socket.send(json.dumps({"type": "frame", "sequence": 4, "timestamp_s": 2.5}))
            await socket.send(png(4))
            rows = [await receive(socket) for _ in range(3)]
            assert [(row["type"], row["sequence"], row["credit"]) for row in rows] == [
                ("result", 0, 1),
                ("error", 1, 1),
                ("result", 4, 1),
            ]
            assert rows[2]["timestamp_s"] == 2.5
        # The session outlives the socket and goes on over HTTP, and over another socket.
        await server.request("POST", f"/v1/sessions/{session}/frames", png(5))
        async with server.stream(session) as older, server.stream(session) as socket:
            assert (await receive(socket))["next_sequence"] == 6
            assert await closed_with(older) == 4409
            await socket.send(bytes(150_000))
            assert await closed_with(socket) == 1009
        detector.gate.clear()
        async with server.stream(session) as socket:
            for step in range(4):
                await socket.send(png(step))
            assert await closed_with(socket) == 1008
        detector.gate.set()
        async with server.stream(session) as socket:
            await receive(socket)
            await server.request("DELETE", f"/v1/sessions/{session}")
            assert await closed_with(socket) == 4404
        async with server.stream("0" * 32) as socket:
            assert await closed_with(socket) == 4404
        async with server.stream(await server.open()) as socket:
            await receive(socket)
            server.stop()
            assert await closed_with(socket) == 1001

    run(test, tmp_path, session_credit=3, max_body_bytes=100_000)


def test_keys_and_origins_of_sockets(detector: SquareDetector, tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        session = await server.open(x_api_key=KEYS[0])
        for headers, code in (({}, 4401), ({"X-API-Key": "wrong"}, 4401), ({"X-API-Key": KEYS[1]}, 4404)):
            async with server.stream(session, additional_headers=headers) as socket:
                assert await closed_with(socket) == code
        async with server.stream(session, additional_headers={"Authorization": f"Bearer {KEYS[0]}"}) as socket:
            assert (await receive(socket))["type"] == "ready"
        encoded = base64.urlsafe_b64encode(KEYS[0].encode()).decode().rstrip("=")
        protocols = [Subprotocol("stride32"), Subprotocol(f"key.{encoded}")]
        for origin in (f"http://127.0.0.1:{server.port}", "https://page.example"):
            async with server.stream(session, subprotocols=protocols, origin=Origin(origin)) as socket:
                assert socket.subprotocol == "stride32"
                assert (await receive(socket))["type"] == "ready"
        for origin in ("https://evil.example", "null", f"http://127.0.0.1:{server.port + 1}", "http://["):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await server.stream(session, subprotocols=protocols, origin=Origin(origin))
            assert refused.value.response.status_code == 403
        status, _, row = await server.request("GET", f"/v1/sessions/{session}", x_api_key=KEYS[1])
        assert (status, row["error"]["code"]) == (404, "session_not_found")

    run(test, tmp_path, api_keys=",".join(KEYS), cors_origins="https://page.example")


def test_the_example_follows_a_folder_of_frames(
    detector: SquareDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    example = importlib.import_module("stream_client")
    frames = tmp_path / "frames"
    frames.mkdir()
    for step in range(8):
        cv2.imwrite(str(frames / f"{step}.png"), picture(step)[..., ::-1])

    async def test(server: Server) -> None:
        options = [str(frames), "--url", f"http://127.0.0.1:{server.port}", "--tracker", "bytetrack"]
        assert await asyncio.to_thread(example.main, options) == 8
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("frame")]
        assert [line.split(":")[0] for line in lines] == [f"frame {step}" for step in range(8)]
        assert "#1 square at" in lines[-1]
        assert len(server.service.sessions) == 0

    run(test, tmp_path)


def test_the_example_comes_back_after_a_broken_connection(
    detector: SquareDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    example = importlib.import_module("stream_client")
    frames = [example.Picture(step, step / 25, png(step)) for step in range(10)]
    broken: list[int] = []
    send = example.Sender._send

    async def send_or_break(socket: ClientConnection, frame: Any) -> None:
        if frame.sequence in (4, 7) and frame.sequence not in broken:
            broken.append(frame.sequence)
            socket.transport.abort()
        await send(socket, frame)

    monkeypatch.setattr(example.Sender, "_send", staticmethod(send_or_break))

    async def test(server: Server) -> None:
        session = await server.open()
        await example.follow(example.Service(f"http://127.0.0.1:{server.port}", ""), session, iter(frames))
        numbers = [int(line.split()[1].rstrip(":")) for line in capsys.readouterr().out.splitlines() if "frame" in line]
        # Each frame was processed once, in order; answers that were on their way when it broke may be missing.
        assert detector.seen == list(range(10))
        assert numbers == sorted(set(numbers))
        assert {0, 9} <= set(numbers)

    run(test, tmp_path)
    assert broken == [4, 7]


class Script:
    """A socket whose server's part is written down: what it says, in turn; an Exception is raised."""

    def __init__(self, credit: int, next_sequence: int, said: list[Any]) -> None:
        self.sent: list[int] = []
        self._said = [{"credit": credit, "next_sequence": next_sequence}, *said]

    async def recv(self) -> str:
        said = self._said.pop(0)
        if isinstance(said, Exception):
            raise said
        return json.dumps(said)

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.sent.append(json.loads(message)["sequence"])

    async def __aenter__(self) -> Script:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Nothing is held."""


def example_client(monkeypatch: pytest.MonkeyPatch, *connections: Script | Exception) -> tuple[Any, Any]:
    """Return the example, and a Service of it whose connections are these in turn."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    example = importlib.import_module("stream_client")
    monkeypatch.setattr(example.asyncio, "sleep", no_wait)
    left = list(connections)

    class Service(example.Service):  # type: ignore[name-defined, misc]
        def stream(self, session: str) -> Any:
            found = left.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

    return example, Service("http://127.0.0.1:1", "")


async def no_wait(seconds: float) -> None:
    """Go on at once."""


def answered(*sequences: int) -> list[Any]:
    return [{"type": "result", "sequence": sequence, "tracks": [], "credit": 1} for sequence in sequences]


def refused(status: int) -> InvalidStatus:
    return InvalidStatus(Response(status, "no", Headers()))


def test_the_example_goes_on_with_less_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Script(4, 0, [ConnectionClosedError(None, None)])
    second = Script(1, 0, answered(*range(6)))
    example, service = example_client(monkeypatch, first, second)
    frames = iter([example.Picture(step, None, b"x") for step in range(6)])
    assert asyncio.run(example.follow(service, "id", frames)) == 6
    assert first.sent == [0, 1, 2, 3]
    assert second.sent == [0, 1, 2, 3, 4, 5]


def test_the_example_counts_only_failures_without_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ConnectionClosedError(None, None)
    breaks: list[Any] = [Script(1, step, [*answered(step), broken]) for step in range(9)]
    example, service = example_client(monkeypatch, *breaks, OSError("no"), refused(503), Script(1, 9, answered(9)))
    frames = iter([example.Picture(step, None, b"x") for step in range(10)])
    assert asyncio.run(example.follow(service, "id", frames)) == 10
    example, service = example_client(monkeypatch, *[refused(503) for _ in range(5)])
    with pytest.raises(SystemExit, match="gave up after 5"):
        asyncio.run(example.follow(service, "id", iter([])))


def test_the_example_says_why_it_was_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example, service = example_client(monkeypatch, refused(403))
    with pytest.raises(SystemExit, match=r"refused the connection \(403\)"):
        asyncio.run(example.follow(service, "id", iter([])))
    service.delete("id")  # nobody listens there
    assert "not deleted" in capsys.readouterr().err


def test_the_example_does_not_hide_the_end_of_its_session(
    detector: SquareDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    example = importlib.import_module("stream_client")

    async def test(server: Server) -> None:
        loop, store = asyncio.get_running_loop(), server.service.sessions

        def pictures(video: str, limit: int | None) -> Any:
            yield example.Picture(0, None, png(0))
            (session,) = store._sessions.values()
            loop.call_soon_threadsafe(store.delete, session.session_id, session.key_id)
            # The socket is closed while frames come, whichever it is by then.
            yield from (example.Picture(step, None, png(0)) for step in itertools.count(1))

        monkeypatch.setattr(example, "read_pictures", pictures)
        with pytest.raises(SystemExit, match="4404"):
            await asyncio.to_thread(example.main, ["x", "--url", f"http://127.0.0.1:{server.port}"])

    run(test, tmp_path)


@pytest.mark.parametrize("way", ["http", "websocket"])
def test_numbers_are_those_of_the_command_line(detector: SquareDetector, tmp_path: Path, way: str) -> None:
    # A sequence folder whose rate is known, so that the frames have timestamps.
    frames = tmp_path / "squares" / "img1"
    frames.mkdir(parents=True)
    for step in range(12):
        cv2.imwrite(str(frames / f"{step + 1:06}.png"), picture(step)[..., ::-1])
    fields = {"name": "squares", "imDir": "img1", "frameRate": 25, "seqLength": 12, "imWidth": 128, "imHeight": 96}
    lines = [f"{name}={value}" for name, value in {**fields, "imExt": ".png"}.items()]
    (tmp_path / "squares" / "seqinfo.ini").write_text("\n".join(["[Sequence]", *lines]))
    output = tmp_path / "results.jsonl"
    settings = ["--tracker", "botsort", "--set", "tracking.n_init=2"]
    done = CliRunner().invoke(cli, ["track", str(tmp_path / "squares"), *settings, "--jsonl", str(output)])
    assert done.exit_code == 0, done.output
    expected = [json.loads(line) for line in output.read_text().splitlines()][1:]

    async def test(server: Server) -> None:
        session = await server.open({"tracker": "botsort", "settings": {"tracking.n_init": 2}})
        found = []
        if way == "http":
            for row in expected:
                query = f"?sequence={row['frame_index']}&timestamp_s={row['timestamp_s']!r}"
                found.append(
                    (await server.request("POST", f"/v1/sessions/{session}/frames{query}", png(row["frame_index"])))[2]
                )
        else:
            async with server.stream(session) as socket:
                await receive(socket)
                for row in expected:
                    times = {"sequence": row["frame_index"], "timestamp_s": row["timestamp_s"]}
                    await socket.send(json.dumps({"type": "frame", **times}))
                    await socket.send(png(row["frame_index"]))
                    found.append(await receive(socket))
        columns = {"ids": "id", "boxes": "box", "scores": "score", "ages": "age", "labels": "label"}
        for row, answer in zip(expected, found, strict=True):
            assert (answer["sequence"], answer["timestamp_s"]) == (row["frame_index"], row["timestamp_s"])
            for name, own in columns.items():
                assert [track[own] for track in answer["tracks"]] == row["tracks"][name]
            for name, own in (("boxes", "box"), ("scores", "score")):
                assert [each[own] for each in answer["detections"]] == row["detections"][name]
        assert found[-1]["tracks"]

    run(test, tmp_path, embedder="reid-lite")
