"""The view of pictures against a real server: boxes, areas, filters, exports, and what cannot be read."""

from __future__ import annotations

import base64
import io
import json
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image

from vision.geometry.rle import decode_label_map
from vision.palette import PALETTE_RGB, STREET_RGB

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, Route

    from tests.browser.conftest import Media, Visit

ROWS = "#picture-table tbody tr"
ORIENTATION_TAG = 0x0112


def canvas_pixels(page: Page) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return what the picture's canvas shows, uint8 [H, W, 3]."""
    data = page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>
             done(document.getElementById("picture-canvas").toDataURL("image/png").split(",")[1]))))"""
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def coloured(pixels: np.ndarray[Any, np.dtype[np.uint8]], rgb: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    """Return rows and columns [N, 2] of the pixels in exactly one colour."""
    return np.argwhere((pixels == np.array(rgb, np.uint8)).all(axis=2))


def shown_rows(page: Page) -> list[list[str]]:
    return page.eval_on_selector_all(
        ROWS, "rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"
    )


def choose(page: Page, path: Path) -> None:
    page.set_input_files("#picture-file", path)
    page.wait_for_selector(f"{ROWS} >> nth=0")


def given_files(page: Page, path: Path) -> Any:
    """Return a DataTransfer of the page that holds a file, as dropping and pasting give it."""
    return page.evaluate_handle(
        """(bytes) => {
             const given = new DataTransfer();
             given.items.add(new File([new Uint8Array(bytes)], "given.jpg", { type: "image/jpeg" }));
             return given;
           }""",
        list(path.read_bytes()),
    )


def set_slider(page: Page, selector: str, value: float) -> None:
    page.eval_on_selector(
        selector,
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }",
        str(value),
    )


def test_boxes_are_drawn_and_listed_as_the_server_says(
    visit: Visit, address: str, media: Media, shoot: Callable[[str], None]
) -> None:
    page = visit.open(address)
    choose(page, media.picture)
    answer = httpx.post(f"{address}/v1/detect?conf=0.4", content=media.picture.read_bytes()).json()
    expected = [
        [str(at + 1), found["class_name"], f"{found['score']:.3f}", *(f"{value:.1f}" for value in found["box"])]
        for at, found in enumerate(answer["detections"])
    ]
    assert len(expected) >= 2
    # The page writes 64.0 as 64, as any number.
    assert [row[:3] + [f"{float(value):.1f}" for value in row[3:]] for row in shown_rows(page)] == expected
    pixels = canvas_pixels(page)
    found = coloured(pixels, PALETTE_RGB[0])
    assert len(found) > 200
    # Each box lies where the answer says, in the canvas's own scale.
    scale = pixels.shape[1] / answer["image"]["width"]
    for detection in answer["detections"]:
        x1, y1, x2, y2 = (value * scale for value in detection["box"])
        on_left = (abs(found[:, 1] - x1) <= 2) & (found[:, 0] > y1) & (found[:, 0] < y2)
        on_right = (abs(found[:, 1] - x2) <= 2) & (found[:, 0] > y1) & (found[:, 0] < y2)
        assert on_left.sum() > 0.5 * (y2 - y1)
        assert on_right.sum() > 0.5 * (y2 - y1)
    label = page.get_attribute("#picture-canvas", "aria-label") or ""
    assert label.startswith(f"people.jpg: {len(expected)} boxes")
    assert label.removeprefix("people.jpg: ") in page.inner_text("#picture-summary")
    shoot("boxes")


def test_filters_hide_without_asking_again(visit: Visit, address: str, media: Media) -> None:
    page = visit.open(address)
    choose(page, media.picture)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/v1/detect" in request.url else None)
    before = len(shown_rows(page))
    set_slider(page, "#picture-conf", 0.1)
    low = shown_rows(page)
    assert len(low) > before
    set_slider(page, "#picture-conf", 0.95)
    assert shown_rows(page) == []
    assert len(coloured(canvas_pixels(page), PALETTE_RGB[0])) == 0
    assert page.inner_text("#picture-classes .amount") == "0"
    set_slider(page, "#picture-conf", 0.4)
    page.uncheck("#picture-classes input")
    assert shown_rows(page) == []
    assert page.is_disabled("#picture-drawn")
    page.click("#picture-all")
    assert len(shown_rows(page)) == before
    assert asked == []


def test_exports_hold_what_is_shown(visit: Visit, address: str, media: Media) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.open(address)
    choose(page, media.picture)
    set_slider(page, "#picture-conf", 0.5)
    with page.expect_download() as saved:
        page.click("#picture-json")
    assert saved.value.suggested_filename == "people.json"
    written = json.loads(Path(saved.value.path()).read_text())
    assert len(written["detections"]) == len(shown_rows(page))
    with page.expect_download() as saved:
        page.click("#picture-drawn")
    with Image.open(saved.value.path()) as drawn:
        assert (drawn.format, drawn.size) == ("JPEG", (640, 272))
    page.click("#picture-curl")
    page.wait_for_selector("#picture-curl.done")
    command = shlex.split(page.evaluate("navigator.clipboard.readText()"))
    answer = json.loads(subprocess.run(command, cwd=media.picture.parent, capture_output=True, check=True).stdout)
    assert answer["detections"] == written["detections"]


def test_areas_lie_over_the_picture(visit: Visit, address: str, media: Media, shoot: Callable[[str], None]) -> None:
    page = visit.open(address)
    choose(page, media.picture)
    page.check("input[name=task][value=segment]")
    page.wait_for_selector("#picture-table th >> text=Pixels")
    answer = httpx.post(f"{address}/v1/segment", content=media.picture.read_bytes()).json()
    expected = sorted(answer["classes"], key=lambda entry: -entry["share"])
    assert [(row[0], int(row[2])) for row in shown_rows(page)] == [
        (entry["class_name"], entry["pixels"]) for entry in expected
    ]
    assert len(page.query_selector_all("#picture-classes .swatch")) == len(expected)
    shoot("areas")
    set_slider(page, "#picture-opacity", 1)
    largest = expected[0]
    labels = decode_label_map(answer["segmentation"])
    share = len(coloured(canvas_pixels(page), STREET_RGB[largest["class_name"]])) / canvas_pixels(page)[..., 0].size
    assert share == pytest.approx(float((labels == largest["label"]).mean()), abs=0.03)
    page.uncheck(f"#picture-classes li:has-text('{largest['class_name']}') input")
    assert len(coloured(canvas_pixels(page), STREET_RGB[largest["class_name"]])) < 50
    with page.expect_download() as saved:
        page.click("#picture-mask")
    with Image.open(saved.value.path()) as mask:
        assert mask.size == (640, 272)


def test_a_turned_picture_is_shown_upright(visit: Visit, address: str, media: Media, tmp_path: Path) -> None:
    turned = tmp_path / "turned.jpg"
    with Image.open(media.picture) as picture:
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = 6  # shown turned right by 90 degrees
        picture.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif, quality=95)
    page = visit.open(address)
    choose(page, turned)
    pixels = canvas_pixels(page)
    assert pixels.shape[1] / pixels.shape[0] == pytest.approx(640 / 272, rel=0.01)
    assert "640 \N{MULTIPLICATION SIGN} 272" in page.inner_text("#picture-summary")
    # The boxes of the upright picture, found again.
    page.set_input_files("#picture-file", media.picture)
    page.wait_for_selector("#picture-canvas[aria-label^='people.jpg: '][aria-label*='box']")
    assert np.abs(canvas_pixels(page).astype(int) - pixels).mean() < 12


def test_dropping_and_pasting(visit: Visit, address: str, media: Media) -> None:
    page = visit.open(address)
    transfer = given_files(page, media.picture)
    page.dispatch_event("#picture-stage", "dragenter", {"dataTransfer": transfer})
    assert "over" in (page.get_attribute("#view-picture", "class") or "")
    page.dispatch_event("#picture-stage", "drop", {"dataTransfer": transfer})
    page.wait_for_selector(f"{ROWS} >> nth=0")
    assert "over" not in (page.get_attribute("#view-picture", "class") or "")
    page.reload()
    page.evaluate(
        """(clipboardData) => document.dispatchEvent(
             new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }))""",
        given_files(page, media.picture),
    )
    page.wait_for_selector(f"{ROWS} >> nth=0")


def test_what_is_no_picture_is_said_with_its_request(visit: Visit, address: str, tmp_path: Path) -> None:
    wrong = tmp_path / "notes.jpg"
    wrong.write_text("these are words")
    page = visit.open(address)
    with page.expect_response("**/v1/detect*") as answered:
        page.set_input_files("#picture-file", wrong)
    page.wait_for_selector("#picture-error:visible")
    text = page.inner_text("#picture-error")
    assert answered.value.status == 422
    assert httpx.post(f"{address}/v1/detect", content=wrong.read_bytes()).json()["error"]["message"] in text
    assert f"request {answered.value.headers['x-request-id']}" in text
    assert page.is_visible("#picture-choose")
    assert not page.is_visible("#picture-results")


def test_a_format_that_browsers_lack_is_drawn_by_the_server(
    visit: Visit, address: str, media: Media, tmp_path: Path
) -> None:
    with Image.open(media.picture) as picture:
        picture.save(tmp_path / "people.tiff")
    page = visit.open(address)
    choose(page, tmp_path / "people.tiff")
    page.wait_for_selector("#picture-canvas:visible")
    # A JPEG of the server is not exact, hence near the colour of the boxes.
    near = np.abs(canvas_pixels(page).astype(int) - PALETTE_RGB[0]).max(axis=2) < 60
    assert near.sum() > 200


def test_a_loading_server_is_asked_again(visit: Visit, address: str, media: Media) -> None:
    page = visit.open(address)
    refusals = iter([503, 503])

    def refuse_first(route: Route) -> None:
        if next(refusals, None) is None:
            route.continue_()
            return
        error = {"code": "not_ready", "message": "the server must be ready, it loads; wait", "request_id": "r"}
        route.fulfill(status=503, json={"error": error}, headers={"Retry-After": "0.2"})

    page.route("**/v1/detect*", refuse_first)
    page.set_input_files("#picture-file", media.picture)
    page.wait_for_selector("#picture-busy >> text=loading")
    page.wait_for_selector(f"{ROWS} >> nth=0")
    assert not page.is_visible("#picture-error")
    assert not page.is_visible("#picture-busy")


def test_classes_of_the_whole_picture(visit: Visit, address: str, media: Media) -> None:
    """The classifier's answer is made up here: its weights come with a package that may be absent."""
    page = visit.page
    models = httpx.get(f"{address}/v1/models").json()["models"]
    classifier = {"name": "sorter", "task": "classify", "kind": "classifier", "state": "ready", "default": True}
    classes = [("street", 0.75, True), ("park", 0.25, False)]
    answer = {
        "model": "sorter",
        "image": {"width": 640, "height": 272},
        "classes": [
            {"label": label, "class_name": name, "score": score, "assigned": assigned}
            for label, (name, score, assigned) in enumerate(classes)
        ],
        "value": None,
        "unit": None,
        "timings_ms": {},
    }
    page.route("**/v1/models", lambda route: route.fulfill(json={"models": [*models, classifier]}))
    page.route("**/v1/classify*", lambda route: route.fulfill(json=answer))
    visit.open(address)
    choose(page, media.picture)
    page.check("input[name=task][value=classify]")
    page.wait_for_selector("#picture-table th >> text=Assigned")
    assert shown_rows(page) == [["street", "0.750", "yes"], ["park", "0.250", "no"]]
    assert page.inner_text("#picture-summary").startswith("street, score 0.75")
    assert not page.is_visible("#picture-drawn")
