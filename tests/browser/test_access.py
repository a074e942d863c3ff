"""Who uses the page how: keyboard alone, screen readers, dark rooms, small screens, little motion."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import FileChooser, Page

    from tests.browser.conftest import Media, Visit

VIEWS = ("picture", "video", "camera")
DARK, LIGHT = {"color_scheme": "dark"}, {"color_scheme": "light"}
NARROW = {"viewport": {"width": 360, "height": 740}}
# WCAG 2.1 AA for text that is not large, and for the parts of controls.
MIN_TEXT_CONTRAST, MIN_PART_CONTRAST = 4.5, 3.0

# The colours of each visible text and of the ground it stands on: the nearest ancestor that paints one.
TEXT_COLOURS = """() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const number = (text) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = text;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const found = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim();
    const holder = walker.currentNode.parentElement;
    if (!text || !holder.checkVisibility({ visibilityProperty: true })) continue;
    if (holder.closest(".unseen, .skip, :disabled")) continue;
    let ground = holder;
    while (ground && number(getComputedStyle(ground).backgroundColor)[3] < 255) ground = ground.parentElement;
    const below = getComputedStyle(ground ?? document.body).backgroundColor;
    const colours = [number(getComputedStyle(holder).color), number(below)];
    found.set(JSON.stringify(colours), `${holder.tagName}.${holder.className}: ${text.slice(0, 30)}`);
  }
  return [...found].map(([colours, where]) => [where, ...JSON.parse(colours)]);
}"""

# Controls that can be reached and have no name for a screen reader to say.
NAMELESS = """() => {
  const controls = "button, a[href], input, select, video, canvas, [tabindex='0'], dialog, summary";
  const nameOf = (control) => {
    const ids = (control.getAttribute("aria-labelledby") ?? "").split(" ");
    const named = ids.map((id) => document.getElementById(id)?.textContent ?? "").join("");
    const labels = [...(control.labels ?? [])].map((label) => label.textContent).join("");
    return (control.getAttribute("aria-label") || named || labels || control.textContent).trim();
  };
  return [...document.querySelectorAll(controls)]
    .filter((control) => control.checkVisibility() && !nameOf(control))
    .map((control) => control.outerHTML.slice(0, 120));
}"""


def luminance(rgba: list[int]) -> float:
    """Return the relative luminance of a colour (WCAG 2.1)."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in rgba[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[int], other: list[int]) -> float:
    """Return the contrast of two colours, 1 to 21 (WCAG 2.1)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def assert_contrast(page: Page) -> None:
    pairs: list[Any] = page.evaluate(TEXT_COLOURS)
    assert len(pairs) >= 4
    weak = [(where, round(contrast(ink, ground), 2)) for where, ink, ground in pairs]
    assert [found for found in weak if found[1] < MIN_TEXT_CONTRAST] == []


@pytest.mark.parametrize("visit", [LIGHT, DARK], indirect=True, ids=["light", "dark"])
def test_texts_and_names_in_all_views(visit: Visit, address: str, media: Media) -> None:
    page = visit.open(address)
    page.set_input_files("#picture-file", media.picture)
    page.wait_for_selector("#picture-table tbody tr >> nth=0")
    page.wait_for_selector("#meter-facts dd >> nth=0")
    for view in VIEWS:
        page.click(f"#tab-{view}")
        assert_contrast(page)
        assert page.evaluate(NAMELESS) == []
    page.click("#settings-open")
    assert_contrast(page)
    # Lines that show where a control is.
    for edge, ground in itertools.product(["--edge", "--accent"], ["--ground", "--panel"]):
        colours = page.evaluate(
            """(names) => names.map((name) => {
                 const probe = document.body.appendChild(document.createElement("i"));
                 probe.style.color = `var(${name})`;
                 const colour = getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number);
                 probe.remove(); return colour; })""",
            [edge, ground],
        )
        assert contrast(*colours) >= MIN_PART_CONTRAST, (edge, ground, colours)


@pytest.mark.parametrize("visit", [DARK], indirect=True)
def test_the_theme_follows_the_system_and_the_button(visit: Visit, address: str) -> None:
    page = visit.open(address)

    def ground() -> float:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number)")
        return luminance(colour)

    assert ground() < 0.05
    assert page.get_attribute("#theme", "aria-pressed") == "true"
    page.click("#theme")
    assert ground() > 0.6
    page.reload()
    assert ground() > 0.6
    page.click("#theme")
    assert ground() < 0.05
    assert page.evaluate("localStorage.length") == 0


def test_a_picture_by_keyboard_alone(visit: Visit, address: str, media: Media) -> None:
    page = visit.open(address)
    # Waited for from here on: the browser takes a moment to hand its choosers over.
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    focused = "document.activeElement.id || document.activeElement.name || document.activeElement.tagName"
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "picture-choose":
            break
    assert page.evaluate(focused) == "picture-choose"
    assert page.evaluate(
        "getComputedStyle(document.activeElement).outlineStyle !== 'none' && "
        "parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2"
    )
    page.keyboard.press("Enter")
    for _ in range(100):
        if choosers:
            break
        page.wait_for_timeout(50)
    choosers[0].set_files(media.picture)
    page.wait_for_selector("#picture-table tbody tr >> nth=0")
    before = page.locator("#picture-table tbody tr").count()
    # The pressed button is gone, the one in its stead has the focus; the controls lie before it.
    assert page.evaluate(focused) == "picture-other"
    for _ in range(20):
        if page.evaluate(focused) == "picture-conf":
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Home")
    assert page.input_value("#picture-conf") == "0.1"
    assert page.locator("#picture-table tbody tr").count() > before
    # On to the class's checkbox: off and on by the space bar, the focus staying although the list is made anew.
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type") == "checkbox":
            break
    page.keyboard.press("Space")
    assert page.locator("#picture-table tbody tr").count() == 0
    page.keyboard.press("Space")
    assert page.locator("#picture-table tbody tr").count() > before
    # The rows are one stop of the tab key; arrows move within, and the row is marked in the picture.
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "TR":
            break
    rows = page.locator("#picture-table tbody tr").count()
    at = "document.activeElement.sectionRowIndex"
    for pressed, row in (("ArrowDown", 1), ("ArrowUp", 0), ("ArrowUp", 0), ("End", rows - 1), ("ArrowDown", rows - 1)):
        page.keyboard.press(pressed)
        assert page.evaluate(at) == row
    assert page.locator("#picture-table tbody tr[tabindex='0']").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") != "TR"
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(at) == rows - 1


def test_tabs_by_arrows(visit: Visit, address: str) -> None:
    page = visit.open(address)
    page.focus("#tab-picture")
    moves = {"ArrowRight": "video", "End": "camera", "ArrowLeft": "video", "Home": "picture"}
    round_the_end = [("ArrowLeft", "camera"), ("ArrowRight", "picture")]
    for pressed, view in [*moves.items(), *round_the_end]:
        page.keyboard.press(pressed)
        assert page.evaluate("document.activeElement.id") == f"tab-{view}"
        assert page.get_attribute(f"#tab-{view}", "aria-selected") == "true"
        assert [name for name in VIEWS if page.is_visible(f"#view-{name}")] == [view]
        assert page.locator("[role=tab][tabindex='-1']").count() == len(VIEWS) - 1


def test_results_are_said_to_screen_readers(visit: Visit, address: str, media: Media) -> None:
    page = visit.open(address)
    page.set_input_files("#picture-file", media.picture)
    page.wait_for_function("() => /^\\d+ box/.test(document.getElementById('announcer').textContent)")
    assert page.get_attribute("#announcer", "aria-live") == "polite"
    assert page.get_attribute("#picture-error", "role") == "alert"


@pytest.mark.parametrize("visit", [NARROW], indirect=True)
def test_small_screens_scroll_in_one_direction(visit: Visit, address: str, media: Media) -> None:
    page = visit.open(address)
    page.set_input_files("#picture-file", media.picture)
    page.wait_for_selector("#picture-table tbody tr >> nth=0")
    for view in VIEWS:
        page.click(f"#tab-{view}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("visit", [{"reduced_motion": "reduce"}], indirect=True)
def test_little_motion(visit: Visit, address: str) -> None:
    page = visit.open(address)
    moving = """() => [...document.querySelectorAll("*")].filter((one) => { const style = getComputedStyle(one);
      return style.animationName !== "none" || parseFloat(style.transitionDuration) > 0; }).map((one) => one.tagName)"""
    assert page.evaluate(moving) == []


def test_the_meter_counts_and_rests_while_hidden(visit: Visit, address: str, media: Media) -> None:
    page = visit.open(address)
    page.wait_for_selector("#meter-models tbody tr >> text=person-lite0")
    assert page.inner_text("#health-text") == "ready"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/v1/stats") else None)
    page.evaluate(
        """() => { Object.defineProperty(document, "hidden", { value: true, configurable: true });
                   document.dispatchEvent(new Event("visibilitychange")); }"""
    )
    page.wait_for_timeout(2300)
    assert asked == []
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_timeout(300)
    assert len(asked) == 1
