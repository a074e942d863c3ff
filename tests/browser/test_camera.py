"""The view of the camera: live tracking with Chromium's fake camera, and why there may be none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx2 as httpx

if TYPE_CHECKING:
    from tests.browser.conftest import Visit


def sessions_of(address: str) -> int:
    return len(httpx.get(f"{address}/v1/sessions").json()["sessions"])


def test_people_are_tracked_live(visit: Visit, address: str) -> None:
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
