"""Video jobs over HTTP, on a real socket: upload, events, results by range, keys, and every refusal with its code."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from job_fakes import BlobDetector, FakeBuilder, job_settings, write_video

from service.app import create_app
from service.jobs.service import JobService

KEYS = ("a-key-of-somebody", "a-key-of-another-one")
FRAMES = 20


class Client:
    """Asks one server; ``key`` may be left out."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = KEYS[0], **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and body; JSON is read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["X-API-Key"] = key
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            content = response.read()
            found = {name.lower(): value for name, value in response.headers.items()}
            is_json = found.get("content-type") == "application/json" and content
            return response.status, found, json.loads(content) if is_json else content
        finally:
            connection.close()

    def code_of(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, str]:
        """Return status and code of an error, whose form is checked."""
        status, headers, answer = self.ask(method, path, body, **options)
        assert answer["error"]["request_id"] == headers["x-request-id"]
        assert "/data" not in answer["error"]["message"]
        return status, answer["error"]["code"]

    def submit(self, video: bytes, query: str = "", **options: Any) -> dict[str, Any]:
        status, headers, job = self.ask("POST", f"/v1/jobs{query}", video, **({"Content_Type": "video/mp4"} | options))
        assert status == 202, job
        assert headers["location"] == f"/v1/jobs/{job['id']}"
        return dict(job)

    def events(self, job_id: str, limit: int = 1000) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield names and contents of a job's events until the server ends the stream."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"/v1/jobs/{job_id}/events", headers={"X-API-Key": KEYS[0]})
            response = connection.getresponse()
            assert response.status == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            name = ""
            for line in response:
                text = line.decode().rstrip("\n")
                if text.startswith("event: "):
                    name = text.removeprefix("event: ")
                elif text.startswith("data: "):
                    yield name, json.loads(text.removeprefix("data: "))
                    limit -= 1
                    if not limit:
                        return
        finally:
            connection.close()

    def finish(self, job_id: str) -> dict[str, Any]:
        """Return the last status of a job."""
        *_, (name, status) = self.events(job_id)
        assert name == "end"
        return status


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", FRAMES).read_bytes()


