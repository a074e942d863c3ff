"""A video job that dies at each step that touches the disk: ``job_crashes.py FOLDER FRAMES STRIDE``.

Counts what a job does to the disk (files made safe, renamed or removed; the queue just before and just after a commit),
then runs it in a new process that ends without warning at the first of these steps, at another one STRIDE steps later,
and so on, each followed by a process that goes on. Prints the digests of all results as JSON, first the undisturbed
one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import orjson

sys.path.insert(0, str(Path(__file__).parent))

from job_fakes import FakeBuilder, job_settings, submit, wait_until_over, write_video

from service.jobs.service import JobService
from service.stream_options import StreamOptions

CRASHED = 9


class Steps:
    """Counts the steps of this process, and ends it at one of them."""

    def __init__(self, last: int | None) -> None:
        self.count, self._last = 0, last

    def __call__(self) -> None:
        self.count += 1
        if self.count == self._last:
            os._exit(CRASHED)

    def watch(self) -> None:
        """Make every step of this process from now on a counted one."""
        for name in ("fsync", "replace", "unlink"):
            setattr(os, name, self._counted(getattr(os, name)))
        tick, connect = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                if sql != "COMMIT":
                    return super().execute(sql, *values)
                tick()
                done = super().execute(sql)
                tick()
                return done

        sqlite3.connect = lambda *args, **options: connect(*args, factory=Connection, **options)  # type: ignore[assignment]

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self()
            return function(*args, **options)

        return counted


async def work(folder: Path, video: Path) -> dict[str, Any]:
    """Bring the job to its end, sending it if there is none."""
    jobs = JobService(job_settings(folder, jobs_checkpoint_s=0.000001), FakeBuilder())
    await jobs.start()
    if not await jobs.list_of("anonymous"):
        await submit(jobs, video.read_bytes(), options=StreamOptions(segment=True))
    (job,) = await jobs.list_of("anonymous")
    status = await wait_until_over(jobs, job["id"])
    await jobs.close()
    return status


def digest_of(folder: Path, status: dict[str, Any]) -> dict[str, Any]:
    """Return all that a client sees of a job's results but the times that stages took."""
    job = folder / "data" / "jobs" / status["id"]
    rows = [orjson.loads(line) for line in (job / "results.jsonl").read_bytes().splitlines()]
    for row in rows:
        row.pop("timings_ms", None)
    pictures = hashlib.sha256()
    with av.open(str(job / "annotated.mp4")) as container:
        for picture in container.decode(video=0):
            pictures.update(f"{picture.pts} {picture.time_base}".encode() + picture.to_ndarray().tobytes())
    return {
        "state": [status[name] for name in ("state", "warning", "error", "frames_done", "frames_total")],
        "tracks": hashlib.sha256((job / "tracks.txt").read_bytes()).hexdigest(),
        "rows": hashlib.sha256(orjson.dumps(rows)).hexdigest(),
        "pictures": pictures.hexdigest(),
        "files": sorted(path.name for path in job.iterdir()),
        "folders": len(list(job.parent.iterdir())),
    }


def in_a_process(folder: Path, video: Path, last: int | None) -> dict[str, Any] | None:
    """Run the job in a child; return its digest and number of steps, None for a child that was ended."""
    folder.mkdir(exist_ok=True)
    child = os.fork()
    if not child:
        steps = Steps(last)
        steps.watch()
        code = 1
        try:
            status = asyncio.run(work(folder, video))
            (folder / "digest.json").write_bytes(orjson.dumps([digest_of(folder, status), steps.count]))
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == CRASHED:
        return None
    assert code == 0, f"the process that may crash at step {last} ended with {code}"
    digest, count = orjson.loads((folder / "digest.json").read_bytes())
    return {**digest, "steps": count}


def main(folder: Path, frames: int, stride: int) -> None:
    """Run the job undisturbed, then with a crash at each step."""
    video = write_video(folder / "blobs.mp4", frames)
    undisturbed = in_a_process(folder / "undisturbed", video, None)
    assert undisturbed is not None
    found = [undisturbed]
    for step in range(1, undisturbed["steps"] + 1, stride):
        place = folder / f"step-{step}"
        if in_a_process(place, video, step) is None:
            digest = in_a_process(place, video, None)
            assert digest is not None
            found.append({**digest, "crashed_at": step})
    sys.stdout.buffer.write(orjson.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
