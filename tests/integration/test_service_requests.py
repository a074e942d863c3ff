"""Requests under pressure, over ASGI with models that wait and fail when told: overload, deadlines, clients that go
away, draining, keys, and models that are swapped meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
from fake_models import DETECTOR, SEGMENTER, FakeLoader, FakeServer, fake_server, png, until

from service.logs import FIELDS

USER, OTHER, ADMIN = "user-0123456789abcdef", "other-0123456789abcdef", "admin-0123456789abcdef"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads of clients."""
    with ThreadPoolExecutor(16) as made:
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    with fake_server(tmp_path) as made:
        yield made


def error_of(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def hold(server: FakeServer, pool: ThreadPoolExecutor, red: int = 1) -> Future[Any]:
    """Keep the detector busy with one request until ``server.loader.detector.gate`` is set."""
    server.loader.detector.gate.clear()
    first = pool.submit(server.detect, red)
    until(server.loader.detector.begun)
    return first


def waiting(server: FakeServer) -> int:
    """Return how many inputs wait for the detector."""
    with server.service.registry.find(DETECTOR).lease() as loaded:
        return len(loaded.batcher)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until another thread has got there."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.001)


# -- load


def test_every_answer_is_of_its_own_picture(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    with fake_server(tmp_path, max_batch=4) as server:
        reds = [(7 * number) % 256 for number in range(80)]
        answers = list(pool.map(server.detect, reds))
        assert [round(each.json()["detections"][0]["score"] * 255) for each in answers] == reds
        assert sorted(server.loader.detector.seen) == sorted(reds)


def test_overload_is_refused_at_once_and_over_at_once(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    with fake_server(tmp_path, queue_items=3) as server:
        waiting = [hold(server, pool), pool.submit(server.detect, 2), pool.submit(server.detect, 3)]
        wait_for(lambda: server.service.admission.items == 3)
        refused = server.detect(4)
        assert error_of(refused) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        server.loader.detector.gate.set()
        assert [each.result(20).status_code for each in waiting] == [200, 200, 200]
        assert server.detect(5).status_code == 200
        assert server.service.admission.items == server.service.admission.bytes == 0
        assert 'stride32_rejects_total{reason="queue_full"} 1.0' in server.client.get("/metrics").text


def test_decoded_bytes_are_bounded(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    with fake_server(tmp_path, queue_bytes=1 << 20) as server:
        first = hold(server, pool)
        large = png(2, (600, 600))  # a few kB that become more than a MiB
        response = server.client.post("/v1/detect", content=large)
        assert error_of(response) == (429, "queue_full")
        server.loader.detector.gate.set()
        assert first.result(20).status_code == 200
        assert server.client.post("/v1/detect", content=large).status_code == 200  # alone it may


def test_deadline_is_kept_and_the_work_never_runs(server: FakeServer, pool: ThreadPoolExecutor) -> None:
    first = hold(server, pool, red=1)
    late = server.detect(2, "?timeout_ms=80")
    assert error_of(late) == (504, "deadline_exceeded")
    assert waiting(server) == 0
    server.loader.detector.gate.set()
    assert first.result(20).status_code == 200
    assert server.detect(3).status_code == 200
    assert server.loader.detector.seen == [1, 3]
    assert "stride32_dropped_total" in server.client.get("/metrics").text


def test_server_has_a_deadline_of_its_own(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    with fake_server(tmp_path, request_timeout_s=0.1) as server:
        first = hold(server, pool)
        assert error_of(first.result(20)) == (504, "deadline_exceeded")  # also for what has begun
        server.loader.detector.gate.set()
        assert server.detect(2).status_code == 200


# -- raw ASGI: clients that go away, bodies that nobody should read


class RawRequest:
    """A request whose messages a test sends and sees itself.

    Attributes:
        received: how often the app asked for a message.
        sent: what the app answered.
    """

    def __init__(self, path: str, headers: dict[str, str] | None = None, body: list[bytes] | None = None) -> None:
        lines = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": lines,
            "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        self.body = list(body or [])
        self.received = 0
        self.sent: list[dict[str, Any]] = []
        self.gone = threading.Event()

    async def receive(self) -> dict[str, Any]:
        self.received += 1
        if self.body:
            chunk = self.body.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self.body)}
        while not self.gone.is_set():
            await anyio.sleep(0.005)
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(dict(message))

    def run(self, server: FakeServer) -> tuple[int, str]:
        """Return status and code of the app's answer."""

        async def call() -> None:
            await server.client.app(self.scope, self.receive, self.send)

        assert server.client.portal is not None
        server.client.portal.call(call)
        return self.sent[0]["status"], json.loads(self.sent[1]["body"])["error"]["code"]


def test_client_that_goes_away_drops_its_work(server: FakeServer, pool: ThreadPoolExecutor) -> None:
    first = hold(server, pool, red=1)
    request = RawRequest("/v1/detect", body=[png(2)])
    leaving = pool.submit(request.run, server)
    wait_for(lambda: waiting(server) == 1)
    request.gone.set()
    assert leaving.result(20)[0] == 499
    assert waiting(server) == 0
    server.loader.detector.gate.set()
    assert first.result(20).status_code == 200
    server.detect(3)
    assert server.loader.detector.seen == [1, 3]
    assert 'stride32_dropped_total{reason="cancelled"} 1.0' in server.client.get("/metrics").text
    assert server.service.admission.items == 0


def test_client_that_goes_away_in_its_body_leaves_nothing(server: FakeServer) -> None:
    request = RawRequest("/v1/detect", body=[b"abc"])

    async def receive() -> dict[str, Any]:
        if request.body:
            return {"type": "http.request", "body": request.body.pop(), "more_body": True}
        return {"type": "http.disconnect"}

    request.receive = receive  # type: ignore[method-assign]
    assert request.run(server)[0] == 499
    assert (server.service.admission.items, server.service.admission.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/v1/detect", {"content-length": "999999999"}, (413, "body_too_large")),
        ("/v1/detect", {"content-length": "-5"}, (400, "bad_request")),
        ("/v1/detect", {"content-length": "1e3"}, (400, "bad_request")),
        ("/v1/detect", {"content-type": "text/html"}, (415, "unsupported_media_type")),
        ("/v1/detect", {"accept": "text/html"}, (406, "not_acceptable")),
        ("/v1/detect", {"x-api-key": "wrong"}, (401, "unauthorized")),
        ("/v1/nothing", {}, (404, "not_found")),
    ],
)
def test_body_of_a_refused_request_is_never_read(
    tmp_path: Path, path: str, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    with fake_server(tmp_path, api_keys=(USER,)) as server:
        request = RawRequest(path, {"x-api-key": USER, **headers}, [b"x"])
        assert request.run(server) == expected
        assert request.received == 0


@pytest.mark.parametrize("why", ["full", "unloaded", "draining"])
def test_body_is_not_read_where_there_is_no_room_for_it(tmp_path: Path, pool: ThreadPoolExecutor, why: str) -> None:
    with fake_server(tmp_path, queue_items=1) as server:
        first = hold(server, pool) if why == "full" else None
        if why == "unloaded":
            server.service.registry.unload(DETECTOR)
        if why == "draining":
            server.service.begin_draining()
        request = RawRequest("/v1/detect", body=[png()])
        expected = {"full": (429, "queue_full"), "unloaded": (503, "not_ready"), "draining": (503, "draining")}
        assert request.run(server) == expected[why]
        assert request.received == 0
        server.loader.detector.gate.set()
        assert first is None or first.result(20).status_code == 200


def test_body_that_lies_about_its_length_is_cut(tmp_path: Path) -> None:
    with fake_server(tmp_path, max_body_bytes=4096) as server:
        request = RawRequest("/v1/detect", body=[b"x" * 1000] * 100)  # chunked: no length is told
        assert request.run(server) == (413, "body_too_large")
        assert request.received == 5
        assert server.service.admission.bytes == 0


def test_body_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    with fake_server(tmp_path, body_timeout_s=0.05) as server:
        assert RawRequest("/v1/detect").run(server) == (408, "body_timeout")
        assert server.service.admission.items == 0


# -- failures


def test_model_that_fails_gives_500_and_the_next_request_works(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.loader.detector.failures.append(RuntimeError("/srv/secret: device lost"))
    response = server.detect(1, headers={"x-request-id": "failing-1"})
    assert error_of(response) == (500, "inference_failed")
    assert "secret" not in response.text
    told = [record for record in caplog.records if record.exc_info]
    assert [getattr(record, FIELDS, {}).get("request_id") for record in told] == ["failing-1"]
    assert server.detect(2).status_code == 200
    health = server.client.get(f"/v1/models/{DETECTOR}").json()["health"]
    assert (health["state"], health["failures"], health["last_error"]) == ("ok", 1, "RuntimeError")


def test_unforeseen_error_of_ours_is_500_with_the_id(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(frame: Any, options: Any = None) -> Any:
        raise KeyError("/srv/secret")

    monkeypatch.setattr(server.loader.detector, "prepare", broken)
    response = server.detect(1)
    assert error_of(response) == (500, "internal")
    assert "secret" not in response.text
    monkeypatch.undo()
    assert server.detect(2).status_code == 200


def test_bad_picture_does_not_cost_its_neighbours(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    with fake_server(tmp_path, max_batch=8) as server:
        first = hold(server, pool)
        neighbours = [pool.submit(server.detect, red) for red in (10, 20)]
        wait_for(lambda: waiting(server) == 2)
        assert error_of(server.client.post("/v1/detect", content=png()[:-30])) == (422, "invalid_image")
        server.loader.detector.failures += [RuntimeError("first"), RuntimeError("both"), RuntimeError("one of them")]
        server.loader.detector.gate.set()
        assert first.result(20).status_code == 500
        assert sorted(each.result(20).status_code for each in neighbours) == [200, 500]


# -- models by HTTP


def test_swaps_by_http_under_load_drop_nothing(server: FakeServer, pool: ThreadPoolExecutor) -> None:
    stop = threading.Event()

    def work(worker: int) -> list[int]:
        statuses = []
        while not stop.is_set():
            response = server.detect(worker * 20)
            statuses.append(response.status_code)
            found = response.json()["detections"][0]
            assert round(found["score"] * 255) == worker * 20
        return statuses

    works = [pool.submit(work, worker) for worker in range(1, 6)]
    for serial in range(1, 5):
        loaded = server.client.post(f"/v1/models/{DETECTOR}/load")
        assert loaded.status_code == 200
        assert loaded.json()["class_names"][0] == f"red-{serial}"
    stop.set()
    assert {status for each in works for status in each.result(20)} == {200}
    for old in server.loader.made[DETECTOR][:-1]:
        until(old.closing)
    assert [model.closed for model in server.loader.made[DETECTOR]] == [1, 1, 1, 1, 0]


def test_answer_names_the_classes_of_the_model_that_gave_it(server: FakeServer, pool: ThreadPoolExecutor) -> None:
    first = hold(server, pool)
    server.client.post(f"/v1/models/{DETECTOR}/load")
    server.loader.made[DETECTOR][0].gate.set()
    assert first.result(20).json()["detections"][0]["class_name"] == "red-0"
    assert server.detect(2).json()["detections"][0]["class_name"] == "red-1"


def test_unloading_answers_what_is_in_flight(server: FakeServer, pool: ThreadPoolExecutor) -> None:
    first = hold(server, pool)
    unloading = pool.submit(server.client.post, f"/v1/models/{DETECTOR}/unload")
    wait_for(lambda: server.service.registry.find(DETECTOR).state == "unloading")
    assert error_of(server.detect(2)) == (503, "not_ready")
    assert not unloading.done()
    server.loader.detector.gate.set()
    assert first.result(20).status_code == 200
    assert unloading.result(20).json()["state"] == "available"
    assert server.client.get("/readyz").status_code == 200  # what an operator takes away is not missing
    assert server.client.post(f"/v1/models/{DETECTOR}/load").json()["state"] == "ready"
    assert server.client.get("/readyz").status_code == 200
    assert server.detect(3).status_code == 200


def test_failed_load_is_told_and_changes_nothing(server: FakeServer) -> None:
    server.loader.failures[DETECTOR] = RuntimeError("/srv/secret")
    response = server.client.post(f"/v1/models/{DETECTOR}/load")
    assert response.status_code == 500
    assert "secret" not in response.text
    shown = server.client.get(f"/v1/models/{DETECTOR}").json()
    assert shown["state"] == "ready"
    assert "secret" not in json.dumps(shown)
    assert server.detect(1).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/v1/models/nothing/load", None, (404, "model_not_found")),
        ("POST", "/v1/models/..%2f..%2fetc/load", None, (404, "not_found")),
        ("POST", "/v1/models/nothing/unload", None, (404, "model_not_found")),
        ("GET", "/v1/models/nothing", None, (404, "model_not_found")),
        ("PUT", "/v1/defaults/detect", {"model": SEGMENTER}, (404, "model_not_found")),
        ("PUT", "/v1/defaults/detect", {"model": "person-window"}, (503, "not_ready")),
        ("PUT", "/v1/defaults/detect", {"model": "../x"}, (422, "invalid_parameter")),
        ("PUT", "/v1/defaults/detect", {}, (422, "invalid_parameter")),
        ("PUT", "/v1/defaults/dream", {"model": DETECTOR}, (422, "invalid_parameter")),
    ],
)
def test_models_that_are_none_are_refused(
    server: FakeServer, method: str, path: str, body: Any, expected: tuple[int, str]
) -> None:
    assert error_of(server.client.request(method, path, json=body)) == expected


def test_default_can_be_another_model(server: FakeServer) -> None:
    server.client.post("/v1/models/person-window/load")
    chosen = server.client.put("/v1/defaults/detect", json={"model": "person-window"})
    assert (chosen.status_code, chosen.json()["default"]) == (200, True)
    assert server.detect(1).json()["model"] == "person-window"
    assert server.detect(1, f"?model={DETECTOR}").json()["model"] == DETECTOR


# -- operations


def test_readiness_follows_loading_failing_and_draining(tmp_path: Path) -> None:
    loader = FakeLoader()
    loader.gate.clear()
    with fake_server(tmp_path, background=True, loader=loader) as server:

        def status() -> tuple[int, str]:
            response = server.client.get("/readyz")
            return response.status_code, response.json()["status"]

        assert status() == (503, "loading")
        assert server.client.get("/healthz").status_code == 200
        assert error_of(server.detect(1)) == (503, "not_ready")
        loader.gate.set()
        wait_for(lambda: status() == (200, "ready"))
        loader.detector.failures += [RuntimeError()] * 5
        for _ in range(5):
            assert server.detect(1).status_code == 500
        assert status() == (503, "failing")
        assert server.detect(1).status_code == 200
        assert status() == (200, "ready")
        server.service.begin_draining()
        assert status() == (503, "draining")
        refused = server.detect(1)
        assert error_of(refused) == (503, "draining")
        assert "retry-after" in refused.headers
        assert server.client.get("/healthz").status_code == 200


def test_server_without_any_model_gives_up(tmp_path: Path) -> None:
    gave_up = threading.Event()
    with fake_server(tmp_path, background=True, detector="person-lite") as server:
        server.service.on_fatal = gave_up.set
        server.service.load_models()
        until(gave_up)
        assert server.client.get("/readyz").status_code == 503


def test_metrics_and_stats_count_requests(server: FakeServer) -> None:
    for red in (1, 2, 3):
        server.detect(red)
    server.client.post("/v1/detect", content=b"x")
    server.client.get("/v1/models/nothing")
    text = server.client.get("/metrics").text
    for line in (
        'stride32_requests_total{method="POST",route="/v1/detect",status="200"} 3.0',
        'stride32_requests_total{method="POST",route="/v1/detect",status="422"} 1.0',
        'stride32_requests_total{method="GET",route="/v1/models/{name}",status="404"} 1.0',
        f'stride32_batch_size_count{{model="{DETECTOR}"}} 3.0',
        f'stride32_stage_seconds_count{{model="{DETECTOR}",stage="decode"}} 3.0',
        f'stride32_stage_seconds_count{{model="{DETECTOR}",stage="post"}} 3.0',
        f'stride32_model_ready{{model="{DETECTOR}"}} 1.0',
        f'stride32_queue_items{{model="{DETECTOR}"}} 0.0',
        "stride32_queue_bytes 0.0",
    ):
        assert line in text
    stats = server.client.get("/v1/stats").json()
    assert stats["requests"]["total"] == 6
    assert stats["in_flight"] == stats["sessions"] == 0
    assert {model["name"] for model in stats["models"]} >= {DETECTOR, SEGMENTER}


def test_access_line_tells_the_request_and_no_query(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "service.access")
    server.detect(1, "?conf=0.5", headers={"x-api-key": USER})
    (record,) = [each for each in caplog.records if each.name == "service.access"]
    fields = getattr(record, FIELDS)
    assert (fields["method"], fields["path"], fields["status"]) == ("POST", "/v1/detect", 200)
    assert USER not in f"{record.getMessage()} {fields}"


# -- keys


def test_keys_open_the_service_and_admin_keys_its_models(tmp_path: Path) -> None:
    with fake_server(tmp_path, api_keys=(USER, OTHER), admin_keys=(ADMIN,)) as server:
        refused = server.detect(1)
        assert error_of(refused) == (401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
        for path in ("/v1/models", "/v1/sessions", "/v1/jobs", "/openapi.json", "/v1/nothing"):
            assert error_of(server.client.get(path))[0] == 401
        for path in ("/healthz", "/readyz", "/metrics", "/v1/stats"):
            assert server.client.get(path).status_code == 200
        assert server.detect(1, headers={"authorization": f"Bearer {USER}"}).status_code == 200
        assert server.detect(1, headers={"x-api-key": OTHER}).status_code == 200
        load = f"/v1/models/{DETECTOR}/load"
        assert error_of(server.client.post(load, headers={"x-api-key": USER})) == (403, "forbidden")
        assert server.client.post(load, headers={"x-api-key": ADMIN}).status_code == 200
        assert USER not in server.client.get("/metrics").text


def test_metrics_can_need_a_key(tmp_path: Path) -> None:
    with fake_server(tmp_path, api_keys=(USER,), metrics_auth=True) as server:
        for path in ("/metrics", "/v1/stats"):
            assert server.client.get(path).status_code == 401
            assert server.client.get(path, headers={"x-api-key": USER}).status_code == 200


def test_rate_is_that_of_each_key(tmp_path: Path) -> None:
    with fake_server(tmp_path, api_keys=(USER, OTHER), rate_limit=0.001, rate_burst=2) as server:
        statuses = [server.detect(1, headers={"x-api-key": USER}).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        refused = server.detect(1, headers={"x-api-key": USER})
        assert error_of(refused) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) > 900
        assert server.detect(1, headers={"x-api-key": OTHER}).status_code == 200
        assert server.client.get("/healthz").status_code == 200


def test_cors_is_off_unless_an_origin_is_named(tmp_path: Path, server: FakeServer) -> None:
    ask = {"origin": "https://a.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in server.detect(1, headers=ask).headers
    with fake_server(tmp_path / "other", cors_origins=("https://a.example",), api_keys=(USER,)) as open_one:
        allowed = open_one.client.options("/v1/detect", headers=ask)
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        refused = open_one.detect(1, headers={"origin": "https://a.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://a.example"  # the page may read the error
        other = open_one.client.options("/v1/detect", headers={**ask, "origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers
