"""The view of videos against a real server: upload, progress, playback, downloads, cancel, delete, refusal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import httpx2 as httpx

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Media, Visit

JOB_TIMEOUT_MS = 40_000


def add_video(page: Page, path: Path) -> str:
    """Choose a video and return the id of the job that it becomes."""
    page.click("#tab-video")
    page.uncheck("#video-appearance")
    page.set_input_files("#video-file", path)
    row = page.wait_for_selector("#jobs-table tr[aria-current=true]")
    assert row is not None
    return str(row.get_attribute("data-id"))


def assert_plays(page: Page) -> None:
    """Check that the annotated video has data and that its time goes on."""
    page.wait_for_selector("#video-player:visible", timeout=JOB_TIMEOUT_MS)
    page.wait_for_function(
        """() => { const player = document.getElementById("video-player");
                   return player.readyState >= 2 && player.currentTime > 0.2; }"""
    )
    width, error = page.eval_on_selector("#video-player", "player => [player.videoWidth, player.error]")
    assert (width, error) == (640, None)


def test_a_job_runs_plays_and_is_deleted(visit: Visit, address: str, media: Media) -> None:
    page = visit.open(address)
    states: list[str] = []
    page.expose_function("noteState", lambda text: states.append(text))
    page.evaluate(
        """() => new MutationObserver(() => window.noteState(document.getElementById("job-state").textContent))
                   .observe(document.getElementById("job-state"), { childList: true })"""
    )
    job = add_video(page, media.video)
    assert_plays(page)
    assert states[0].startswith("uploading")
    assert any(state.startswith(("waiting", "tracking", "drawing")) for state in states)
    assert states[-1] == "done"
    status = httpx.get(f"{address}/v1/jobs/{job}").json()
    facts = page.inner_text("#job-facts")
    assert f"{status['frames_done']} of {status['frames_total']}" in facts
    names = [result["name"] for result in status["results"]]
    assert page.eval_on_selector_all("#job-actions button", "all => all.map((one) => one.innerText.split(',')[0])") == [
        *names,
        "Delete",
    ]
    with page.expect_download() as saved:
        page.click("#job-actions >> text=tracks.txt")
    assert saved.value.suggested_filename == "walk-tracks.txt"
    assert Path(saved.value.path()).read_bytes() == httpx.get(f"{address}/v1/jobs/{job}/results/tracks.txt").content
    row = page.locator(f"#jobs-table tr[data-id='{job}']")
    assert row.locator(".state").inner_text() == "succeeded"
    row.get_by_role("button", name="Delete").click()
    row.wait_for(state="detached")
    assert httpx.get(f"{address}/v1/jobs/{job}").status_code == 404
    assert page.is_visible("#video-choose")
    assert not page.is_visible("#video-player")


def test_a_job_is_cancelled_and_found_again(visit: Visit, address: str, long_video: Path) -> None:
    page = visit.open(address)
    job = add_video(page, long_video)
    page.get_by_role("button", name="Cancel", exact=True).first.click()
    page.wait_for_selector("#job-state >> text=cancelled", timeout=JOB_TIMEOUT_MS)
    # After a reload the address still says which view, and the list still has the job.
    page.reload()
    row = page.locator(f"#jobs-table tr[data-id='{job}']")
    assert row.locator(".state").inner_text() == "cancelled"
    row.get_by_role("button", name="Delete").click()
    row.wait_for(state="detached")


def test_what_is_no_video_is_said(visit: Visit, address: str, tmp_path: Path) -> None:
    wrong = tmp_path / "notes.mp4"
    wrong.write_text("these are words" * 100)
    page = visit.open(address)
    page.click("#tab-video")
    page.set_input_files("#video-file", wrong)
    page.wait_for_selector("#video-error:visible")
    assert "invalid_video" in page.inner_text("#video-error")
    assert page.is_visible("#video-choose")
