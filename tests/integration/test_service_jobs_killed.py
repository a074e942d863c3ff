"""kill -9 in the middle of a video job: the next start goes on, and the results are those of an undisturbed run."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import orjson
import pytest
from job_fakes import PATIENCE_S, write_video

SCRIPT = Path(__file__).parents[1] / "job_process.py"
FRAMES = 60


def start(folder: Path, video: Path, *, checkpoint_s: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SCRIPT), str(folder), str(video), "0.01", str(checkpoint_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=SCRIPT.parents[1])


def row_of(folder: Path) -> dict[str, Any] | None:
    path = folder / "data" / "jobs.sqlite3"
    if not path.exists():
        return None
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        row = connection.execute("SELECT * FROM jobs").fetchone()
    except sqlite3.OperationalError:  # the tables are being made
        return None
    finally:
        connection.close()
    return None if row is None else dict(row)


def kill_when(folder: Path, video: Path, ready: Callable[[dict[str, Any]], bool], *, checkpoint_s: float) -> None:
    """Start a server and kill it without warning once its job is where it should be."""
    process = start(folder, video, checkpoint_s=checkpoint_s)
    try:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            assert process.poll() is None, "the server ended before it was killed"
            row = row_of(folder)
            if row is not None and ready(row):
                break
            time.sleep(0.002)
        else:
            pytest.fail(f"the job never came to where it should be killed: {row}")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def finish(folder: Path, video: Path) -> dict[str, Any]:
    process = start(folder, video, checkpoint_s=0.1)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    status: dict[str, Any] = orjson.loads(output)
    return status


def results_of(folder: Path, job_id: str) -> tuple[bytes, list[dict[str, Any]]]:
    """Return tracks.txt as it is and results.jsonl without the times that stages took."""
    job = folder / "data" / "jobs" / job_id
    rows = [orjson.loads(line) for line in (job / "results.jsonl").read_bytes().splitlines()]
    for row in rows:
        row.pop("timings_ms", None)
    return (job / "tracks.txt").read_bytes(), rows


def test_a_job_that_dies_at_any_step_gives_what_an_undisturbed_one_gives(tmp_path: Path) -> None:
    """Also between giving files their names and writing that down, and between a state and the row that names it."""
    # 70 steps; every ninth is seconds, and comes to all kinds of them. A stride of 1 is for changes of this order.
    command = [sys.executable, str(SCRIPT.with_name("job_crashes.py")), str(tmp_path), "3", "9"]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=SCRIPT.parents[1], timeout=PATIENCE_S * 3, check=True)
    undisturbed, *disturbed = orjson.loads(done.stdout)
    assert undisturbed["state"] == ["succeeded", None, None, 3, 3]
    assert len(disturbed) >= 5
    for found in disturbed:
        assert {**found, "steps": undisturbed["steps"]} == {**undisturbed, "crashed_at": found["crashed_at"]}


def pictures_of(folder: Path, job_id: str) -> list[bytes]:
    """Return the decoded frames of annotated.mp4."""
    with av.open(str(folder / "data" / "jobs" / job_id / "annotated.mp4")) as container:
        return [picture.to_ndarray().tobytes() for picture in container.decode(video=0)]


def test_a_job_killed_again_and_again_gives_what_an_undisturbed_one_gives(tmp_path: Path) -> None:
    video = write_video(tmp_path / "blobs.mp4", FRAMES)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    expected = finish(undisturbed, video)
    assert expected["state"] == "succeeded"

    part = killed / "data" / "jobs"
    kill_when(killed, video, lambda row: bool(list(part.glob("*/tracks.txt.part"))), checkpoint_s=60)
    first = row_of(killed)
    assert first is not None
    assert (first["state"], first["checkpoint"]) == ("running", None)

    kill_when(killed, video, lambda row: row["frames_done"] >= 10, checkpoint_s=0.05)
    second = row_of(killed)
    assert second is not None
    assert 10 <= second["frames_done"] < FRAMES
    # What was written after the checkpoint is there, and must be cut off.
    kill_when(killed, video, lambda row: row["frames_done"] > second["frames_done"] + 10, checkpoint_s=0.05)
    kill_when(killed, video, lambda row: row["phase"] == "render", checkpoint_s=0.05)

    status = finish(killed, video)
    assert (status["state"], status["error"], status["warning"]) == ("succeeded", None, None)
    assert [result["name"] for result in status["results"]] == ["tracks.txt", "results.jsonl", "annotated.mp4"]
    tracks, rows = results_of(killed, status["id"])
    expected_tracks, expected_rows = results_of(undisturbed, expected["id"])
    assert tracks == expected_tracks
    assert rows == expected_rows
    assert len(rows) == FRAMES + 1
    assert tracks.count(b"\n") > FRAMES
    assert pictures_of(killed, status["id"]) == pictures_of(undisturbed, expected["id"])
    # Neither the upload nor states nor unfinished files are left.
    folder = killed / "data" / "jobs" / status["id"]
    assert sorted(path.name for path in folder.iterdir()) == ["annotated.mp4", "results.jsonl", "tracks.txt"]
