"""A server of video jobs in a process of its own, to be killed: ``job_process.py FOLDER VIDEO DELAY_S CHECKPOINT_S``.

Submits the video if the queue is empty, works until no job is left, and prints the status of the first as JSON.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parent))

from job_fakes import BlobDetector, FakeBuilder, job_settings, submit, wait_until_over

from service.jobs.service import JobService
from service.stream_options import StreamOptions


async def main(folder: Path, video: Path, delay_s: float, checkpoint_s: float) -> None:
    settings = job_settings(folder, jobs_checkpoint_s=checkpoint_s)
    jobs = JobService(settings, FakeBuilder(BlobDetector(delay_s)))
    await jobs.start()
    if not await jobs.list_of("anonymous"):
        await submit(jobs, video.read_bytes(), options=StreamOptions(segment=True))
    (job,) = await jobs.list_of("anonymous")
    status = await wait_until_over(jobs, job["id"])
    await jobs.close()
    sys.stdout.buffer.write(orjson.dumps(status))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
