"""The view of videos against a real server: upload, progress, playback, downloads, cancel, delete, refusal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import httpx2 as httpx

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, Request, Route

    from tests.browser.conftest import Media, Visit

JOB_TIMEOUT_MS = 40_000


def add_video(page: Page, path: Path) -> str:
    """Choose a video and return the id of the job that it becomes."""
    page.click("#tab-video")
    page.uncheck("#video-appearance")
    page.set_input_files("#video-file", path)
    row = page.wait_for_selector("#jobs-table tr[aria-current=true]:not([data-id^=upload])")
    assert row is not None
    return str(row.get_attribute("data-id"))


def delete(page: Page, job: str) -> None:
    """Delete a job by its row, saying yes."""
    row = page.locator(f"#jobs-table tr[data-id='{job}']")
    row.get_by_role("button", name="Delete").click()
    page.click("#confirm-yes")
    row.wait_for(state="detached")


def assert_plays(page: Page) -> None:
    """Check that the annotated video has data and that its time goes on."""
    page.wait_for_selector("#video-player:visible", timeout=JOB_TIMEOUT_MS)
    page.wait_for_function(
        """() => { const player = document.getElementById("video-player");
                   return player.readyState >= 2 && player.currentTime > 0.2; }"""
    )
    width, error = page.eval_on_selector("#video-player", "player => [player.videoWidth, player.error]")
    assert (width, error) == (640, None)


def test_a_job_runs_plays_and_is_deleted(
    visit: Visit, address: str, media: Media, shoot: Callable[[str], None]
) -> None:
    page = visit.open(address)
    states: list[str] = []
    page.expose_function("noteState", lambda text: states.append(text))
    page.evaluate(
        """() => new MutationObserver(() => window.noteState(document.getElementById("job-state").textContent))
                   .observe(document.getElementById("job-state"), { childList: true })"""
    )
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request) if "/results/" in request.url else None)
    job = add_video(page, media.video)
    assert_plays(page)
    # Streamed by the player itself, in ranges; nothing is fetched whole beforehand.
    assert {(request.resource_type, "range" in request.headers) for request in asked} == {("media", True)}
    shoot("video")
    assert states[0].startswith("uploading")
    assert any(state.startswith(("waiting", "tracking", "drawing")) for state in states)
    assert states[-1] == "done"
    status = httpx.get(f"{address}/v1/jobs/{job}").json()
    facts = page.inner_text("#job-facts")
    assert f"{status['frames_done']} of {status['frames_total']}" in facts
    names = [result["name"] for result in status["results"]]
    assert page.eval_on_selector_all("#job-actions > *", "all => all.map((one) => one.innerText.split(',')[0])") == [
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
    assert page.evaluate("document.activeElement.textContent") == "Keep"
    assert "walk.mp4" in page.inner_text("#confirm")
    shoot("confirm")
    page.keyboard.press("Escape")
    assert httpx.get(f"{address}/v1/jobs/{job}").status_code == 200
    delete(page, job)
    assert httpx.get(f"{address}/v1/jobs/{job}").status_code == 404
    assert page.evaluate("document.activeElement.className") == "scroll"
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
    # The keyboard stays on a row that is made anew because it was chosen.
    name = row.get_by_role("button", name="long.mp4", exact=True)
    name.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#jobs-table tr[data-id='{job}'][aria-current=true]")
    assert page.evaluate("document.activeElement.textContent") == "long.mp4"
    delete(page, job)


def test_a_job_deleted_while_it_is_watched_is_no_error(visit: Visit, address: str, long_video: Path) -> None:
    page = visit.open(address)
    job = add_video(page, long_video)
    page.wait_for_selector("#job-state >> text=tracking")
    assert httpx.delete(f"{address}/v1/jobs/{job}").status_code == 204
    page.locator(f"#jobs-table tr[data-id='{job}']").wait_for(state="detached")
    assert not page.is_visible("#video-error")


def test_videos_wait_for_the_upload_before_them(
    visit: Visit, address: str, media: Media, tmp_path: Path, shoot: Callable[[str], None]
) -> None:
    page = visit.open(address)
    page.click("#tab-video")
    held: list[Route] = []
    sent: list[str] = []

    def hold(route: Route) -> None:
        sent.append(route.request.url)
        held.append(route)

    page.route("**/v1/jobs?*", hold)
    paths = [tmp_path / f"{name}.mp4" for name in ("one", "two", "three")]
    for path in paths:
        path.write_bytes(media.video.read_bytes())
    page.set_input_files("#video-file", paths[0])
    page.wait_for_selector("#job-state >> text=uploading")
    page.check("#video-segment")  # for those that are added from now on
    page.set_input_files("#video-file", paths[1:])
    states = "#jobs-table tr[data-id^=upload] .state"
    assert page.locator(states).all_inner_texts() == ["uploading", "not uploaded yet", "not uploaded yet"]
    assert page.inner_text("#jobs-summary").endswith("3 uploads to go")
    shoot("uploads")
    page.get_by_role("button", name="Cancel upload of two.mp4").click()
    assert page.locator(states).all_inner_texts() == ["uploading", "not uploaded yet"]
    assert (len(sent), "segment" in sent[0]) == (1, False)
    status = httpx.get(f"{address}/v1/jobs").json()["jobs"]
    fake = {"id": "f" * 32, "name": "one.mp4", "state": "failed", "progress": 0, "frames_done": 0, "results": []}
    held[0].fulfill(status=202, json=fake)
    page.wait_for_function("() => document.querySelectorAll('#jobs-table tr[data-id^=upload]').length === 1")
    page.get_by_role("button", name="Cancel upload of three.mp4").click()
    page.wait_for_function("() => document.querySelectorAll('#jobs-table tr[data-id^=upload]').length === 0")
    assert ["name=three.mp4" in url and "segment=true" in url for url in sent] == [False, True]
    assert httpx.get(f"{address}/v1/jobs").json()["jobs"] == status


def test_events_end_and_good_answers_reset_failures(visit: Visit, address: str) -> None:
    page = visit.open(address)
    events = iter([None, None, None, None, None, None, 'event: end\ndata: {"id": "j", "state": "cancelled"}\n\n'])
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url.rpartition("/")[2])
        if route.request.url.endswith("/events"):
            body = next(events)
            if body is None:
                route.fulfill(status=500, json={})
            else:
                route.fulfill(body=body, content_type="text/event-stream")
        else:
            route.fulfill(json={"id": "j", "state": "running"})

    page.route("**/v1/jobs/j**", answer)
    page.clock.install()
    page.evaluate(
        """async () => {
             const { followJob } = await import("/web/job-events.js");
             window.states = [];
             void (async () => {
               for await (const { state } of followJob("j")) window.states.push(state);
               window.states.push("over");
             })();
           }"""
    )
    for _ in range(60):
        if page.evaluate("window.states.at(-1)") == "over":
            break
        page.clock.run_for(1000)
        page.wait_for_timeout(20)
    # More failures of the stream than are allowed in a row, each made good by a status; after the end nothing is asked.
    assert page.evaluate("window.states") == ["running"] * 6 + ["cancelled", "over"]
    assert asked[-1] == "events"


def test_what_is_no_video_is_said(visit: Visit, address: str, tmp_path: Path) -> None:
    wrong = tmp_path / "notes.mp4"
    wrong.write_text("these are words" * 100)
    page = visit.open(address)
    page.click("#tab-video")
    page.set_input_files("#video-file", wrong)
    page.wait_for_selector("#video-error:visible")
    assert "invalid_video" in page.inner_text("#video-error")
    assert page.is_visible("#video-choose")