class Gate(BlobDetector):
    """Stops at every frame while it is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()

    def detect(self, frames: Any) -> Any:
        assert self.open.wait(30)
        return super().detect(frames)


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> Iterator[Client]:
    none = dict.fromkeys(("detector", "segmenter", "classifier", "embedder"), "none")
    settings = job_settings(
        tmp_path_factory.mktemp("server"),
        api_keys=",".join(KEYS),
        jobs_max_upload_bytes=200_000,
        jobs_max_duration_s=5.0,
        body_timeout_s=1.0,
        log_format="text",
        **none,
    )
    app = create_app(settings)
    app.state.service.jobs = JobService(settings, FakeBuilder(gate))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < end
        time.sleep(0.01)
    yield Client(server.servers[0].sockets[0].getsockname()[1])
    gate.open.set()
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def unsigned(status: dict[str, Any]) -> dict[str, Any]:
    """Return a status without the addresses that change with the time."""
    results = [{name: entry[name] for name in entry if name != "signed_url"} for entry in status["results"]]
    return {**status, "results": results}


def form(video: bytes, field: str = "video") -> tuple[bytes, str]:
    head = f'--b1\r\nContent-Disposition: form-data; name="{field}"; filename="..%2f/x.mp4"\r\n'
    body = head.encode() + b"Content-Type: video/mp4\r\n\r\n" + video + b"\r\n--b1--\r\n"
    return body, "multipart/form-data; boundary=b1"


def test_from_upload_to_results(client: Client, video: bytes) -> None:
    body, kind = form(video)
    query = "?name=T%C3%BCr&tracker=bytetrack&conf=0.3&classes=blob&appearance=false&segment=true"
    job = client.submit(body, query, Content_Type=kind)
    assert (job["name"], job["state"], job["frames_total"]) == ("Tür", "queued", FRAMES)
    assert job["options"] == {
        # What was left out is what the defaults stood for at that moment.
        "model": "person-lite0",
        "segmenter": "street-fcn8s",
        "tracker": "bytetrack",
        "conf": 0.3,
        "classes": ["blob"],
        "appearance": False,
        "segment": True,
        "render": True,
    }
    events = list(client.events(job["id"]))
    assert [name for name, _ in events[-2:]][-1] == "end"
    assert {name for name, _ in events[:-1]} <= {"status"}
    shares = [status["progress"] for _, status in events]
    assert shares == sorted(shares)
    last = unsigned(events[-1][1])
    assert last == unsigned(client.ask("GET", f"/v1/jobs/{job['id']}")[2])
    assert (last["state"], last["progress"], last["error"]) == ("succeeded", 1, None)
    assert [unsigned(job) for job in client.ask("GET", "/v1/jobs?limit=1")[2]["jobs"]] == [last]
    for entry in last["results"]:
        status, headers, content = client.ask("GET", entry["url"])
        assert (status, len(content), headers["content-type"]) == (200, entry["bytes"], entry["media_type"])
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-disposition"] == ("inline" if entry["name"] == "annotated.mp4" else "attachment")
    # A stream that is opened after the end has the end alone.
    assert [(name, unsigned(status)) for name, status in client.events(job["id"])] == [("end", last)]


def test_a_video_can_be_played_from_anywhere(client: Client, video: bytes) -> None:
    url = f"/v1/jobs/{client.finish(client.submit(video)['id'])['id']}/results/annotated.mp4"
    status, headers, whole = client.ask("GET", url)
    assert (status, headers["accept-ranges"], headers["content-disposition"][:6]) == (200, "bytes", "inline")
    size = len(whole)
    for wanted, part, span in (
        ("bytes=0-99", whole[:100], f"0-99/{size}"),
        ("bytes=100-", whole[100:], f"100-{size - 1}/{size}"),
        ("bytes=-50", whole[-50:], f"{size - 50}-{size - 1}/{size}"),
        (f"bytes=10-{size + 1000}", whole[10:], f"10-{size - 1}/{size}"),
    ):
        status, headers, content = client.ask("GET", url, Range=wanted)
        assert (status, content, headers["content-range"]) == (206, part, f"bytes {span}")
    # What is no single range counts as if it were not there.
    for wanted in ("bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=", "bytes=-", "bytes=٣-", "bytes=" + "9" * 5000):
        if wanted.isascii():
            assert client.ask("GET", url, Range=wanted)[0::2] == (200, whole)
    assert client.code_of("GET", url, Range=f"bytes={size}-") == (416, "range_not_satisfiable")
    assert client.ask("GET", url, Range=f"bytes={size}-")[1]["content-range"] == f"bytes */{size}"
    status, headers, content = client.ask("HEAD", url)
    assert (status, content, headers["content-length"]) == (200, b"", str(size))


def test_signed_addresses_need_no_key(client: Client, video: bytes) -> None:
    job, other = (client.finish(client.submit(video)["id"]) for _ in range(2))
    path = f"/v1/jobs/{job['id']}"
    for status in (job, client.ask("GET", path)[2], client.ask("GET", "/v1/jobs?limit=2")[2]["jobs"][1]):
        for entry in status["results"]:
            whole = client.ask("GET", entry["url"])[2]
            assert client.ask("GET", entry["signed_url"], key=None)[0::2] == (200, whole)
            status_code, headers, part = client.ask("GET", entry["signed_url"], key=None, Range="bytes=5-9")
            assert (status_code, part) == (206, whole[5:10])
            assert headers["content-range"] == f"bytes 5-9/{entry['bytes']}"
    tracks, film = job["results"][0], job["results"][-1]
    query = film["signed_url"].partition("?")[2]
    for method, url in (
        ("GET", f"{tracks['url']}?{query}"),  # moved to another file
        ("GET", f"{other['results'][-1]['url']}?{query}"),  # and to another job
        ("GET", film["signed_url"][:-1] + ("0" if film["signed_url"][-1] != "0" else "1")),
        ("GET", f"{film['url']}?expires=9999999999&signature={'0' * 64}"),
        ("GET", film["url"]),
        ("GET", f"{path}?{query}"),
        ("GET", f"/v1/jobs?{query}"),
        ("DELETE", f"{path}?{query}"),
        ("POST", film["signed_url"]),
    ):
        assert client.code_of(method, url, key=None) == (401, "unauthorized"), (method, url)
    assert client.ask("HEAD", film["signed_url"], key=None)[0] == 401
    # Another key does not get in by it, and what is deleted is gone.
    assert client.code_of("GET", film["signed_url"], key=KEYS[1]) == (404, "job_not_found")
    assert client.ask("DELETE", path)[0] == 204
    assert client.code_of("GET", film["signed_url"], key=None) == (404, "job_not_found")


def test_cancel_and_delete_while_it_runs(client: Client, video: bytes, gate: Gate) -> None:
    gate.open.clear()
    running, waiting = client.submit(video), client.submit(video)
    assert client.ask("POST", f"/v1/jobs/{waiting['id']}/cancel")[2]["state"] == "cancelled"
    events = client.events(running["id"])
    assert next(events)[0] == "status"
    assert client.ask("DELETE", f"/v1/jobs/{running['id']}")[0] == 204
    assert list(events)[-1][0] == "end"
    gate.open.set()
    assert client.code_of("GET", f"/v1/jobs/{running['id']}") == (404, "job_not_found")
    assert [job["id"] for job in client.ask("GET", "/v1/jobs?state=cancelled")[2]["jobs"]] == [waiting["id"]]
    assert client.code_of("POST", f"/v1/jobs/{client.finish(client.submit(video)['id'])['id']}/cancel") == (
        409,
        "conflict",
    )


def test_a_listener_that_goes_away_is_forgotten(client: Client, video: bytes, gate: Gate) -> None:
    gate.open.clear()
    job = client.submit(video)
    for _ in range(20):  # more than may listen at a time
        assert [name for name, _ in client.events(job["id"], limit=1)] == ["status"]
        time.sleep(0.05)
    gate.open.set()
    assert client.finish(job["id"])["state"] == "succeeded"


def test_jobs_are_those_of_the_key(client: Client, video: bytes) -> None:
    job = client.submit(video)
    path = f"/v1/jobs/{job['id']}"
    client.finish(job["id"])
    for method, url in (
        ("GET", path),
        ("POST", f"{path}/cancel"),
        ("DELETE", path),
        ("GET", f"{path}/events"),
        ("GET", f"{path}/results/tracks.txt"),
    ):
        assert client.code_of(method, url, key=KEYS[1]) == (404, "job_not_found")
        assert client.code_of(method, url, key=None) == (401, "unauthorized")
    assert client.ask("GET", "/v1/jobs", key=KEYS[1])[2] == {"jobs": []}


@pytest.mark.parametrize(
    ("query", "headers", "body", "expected"),
    [
        ("?conf=nan", {}, None, (422, "invalid_parameter")),
        ("?conf=2", {}, None, (422, "invalid_parameter")),
        ("?tracker=nothing", {}, None, (422, "invalid_parameter")),
        ("?trakcer=sort", {}, None, (422, "invalid_parameter")),
        ("?model=../../etc/passwd", {}, None, (422, "invalid_parameter")),
        ("?name=a%0Ab", {}, None, (422, "invalid_parameter")),
        ("?name=" + "x" * 121, {}, None, (422, "invalid_parameter")),
        ("?classes=" + "x" * 101, {}, None, (422, "invalid_parameter")),
        ("", {"Content_Type": "text/html"}, None, (415, "unsupported_media_type")),
        ("", {}, b"", (422, "invalid_video")),
        ("", {}, b"GIF89a" + bytes(50), (422, "invalid_video")),
        ("", {}, bytes(200_001), (413, "body_too_large")),
        ("", {"Content_Type": "multipart/form-data"}, None, (400, "bad_request")),
        ("", {"Content_Type": form(b"", "image")[1]}, form(b"x", "image")[0], (400, "bad_request")),
    ],
)
def test_refusals(
    client: Client, video: bytes, query: str, headers: dict[str, str], body: bytes | None, expected: tuple[int, str]
) -> None:
    sent = {"Content_Type": "video/mp4"} | headers
    assert client.code_of("POST", f"/v1/jobs{query}", video if body is None else body, **sent) == expected


def test_a_chunked_body_over_the_limit_and_one_that_stalls(client: Client, video: bytes) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(8000)

    assert client.code_of("POST", "/v1/jobs", endless(), Content_Type="video/mp4") == (413, "body_too_large")
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    connection.putrequest("POST", "/v1/jobs")
    for name, value in (("X-API-Key", KEYS[0]), ("Content-Type", "video/mp4"), ("Content-Length", str(len(video)))):
        connection.putheader(name, value)
    connection.endheaders(video[:1000])
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["error"]["code"]) == (408, "body_timeout")
    connection.close()


def test_unknown_jobs_and_results(client: Client, video: bytes) -> None:
    for path in ("/v1/jobs/nothing", f"/v1/jobs/{'0' * 32}", "/v1/jobs/..%2f..", f"/v1/jobs/{'0' * 32}/events"):
        assert client.code_of("GET", path)[0] == 404
    job = client.finish(client.submit(video, "?render=false")["id"])
    for name in ("annotated.mp4", "source", "..%2fjobs.sqlite3", "x" * 60):
        assert client.code_of("GET", f"/v1/jobs/{job['id']}/results/{name}")[0] == 404
    assert client.code_of("GET", "/v1/jobs?limit=0") == (422, "invalid_parameter")
    assert client.code_of("GET", "/v1/jobs?state=lost") == (422, "invalid_parameter")
