"""Videos that are too long, torn, junk or abandoned: they leave nothing, or a job with an end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import pytest
from job_fakes import (
    chunks_of,
    submit,
    wait_until_over,
    write_junk,
    write_video,
)
from job_serving import (
    FRAMES,
    GatedDetector,
    run,
    serving,
    until,
)

from service.errors import ForbiddenError, ServiceError
from service.jobs.errors import (
    InvalidVideoError,
    TooManyJobsError,
    VideoTooLongError,
)
from service.jobs.probe import probe_video
from service.jobs.upload import Upload
from service.stream_options import StreamOptions
from vision.errors import ConfigError
from vision.io.video import DecodeBudget


def test_limits_of_the_queue(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        gate = GatedDetector(at=0)
        async with serving(tmp_path, gate, jobs_max_queued=2, jobs_max_per_key=2) as jobs:
            await submit(jobs, video, key_id="a")
            await until(gate.reached)
            await submit(jobs, video, key_id="a")
            with pytest.raises(TooManyJobsError, match="a key may have 2") as caught:
                await submit(jobs, video, key_id="a")
            assert int(caught.value.headers["Retry-After"]) > 0
            await submit(jobs, video, key_id="b")
            with pytest.raises(TooManyJobsError, match="2 jobs may wait"):
                await submit(jobs, video, key_id="c")
            gate.may_go_on.set()

    run(scenario)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"jobs_max_duration_s": 0.1}, None),  # within the margin
        ({"jobs_max_upload_bytes": 5000}, ServiceError),
        ({"max_pixels": 1000}, InvalidVideoError),
        ({"jobs_workers": 0}, ForbiddenError),
    ],
)
def test_limits_of_a_video(tmp_path: Path, video: bytes, settings: dict[str, Any], error: Any) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, **settings) as jobs:
            if error is None:
                await submit(jobs, video)
                return
            with pytest.raises(error):
                await submit(jobs, video)
            assert await jobs.list_of("anonymous") == []
        assert list((tmp_path / "data" / "jobs").iterdir()) == []

    run(scenario)


def test_what_cannot_be_a_job_leaves_nothing(tmp_path: Path, video: bytes) -> None:
    long = write_video(tmp_path / "long.mp4", 40, fps=5).read_bytes()

    async def torn() -> AsyncIterator[bytes]:
        yield video[:1000]
        raise ConnectionResetError

    async def scenario() -> None:
        async with serving(tmp_path, jobs_max_duration_s=5.0) as jobs:
            with pytest.raises(VideoTooLongError):
                await submit(jobs, long)
            with pytest.raises(InvalidVideoError):
                await submit(jobs, b"\x00\x00\x00\x20ftypisom" + bytes(1000))
            with pytest.raises(ConfigError, match="tracker must be"):
                await submit(jobs, video, options=StreamOptions(tracker="nothing"))
            with pytest.raises(ConnectionResetError):
                await jobs.submit(
                    torn(),
                    content_type=None,
                    content_length=None,
                    key_id="k",
                    name="n",
                    options=StreamOptions(),
                    wants_video=True,
                )
        assert list((tmp_path / "data" / "jobs").iterdir()) == []

    run(scenario)


@pytest.mark.parametrize("step", ["_write", "_commit"])
def test_a_client_that_goes_away_while_a_thread_writes_leaves_nothing(
    tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original = getattr(Upload, step)
    writing, go_on = threading.Event(), threading.Event()

    def slow(self: Upload, *args: Any) -> None:
        writing.set()
        assert go_on.wait(30)
        original(self, *args)

    monkeypatch.setattr(Upload, step, slow)

    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            upload = asyncio.create_task(submit(jobs, video))
            await until(writing)
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload
            # The thread still has the file: nothing may be taken away under it.
            assert list((tmp_path / "data" / "jobs").rglob("source.part"))
            go_on.set()
            quota = jobs._parts.runner._environment.quota  # type: ignore[union-attr]
            # A thread clears up: it takes the folder away, and then counts its bytes no more.
            async with asyncio.timeout(30):
                while list((tmp_path / "data" / "jobs").iterdir()) or quota.used:
                    await asyncio.sleep(0.01)
            assert await jobs.list_of("anonymous") == []

    run(scenario)


def test_a_client_that_goes_away_while_its_video_is_looked_into_has_its_job(
    tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, go_on = threading.Event(), threading.Event()

    def slow(*args: Any, **options: Any) -> Any:
        looking.set()
        assert go_on.wait(30)
        return probe_video(*args, **options)

    monkeypatch.setattr("service.jobs.intake.probe_video", slow)

    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            upload = asyncio.create_task(submit(jobs, video, wants_video=False))
            await until(looking)
            # Whatever goes on there, the queue answers.
            assert await jobs.list_of("anonymous") == []
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload
            go_on.set()
            while not (found := await jobs.list_of("anonymous")):
                await asyncio.sleep(0.01)
            assert (await wait_until_over(jobs, found[0]["id"]))["state"] == "succeeded"

    run(scenario)


def test_a_job_in_junk_can_be_stopped_and_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_junk(tmp_path / "v.ts", packets=400, frames=3)
    monkeypatch.setattr("service.jobs.context.JOB_BUDGET", DecodeBudget(packets=60, seconds=30.0))

    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            status = await wait_until_over(jobs, (await submit(jobs, path.read_bytes(), wants_video=False))["id"])
            assert (status["state"], "damaged" in status["warning"]) == ("succeeded", True)
            assert 3 <= status["frames_done"] < 100

    run(scenario)


def test_a_video_that_ends_early_is_finished_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "v.ts"
    with av.open(str(write_video(tmp_path / "v.mp4", FRAMES))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = path.read_bytes()
    cut = data[: len(data) // 2 // 188 * 188 + 90]

    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            status = await wait_until_over(jobs, (await submit(jobs, cut))["id"])
        assert status["state"] == "succeeded"
        assert 0 < status["frames_done"] < FRAMES
        assert f"those of the {status['frames_done']} frames" in status["warning"]

    run(scenario)


def test_chunks_of_nothing_are_no_video(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            with pytest.raises(InvalidVideoError, match="no bytes"):
                await submit(jobs, b"")
            assert [piece async for piece in chunks_of(b"")] == []

    run(scenario)
