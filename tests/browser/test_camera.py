"""The view of the camera: live tracking with Chromium's fake camera, and why there may be none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx2 as httpx

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.conftest import Visit


def sessions_of(address: str) -> int:
    return len(httpx.get(f"{address}/v1/sessions").json()["sessions"])


def test_people_are_tracked_live(visit: Visit, address: str, shoot: Callable[[str], None]) -> None:
    page = visit.open(address)
    page.click("#tab-camera")
    page.click("#camera-toggle")
    # The clip repeats; a walking person gets an id and is drawn.
    page.wait_for_selector("#camera-table tbody tr", timeout=20_000)
    page.wait_for_function("() => Number(document.getElementById('camera-fps').textContent) > 2")
    assert page.inner_text("#camera-latency").endswith(" ms")
    assert page.get_attribute("#camera-toggle", "aria-pressed") == "true"
    assert "track" in (page.get_attribute("#camera-canvas", "aria-label") or "")
    assert sessions_of(address) == 1
    shoot("camera")
    assert page.eval_on_selector(
        "#camera-canvas",
        """canvas => { const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                       return new Set(new Uint32Array(data.buffer)).size > 100; }""",
    )
    page.click("#camera-toggle")
    assert page.is_visible("#camera-idle")
    assert page.inner_text("#camera-summary") == "The camera is off."
    end = time.monotonic() + 5
    while sessions_of(address) and time.monotonic() < end:
        time.sleep(0.05)
    assert sessions_of(address) == 0


def test_leaving_the_view_ends_the_camera(visit: Visit, address: str) -> None:
    page = visit.open(address)
    page.click("#tab-camera")
    page.click("#camera-toggle")
    page.wait_for_selector("#camera-canvas:visible")
    page.click("#tab-picture")
    page.click("#tab-camera")
    assert page.is_visible("#camera-idle")
    assert page.get_attribute("#camera-toggle", "aria-pressed") == "false"


def test_reasons_for_no_camera_are_said(visit: Visit, address: str) -> None:
    page = visit.page
    for name, words in (
        ("NotAllowedError", "must be allowed"),
        ("NotFoundError", "finds none"),
        ("NotReadableError", "another program"),
    ):
        visit.open(address)
        page.evaluate(
            """(name) => { navigator.mediaDevices.getUserMedia =
                 () => Promise.reject(new DOMException("refused", name)); }""",
            name,
        )
        page.click("#tab-camera")
        page.click("#camera-toggle")
        page.wait_for_selector("#camera-error:visible")
        assert words in page.inner_text("#camera-error")
        assert page.is_enabled("#camera-toggle")
    visit.open(address)
    page.evaluate("Object.defineProperty(window, 'isSecureContext', { value: false })")
    page.click("#tab-camera")
    page.click("#camera-toggle")
    page.wait_for_selector("#camera-error:visible")
    assert "https://" in page.inner_text("#camera-error")


# A stream of the page over a socket that a test answers, and a camera that gives what a test says.
STREAM = """async (frames) => {
  const { FrameStream } = await import("/web/stream.js");
  class Socket extends EventTarget {
    static OPEN = 1;
    readyState = 1;
    sent = 0;
    send(what) { if (typeof what !== "string") this.sent += 1; }
    close() { this.readyState = 3; }
    say(message) { this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(message) })); }
  }
  const real = window.WebSocket;
  window.WebSocket = Socket;
  const left = [...frames];
  const frame = () => ({ blob: new Blob(["x"]), picture: null });
  const told = { results: 0, ends: [] };
  const stream = new FrameStream("s", {
    next: async () => ((left.length ? left.shift() : false) ? frame() : null),
    onResult: () => { told.results += 1; },
    onEnd: (error) => told.ends.push(error.message),
  });
  stream.open();
  window.WebSocket = Object.assign(Socket, { real });
  Object.assign(window, { stream, told });
  stream.socket.say({ type: "ready", credit: 4, next_sequence: 0 });
}"""


def test_a_camera_that_misses_frames_goes_on(visit: Visit, address: str) -> None:
    page = visit.open(address)
    page.clock.install()
    page.evaluate(STREAM, [False, False, True, False, True])
    for _ in range(5):
        page.clock.run_for(200)
    assert page.evaluate("[stream.socket.sent, told.ends]") == [2, []]
    # One frame is refused, a later one answered: the reason of an end is then not the refused frame.
    page.evaluate(
        "stream.socket.say({ type: 'error', sequence: 0, error: { code: 'queue_full', message: 'too many' } })"
    )
    page.evaluate("stream.socket.say({ type: 'result', sequence: 1 })")
    page.evaluate("stream.socket.dispatchEvent(new CloseEvent('close', { code: 4404 }))")
    results, ends = page.evaluate("[told.results, told.ends]")
    assert results == 1
    assert len(ends) == 1
    assert "the session is gone" in ends[0]


def test_a_camera_without_frames_is_said(visit: Visit, address: str) -> None:
    page = visit.open(address)
    page.clock.install()
    page.evaluate(STREAM, [True])
    for _ in range(60):
        page.clock.run_for(100)
    sent, ends = page.evaluate("[stream.socket.sent, told.ends]")
    assert sent == 1
    assert len(ends) == 1
    assert "must give frames" in ends[0]
