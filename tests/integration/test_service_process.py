"""``stride32 serve`` as a process: ready, a picture, SIGTERM, exit 0; and starts that cannot work end with one line."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_models import png

REPOSITORY = Path(__file__).parents[2]
ONE_MODEL = {f"STRIDE32_{name}": "none" for name in ("SEGMENTER", "CLASSIFIER", "EMBEDDER")}


@contextmanager
def serving(folder: Path, *flags: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start the server on a free port in an empty folder; kills it at the end if it still runs."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STRIDE32_")}
    environment = {
        **kept,
        "PYTHONPATH": str(REPOSITORY),
        "STRIDE32_DATA_DIR": str(folder / "data"),
        **ONE_MODEL,
        **variables,
    }
    command = [sys.executable, "-m", "vision.cli", "serve", "--port", "0", "--device", "cpu", *flags]
    process = subprocess.Popen(command, cwd=folder, env=environment, text=True, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_server_starts_answers_and_ends_with_0(tmp_path: Path) -> None:
    with serving(tmp_path) as process:
        assert process.stderr is not None
        lines: list[str] = []
        while not (found := re.search(r"listens on http://127\.0\.0\.1:(\d+)", lines[-1] if lines else "")):
            line = process.stderr.readline()
            assert line, f"the server ended: {lines}"
            lines.append(line)
        port = int(found[1])
        deadline = time.monotonic() + 60
        while ask(port, "GET", "/readyz")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        status, body = ask(port, "POST", "/v1/detect", png())
        assert (status, json.loads(body)["detections"]) == (200, [])
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "Traceback" not in rest
    # Everything but the line for people is JSON.
    rows = [json.loads(line) for line in [*lines[:-1], *rest.splitlines()] if line.startswith("{")]
    access = [row for row in rows if row.get("route") == "/v1/detect"]
    assert [(row["status"], row["method"]) for row in access] == [(200, "POST")]
    assert access[0]["request_id"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--detector", "person-lite"], "did you mean 'person-lite0'"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
    ids=["model", "device"],
)
def test_start_that_cannot_work_ends_with_one_line(tmp_path: Path, flags: list[str], says: str) -> None:
    with serving(tmp_path, *flags) as process:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "Traceback" not in told
    errors = [
        row for line in told.splitlines() if line.startswith("{") and (row := json.loads(line))["level"] == "error"
    ]
    assert len(errors) == 1
    assert says in errors[0]["message"]


def test_misspelt_variable_ends_before_anything_starts(tmp_path: Path) -> None:
    with serving(tmp_path, STRIDE32_DETECTR="x") as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert told.count("\n") == 1
    assert "STRIDE32_DETECTOR" in told
