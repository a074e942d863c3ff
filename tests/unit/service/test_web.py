"""The page's files: what they are served with, and that they fit each other and the library."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser

import httpx2 as httpx
import pytest
from fastapi import FastAPI

from service.web import CONTENT_SECURITY_POLICY, STATIC, mount_web
from vision.palette import NO_CLASS, PALETTE_RGB, STREET_RGB
from vision.tracking.config import PRESETS

MODULES = sorted(STATIC.glob("*.js"))
PAGE = (STATIC / "index.html").read_text("utf-8")


def ask(path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """Return the answer of an app that has the page alone."""
    app = FastAPI()
    mount_web(app)

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://page") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(send())


class Elements(HTMLParser):
    """Collects the start tags of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(PAGE)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/web/main.js", "text/javascript; charset=utf-8"),
        ("/web/base.css", "text/css; charset=utf-8"),
        ("/web/icons.svg", "image/svg+xml"),
    ],
)
def test_files_come_with_policy_and_type(path: str, media_type: str) -> None:
    response = ask(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-cache"
    assert "camera=(self)" in response.headers["permissions-policy"]


@pytest.mark.parametrize("path", ["/", "/web/main.js"])
def test_a_browser_that_has_the_file_is_told_so(path: str) -> None:
    again = ask(path, **{"if-none-match": ask(path).headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_head_has_no_body() -> None:
    response = ask("/", "HEAD")
    assert response.status_code == 200
    assert response.content == b""


@pytest.mark.parametrize(
    "path", ["/web/none.js", "/web/../__init__.py", "/web/%2e%2e/__init__.py", "/web/..%2f__init__.py", "/web/", "/web"]
)
def test_nothing_else_is_reachable(path: str) -> None:
    response = ask(path)
    assert response.status_code in (307, 404)
    assert "mount_web" not in response.text


def test_other_methods_are_refused() -> None:
    assert ask("/", "POST").status_code == 405
    assert ask("/web/main.js", "POST").status_code == 405


def test_page_and_files_stay_out_of_the_description() -> None:
    app = FastAPI()
    mount_web(app)
    assert app.openapi()["paths"] == {}


def test_the_policy_allows_all_that_the_page_holds() -> None:
    """No inline script, style or handler, which the policy would block."""
    for tag, attributes in Elements().found:
        assert tag != "style"
        assert "style" not in attributes, (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert tag != "script" or "src" in attributes
    for module in MODULES:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", module.read_text()
        )


def test_the_policy_keeps_all_within_the_server() -> None:
    policy = dict(part.strip().partition(" ")[::2] for part in CONTENT_SECURITY_POLICY.split(";"))
    assert policy.pop("default-src") == "'self'"
    assert policy == dict.fromkeys(("object-src", "base-uri", "form-action", "frame-ancestors"), "'none'")


def test_nothing_is_fetched_from_elsewhere() -> None:
    for path in STATIC.iterdir():
        # Said to people, not asked for by the page.
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "").replace("http://localhost", "")
        assert not re.search(r"https?://[\w.]|url\(|@import", text), path.name


def test_files_named_exist() -> None:
    named = set(re.findall(r'"web/([\w.-]+)[#"]', PAGE))
    for module in MODULES:
        named |= set(re.findall(r'from "\./([\w.-]+)"', module.read_text("utf-8")))
    assert {path.name for path in STATIC.iterdir()} - named <= {"index.html"}
    assert all((STATIC / name).is_file() for name in named)
    icons = (STATIC / "icons.svg").read_text("utf-8")
    assert all(f'id="{name}"' in icons for name in re.findall(r"icons\.svg#(\w+)", PAGE))


def test_elements_that_modules_look_for_exist_once() -> None:
    ids = [attributes["id"] for _, attributes in Elements().found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for module in MODULES:
        for name in re.findall(r'byId\("([\w-]+)"\)', module.read_text("utf-8")):
            assert name in ids, (module.name, name)


def test_colours_are_those_of_drawn_results() -> None:
    text = (STATIC / "palette.js").read_text("utf-8")
    lists, streets, none = (
        text.split(f"export const {name}")[1].split(";")[0] for name in ("PALETTE_RGB", "STREET_RGB", "NO_CLASS")
    )
    triples = re.compile(r"\[(\d+), (\d+), (\d+)\]")
    assert tuple(tuple(map(int, found)) for found in triples.findall(lists)) == PALETTE_RGB
    found = re.findall(r'"(\w+)": \[(\d+), (\d+), (\d+)\]', streets)
    assert {name: tuple(map(int, rgb)) for name, *rgb in found} == STREET_RGB
    assert set(re.findall(r'"(\w+)"', none)) == NO_CLASS


def test_trackers_offered_are_those_there_are() -> None:
    offered = re.findall(r'\["(\w*)", ', (STATIC / "trackers.js").read_text("utf-8"))
    assert offered == ["", *PRESETS]
