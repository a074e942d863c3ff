"""A server that asks for a key: the dialog, and that pictures, videos and the camera work with the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.browser.conftest import Media, Visit


def test_a_key_is_asked_for_and_used_everywhere(visit: Visit, keyed_address: str, key: str, media: Media) -> None:
    page = visit.page
    page.goto(keyed_address)
    page.wait_for_selector("#settings[open]")
    assert page.evaluate("document.activeElement.id") == "settings-key"
    page.fill("#settings-key", "not the right key at all")
    page.press("#settings-key", "Enter")
    page.wait_for_selector("#settings-why >> text=refused")
    page.fill("#settings-key", key)
    page.press("#settings-key", "Enter")
    page.wait_for_selector("#picture-model option", state="attached")
    assert not page.is_visible("#picture-error")

    page.set_input_files("#picture-file", media.picture)
    page.wait_for_selector("#picture-table tbody tr >> nth=0")

    page.click("#tab-video")
    page.uncheck("#video-appearance")
    page.set_input_files("#video-file", media.video)
    page.wait_for_selector("#video-player:visible", timeout=40_000)
    assert page.eval_on_selector("#video-player", "player => player.src").startswith("blob:")
    page.wait_for_function("() => document.getElementById('video-player').currentTime > 0.2")

    page.click("#tab-camera")
    page.click("#camera-toggle")
    page.wait_for_selector("#camera-canvas:visible")
    page.wait_for_function("() => Number(document.getElementById('camera-fps').textContent) > 0")
    page.click("#camera-toggle")

    # In this tab alone: kept by neither the browser nor the page's text.
    assert key in page.evaluate("JSON.stringify(sessionStorage)")
    assert key not in page.evaluate("JSON.stringify(localStorage) + document.documentElement.outerHTML")
    page.click("#settings-open")
    page.click("#settings >> text=Forget it")
    page.wait_for_function("() => sessionStorage.length === 0")
