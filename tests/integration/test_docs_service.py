"""The examples of the service's pages run: every ``bash needs-service`` and ``python needs-service`` block, in order,
against one real server with the default models. ``street.jpg``, ``street.mp4`` and ``frames/`` lie in the folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from job_fakes import write_video

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted({*DOCS.glob("service*.md"), DOCS / "deployment.md"})
FENCE = re.compile(r"^```(bash|python) needs-service\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"\b(127\.0\.0\.1|localhost):8000\b")
START_S, BLOCK_S = 120.0, 90.0
TOOLS = ("bash", "curl", "jq", "base64")


@dataclass(frozen=True)
class Example:
    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


def read_examples() -> list[Example]:
    return [
        Example(page, page.read_text(encoding="utf-8").count("\n", 0, match.start()) + 1, match[1], match[2])
        for page in PAGES
        for match in FENCE.finditer(page.read_text(encoding="utf-8"))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the pages name."""
    made = tmp_path_factory.mktemp("examples")
    photograph = cv2.imread(str(DOCS / "images" / "demo.jpg"))
    small = cv2.resize(photograph, None, fx=0.4, fy=0.4)
    (made / "frames").mkdir()
    for name, image in {"street.jpg": small, "square.jpg": small[:, ::-1]}.items():
        cv2.imwrite(str(made / name), image)
    for index in range(3):
        cv2.imwrite(str(made / "frames" / f"{index}.jpg"), np.roll(small, 3 * index, axis=1))
    write_video(made / "street.mp4", 8)
    return made


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    """Return the port of a server with the default models."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("STRIDE32_")}
    kept = {name: os.environ[name] for name in ("STRIDE32_CACHE", "STRIDE32_MODELS") if name in os.environ}
    settings = {"STRIDE32_PORT": "0", "STRIDE32_DATA_DIR": str(folder / "data"), "STRIDE32_LOG_LEVEL": "warning"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"], cwd=ROOT, stderr=log, env={**own, **kept, **settings}
        )
    try:
        yield wait_until_ready(process, folder / "log")
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0, (folder / "log").read_text()


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> int:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"listens on http://127\.0\.0\.1:(\d+)", log.read_text())
        if found:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/readyz", timeout=5):
                    return int(found[1])
            except urllib.error.HTTPError:
                pass
        time.sleep(0.1)
    raise AssertionError(f"the server is not ready:\n{log.read_text()}")


@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"the examples need {', '.join(TOOLS)}")
@pytest.mark.parametrize("example", read_examples(), ids=lambda example: example.name)
def test_example_runs(example: Example, port: int, folder: Path) -> None:
    text = ADDRESS.sub(rf"\g<1>:{port}", example.text)
    if example.language == "python":
        command = [sys.executable, "-c", text]
    else:
        # curl alone ends with 0 when it is told of an error.
        fail = 'curl() { command curl --fail-with-body "$@"; }; '
        command = ["bash", "-euo", "pipefail", "-c", fail + text]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STRIDE32_API_KEY": "0123456789abcdef0123456789abcdef"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=BLOCK_S, errors="replace"
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert '"error":{' not in done.stdout


def test_pictures_of_the_examples_show_what_they_say(port: int, folder: Path) -> None:
    """What the first page stores are pictures, and the detector finds people in the one that stands for all."""
    body = (folder / "street.jpg").read_bytes()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/detect", body, {"Accept": "image/jpeg"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR).shape[2] == 3
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/detect", body)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["detections"]
