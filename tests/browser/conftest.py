"""A real server with the default models, a real Chromium, and inputs made from the demo's clip."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image

from vision.cli.demo import find_clip
from vision.errors import MissingDependencyError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = Path("/usr/bin/chromium")
KEY = "a-key-for-browser-tests-only"
START_TIMEOUT_S = 60.0
SCREENSHOTS = "STRIDE32_SCREENSHOTS"
# Frames of the clip: one with several people in it, and a stretch in which one walks and is tracked.
CROWDED_FRAME = 38
WALK = range(106, 136)


@dataclass(frozen=True)
class Server:
    """A running server: its address and log."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> str:
        """Return the address once the server is ready."""
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return self.url
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        pytest.fail(f"the server must become ready, it did not:\n{self.log.read_text()[-2000:]}")


@dataclass(frozen=True)
class Media:
    """Inputs made from the clip."""

    picture: Path
    video: Path
    camera: Path


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    """Return a picture, a short video and what the fake camera sees."""
    try:
        clip = find_clip()
    except MissingDependencyError as exc:
        pytest.skip(str(exc))
    folder = tmp_path_factory.mktemp("media")
    made = Media(folder / "people.jpg", folder / "walk.mp4", folder / "camera.mjpeg")
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), WALK.stop)]
    Image.fromarray(frames[CROWDED_FRAME]).save(made.picture, quality=95)
    write_video(made.video, [frames[index] for index in WALK])
    with made.camera.open("wb") as file:
        for index in WALK:
            Image.fromarray(frames[index]).save(file, "JPEG", quality=92)
    return made


@pytest.fixture(scope="session")
def long_video(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the short video eight times over: a job that is still running when it is cancelled."""
    with av.open(str(media.video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    write_video(path, frames * 8)
    return path


def write_video(path: Path, frames: list[np.ndarray[Any, np.dtype[np.uint8]]]) -> None:
    """Write frames as H.264 with 25 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def start_server(folder: Path, **settings: str) -> Server:
    """Start a server on a free port with its data in a folder; settings are names without the prefix."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    wanted = {
        "port": str(port),
        "data_dir": str(folder / "data"),
        "classifier": "none",
        "drain_timeout_s": "1",
        **settings,
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRIDE32_")}
    environment |= {f"STRIDE32_{name.upper()}": value for name, value in wanted.items()}
    for kept in ("STRIDE32_CACHE", "STRIDE32_MODELS"):
        if kept in os.environ:
            environment[kept] = os.environ[kept]
    log = folder / "log.txt"
    with log.open("wb") as out:
        # In its own folder, so that no .env of the developer is read.
        process = subprocess.Popen(
            [sys.executable, "-m", "service"], cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    return Server(f"http://127.0.0.1:{port}", process, log)


@pytest.fixture(scope="session")
def installed() -> None:
    """Skip where there is no browser, before servers are started for nothing."""
    pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM} (Debian's package chromium)")


@pytest.fixture(scope="session")
def servers(installed: None, media: Media, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Start an open server and one that asks for a key; both load while the first tests run."""
    started = {
        "open": start_server(tmp_path_factory.mktemp("open")),
        "keyed": start_server(tmp_path_factory.mktemp("keyed"), api_keys=KEY, segmenter="none"),
    }
    yield started
    for server in started.values():
        # At once: how a server ends in peace is tested elsewhere.
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def address(servers: dict[str, Server]) -> str:
    """Return the address of a ready server that asks for no key."""
    return servers["open"].wait()


@pytest.fixture
def key() -> str:
    """Return the key that the second server asks for."""
    return KEY


@pytest.fixture(scope="session")
def keyed_address(servers: dict[str, Server]) -> str:
    """Return the address of a ready server that asks for ``KEY``."""
    return servers["keyed"].wait()


# Of a module and not of the session: while Playwright runs, no other test of this thread can run an event loop.
@pytest.fixture(scope="module")
def chromium(installed: None, media: Media) -> Iterator[Browser]:
    """Return a Chromium whose camera plays the clip."""
    from playwright.sync_api import sync_playwright

    arguments = [
        "--no-sandbox",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={media.camera}",
        "--autoplay-policy=no-user-gesture-required",
    ]
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield browser
        browser.close()


@dataclass
class Visit:
    """One visitor: the page, and what went wrong in it by itself (scripts, content policy, missing files)."""

    page: Page
    context: BrowserContext
    faults: list[str]

    def open(self, address: str) -> Page:
        """Open the page and wait until it knows the models."""
        self.page.goto(address)
        self.page.wait_for_selector("#picture-model option", state="attached")
        return self.page


@pytest.fixture
def visit(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Return a fresh visitor; the test fails at its end if the page had faults. Options come by ``request.param``."""
    options = {"viewport": {"width": 1280, "height": 900}, "accept_downloads": True, **getattr(request, "param", {})}
    context = chromium.new_context(**options)
    context.set_default_timeout(15_000)
    visitor = Visit(context.new_page(), context, [])
    page = visitor.page
    page.on("pageerror", lambda error: visitor.faults.append(f"error: {error}"))
    # What the server refuses is logged by the browser as well; those answers are the tests' own business.
    page.on(
        "console",
        lambda message: (
            visitor.faults.append(message.text)
            if message.type in ("error", "warning") and "Failed to load resource" not in message.text
            else None
        ),
    )
    yield visitor
    context.close()
    assert visitor.faults == []


@pytest.fixture
def shoot(visit: Visit, tmp_path: Path) -> Callable[[str], None]:
    """Return what takes a picture of the page in light and dark, kept in STRIDE32_SCREENSHOTS if that is set."""
    folder = Path(os.environ.get(SCREENSHOTS) or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def take(name: str) -> None:
        means = {}
        for scheme in ("light", "dark"):
            visit.page.emulate_media(color_scheme=scheme)
            path = folder / f"{name}-{scheme}.png"
            visit.page.screenshot(path=path, full_page=True, animations="disabled")
            with Image.open(path) as shot:
                means[scheme] = float(np.asarray(shot.convert("L"), np.float32).mean())
        visit.page.emulate_media(color_scheme="light")
        assert means["light"] > means["dark"] + 40, (name, means)

    return take
