"""A server that asks for a key: the dialog, and that pictures, videos and the camera work with the key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.conftest import Media, Visit


def test_a_key_is_asked_for_and_used_everywhere(
    visit: Visit, keyed_address: str, key: str, media: Media, shoot: Callable[[str], None]
) -> None:
    page = visit.page
    page.goto(keyed_address)
    page.wait_for_selector("#settings[open]")
    assert page.evaluate("document.activeElement.id") == "settings-key"
    shoot("key")
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
    plays = "() => document.getElementById('video-player').currentTime > 0.2"
    page.wait_for_function(plays)
    source = page.eval_on_selector("#video-player", "player => player.src")
    assert "/results/annotated.mp4?expires=" in source
    assert key not in source
    # An address that has become too old: the player takes a new one and goes on.
    page.eval_on_selector("#video-player", "(player, source) => { player.src = source; }", source[:-2] + "zz")
    page.wait_for_function("() => !document.getElementById('video-player').src.endsWith('zz')")
    page.wait_for_function("() => document.getElementById('video-player').readyState >= 2")
    assert not page.is_visible("#video-error")
    with page.expect_download() as saved:
        page.click("#job-actions >> text=tracks.txt")
    assert saved.value.suggested_filename == "walk-tracks.txt"
    assert Path(saved.value.path()).read_bytes().count(b"\n") > 10

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
