"""Jobs from upload to expiry, with a real tracker, real files and a stand-in for the network."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from pathlib import Path
from typing import Any

import av
import orjson
import pytest
from job_fakes import (
    BlobDetector,
    FakeBuilder,
    job_settings,
    submit,
    wait_until_over,
)
from job_serving import (
    FRAMES,
    FailingDetector,
    GatedDetector,
    files_of,
    release_when_stopping,
    rows_of,
    run,
    serving,
    until,
)

from service.errors import ConflictError, ServiceError, UnavailableError
from service.jobs.errors import (
    JobNotFoundError,
    StorageFullError,
)
from service.jobs.service import JobService
from service.stream_options import StreamOptions
from service.work import Priority
from vision.errors import InvalidInputError, StateError
from vision.io.writers.jsonl import JsonlWriter, read_jsonl
from vision.io.writers.mot import MotWriter
from vision.types import Frame


def test_a_job_gives_the_files_that_the_writers_write(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            status = await submit(jobs, video)
            assert (status["state"], status["frames_total"], status["name"]) == ("queued", FRAMES, "blobs")
            status = await wait_until_over(jobs, status["id"])
            assert (status["state"], status["error"], status["warning"]) == ("succeeded", None, None)
            assert (status["progress"], status["frames_done"], status["frames_total"]) == (1, FRAMES, FRAMES)
            assert status["expires_at"] == pytest.approx(status["finished_at"] + 3600)
            assert jobs._builder.opened == [Priority.BULK]  # type: ignore[attr-defined]
            paths = [await jobs.result("anonymous", status["id"], entry["name"]) for entry in status["results"]]
            assert [path.stat().st_size for path in paths] == [entry["bytes"] for entry in status["results"]]
            tracks, results, drawn = paths
            header, rows = read_jsonl(results)
            assert (header["class_names"], header["source"]) == (["blob"], "blobs")
            # Read back and written by the library's own writers, both files come out the same.
            config = {"class_names": header["class_names"], "config": header["config"], "source": header["source"]}
            with MotWriter(tmp_path / "mot") as mot, JsonlWriter(tmp_path / "jsonl", **config) as jsonl:
                for row in rows:
                    mot.write(None, row)
                    jsonl.write(None, row)
            assert (tmp_path / "mot").read_bytes() == tracks.read_bytes()
            assert (tmp_path / "jsonl").read_bytes() == results.read_bytes()
            with av.open(str(drawn)) as container:
                stream = container.streams.video[0]
                assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
                assert sum(1 for _ in container.decode(stream)) == FRAMES
            data = drawn.read_bytes()
            assert data.index(b"moov") < data.index(b"mdat")

    run(scenario)


def test_without_drawing_there_is_no_video_and_progress_is_tracking_alone(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        gate = GatedDetector(at=12)
        async with serving(tmp_path, gate) as jobs:
            job_id = (await submit(jobs, video, wants_video=False))["id"]
            await until(gate.reached)
            status = await jobs.get("anonymous", job_id)
            assert (status["state"], status["phase"], status["frames_done"]) == ("running", "track", 12)
            assert status["progress"] == 0.5
            assert status["results"] == []
            assert jobs.counts()["running"] == 1
            gate.may_go_on.set()
            status = await wait_until_over(jobs, job_id)
            assert [entry["name"] for entry in status["results"]] == ["tracks.txt", "results.jsonl"]

    run(scenario)


def test_a_stopped_server_goes_on_where_it_was_and_gives_the_same(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "whole") as jobs:
            whole = await wait_until_over(jobs, (await submit(jobs, video))["id"])
            expected = [await jobs.result("anonymous", whole["id"], name) for name in ("tracks.txt", "results.jsonl")]
        gate = GatedDetector(at=10)
        async with serving(tmp_path / "halves", gate) as jobs:
            job_id = (await submit(jobs, video))["id"]
            await until(gate.reached)
            release_when_stopping(jobs, gate)
        detector = GatedDetector(at=-1)
        seen: list[int] = []
        detector.detect = lambda frames: (  # type: ignore[method-assign]
            seen.append(frames[0].index),
            BlobDetector.detect(detector, frames),
        )[1]
        async with serving(tmp_path / "halves", detector) as jobs:
            status = await wait_until_over(jobs, job_id)
            assert status["state"] == "succeeded"
            found = [await jobs.result("anonymous", job_id, name) for name in ("tracks.txt", "results.jsonl")]
            assert found[0].read_bytes() == expected[0].read_bytes()
            assert rows_of(found[1]) == rows_of(expected[1])
        assert seen == list(range(11, FRAMES))

    run(scenario)


@pytest.mark.parametrize("damage", ["settings", "state", "file"])
def test_a_checkpoint_that_does_not_fit_is_left_aside(
    tmp_path: Path, video: bytes, damage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        gate = GatedDetector(at=10)
        async with serving(tmp_path, gate) as jobs:
            job_id = (await submit(jobs, video, wants_video=False))["id"]
            await until(gate.reached)
            release_when_stopping(jobs, gate)
        folder = tmp_path / "data" / "jobs" / job_id
        if damage == "settings":
            monkeypatch.setattr("service.jobs.checkpoint.__version__", "another")
        elif damage == "state":
            next(folder.glob("state-*.camera.npz")).write_bytes(b"torn")
        else:
            (folder / "tracks.txt.part").write_bytes(b"")
        async with serving(tmp_path) as jobs:
            status = await wait_until_over(jobs, job_id)
            path = await jobs.result("anonymous", job_id, "results.jsonl")
            assert (status["state"], len(rows_of(path))) == ("succeeded", FRAMES + 1)

    run(scenario)
    assert "begins anew" in caplog.text


def test_one_bad_job_does_not_hurt_the_next(tmp_path: Path, video: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        detector = FailingDetector(
            RuntimeError("/secret/path"),
            InvalidInputError("bad frame"),
            ServiceError("broken", code="inference_failed"),
        )
        async with serving(tmp_path, detector) as jobs:
            ids = [(await submit(jobs, video, wants_video=False))["id"] for _ in range(4)]
            ends = [await wait_until_over(jobs, job_id) for job_id in ids]
        assert [end["state"] for end in ends] == ["failed"] * 3 + ["succeeded"]
        assert [end["error"]["code"] for end in ends[:3]] == ["internal", "inference_failed", "inference_failed"]
        assert "secret" not in orjson.dumps(ends).decode()
        # The files of the job that succeeded, and of no other.
        assert len([name for name in files_of(tmp_path) if name.startswith("jobs/")]) == 2

    caplog.set_level(logging.CRITICAL, "service.jobs")
    run(scenario)


def test_what_defaults_stand_for_is_settled_when_a_job_is_sent(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            status = await submit(jobs, video, options=StreamOptions(segment=True))
            config = jobs._builder.check(StreamOptions())
            assert status["options"]["model"] == config.detection.model
            assert status["options"]["segmenter"] == config.segmentation.model

    run(scenario)


def test_cancel_a_running_and_a_waiting_job(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        gate = GatedDetector(at=5)
        async with serving(tmp_path, gate) as jobs:
            running, waiting = [(await submit(jobs, video))["id"] for _ in range(2)]
            await until(gate.reached)
            assert (await jobs.cancel("anonymous", waiting))["state"] == "cancelled"
            await jobs.cancel("anonymous", running)
            gate.may_go_on.set()
            status = await wait_until_over(jobs, running)
            assert (status["state"], status["results"], status["error"]) == ("cancelled", [], None)
            assert (await jobs.cancel("anonymous", running))["state"] == "cancelled"
            done = (await wait_until_over(jobs, (await submit(jobs, video, wants_video=False))["id"]))["id"]
            with pytest.raises(ConflictError, match="succeeded"):
                await jobs.cancel("anonymous", done)
            assert [job["id"] for job in await jobs.list_of("anonymous")] == [done, waiting, running]

    run(scenario)


def test_cancel_while_drawing_keeps_the_tracks(tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing, go_on = threading.Event(), threading.Event()

    def slow_draw(self: Any, frame: Frame, result: Any) -> Any:
        drawing.set()
        assert go_on.wait(30)
        return frame.image

    monkeypatch.setattr("vision.render.Annotator.draw", slow_draw)

    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            job_id = (await submit(jobs, video))["id"]
            await until(drawing)
            status = await jobs.get("anonymous", job_id)
            assert (status["phase"], len(status["results"])) == ("render", 2)
            await jobs.cancel("anonymous", job_id)
            go_on.set()
            status = await wait_until_over(jobs, job_id)
            assert status["state"] == "cancelled"
            assert [entry["name"] for entry in status["results"]] == ["tracks.txt", "results.jsonl"]
            assert not [name for name in files_of(tmp_path) if "mp4" in name or "source" in name]

    run(scenario)


def test_delete_removes_everything_at_once_or_when_the_thread_lets_go(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        gate = GatedDetector(at=5)
        async with serving(tmp_path, gate) as jobs:
            running, waiting = [(await submit(jobs, video))["id"] for _ in range(2)]
            await until(gate.reached)
            for job_id in (waiting, running):
                await jobs.delete("anonymous", job_id)
                with pytest.raises(JobNotFoundError):
                    await jobs.get("anonymous", job_id)
            assert not (tmp_path / "data" / "jobs" / waiting).exists()
            gate.may_go_on.set()
            after = await wait_until_over(jobs, (await submit(jobs, video, wants_video=False))["id"])
            await jobs.delete("anonymous", after["id"])
            assert jobs.counts() == dict.fromkeys(jobs.counts(), 0)
        assert list((tmp_path / "data" / "jobs").iterdir()) == []

    run(scenario)


def test_jobs_belong_to_their_key(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            job_id = (await submit(jobs, video, key_id="mine"))["id"]
            await wait_until_over(jobs, job_id, "mine")
            for call in (
                jobs.get("yours", job_id),
                jobs.cancel("yours", job_id),
                jobs.delete("yours", job_id),
                jobs.result("yours", job_id, "tracks.txt"),
                jobs.listen("yours", job_id),
                jobs.get("mine", "../" + job_id),
                jobs.result("mine", job_id, "../jobs.sqlite3"),
                jobs.result("mine", job_id, "source"),
            ):
                with pytest.raises(JobNotFoundError):
                    await call
            assert await jobs.list_of("yours") == []

    run(scenario)


def test_results_that_outgrow_the_quota_end_the_job(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, jobs_checkpoint_s=0.001) as jobs:
            jobs._parts.runner._environment.quota.limit = len(video) + 2000  # type: ignore[union-attr]
            status = await wait_until_over(jobs, (await submit(jobs, video))["id"])
            assert (status["state"], status["error"]["code"]) == ("failed", StorageFullError.code)
            assert status["results"] == []
            with pytest.raises(StorageFullError):
                await submit(jobs, video + bytes(3000))

    run(scenario)


def test_finished_jobs_expire(tmp_path: Path, video: bytes) -> None:
    now = time.time()

    async def scenario() -> None:
        jobs = JobService(job_settings(tmp_path, jobs_retention_s=0.2), FakeBuilder(), clock=lambda: now)
        await jobs.start()
        job_id = (await submit(jobs, video, wants_video=False))["id"]
        await wait_until_over(jobs, job_id)
        nonlocal_now(0.3)
        for _ in range(200):
            if not await jobs.list_of("anonymous"):
                break
            await asyncio.sleep(0.02)
        await jobs.close()
        assert list((tmp_path / "data" / "jobs").iterdir()) == []

    def nonlocal_now(seconds: float) -> None:
        nonlocal now
        now += seconds

    run(scenario)


def test_one_server_a_folder_and_none_after_the_end(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            with pytest.raises(StateError, match="another process uses it"):
                await JobService(job_settings(tmp_path), FakeBuilder()).start()
            jobs.begin_draining()
            with pytest.raises(UnavailableError) as caught:
                await submit(jobs, video)
            assert caught.value.error_code == "draining"
        with pytest.raises(UnavailableError):
            await jobs.get("anonymous", "0" * 32)
        assert jobs.counts()["queued"] == 0
        await jobs.close()
        await jobs.start()
        await jobs.close()

    run(scenario)


def test_a_start_clears_up(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        gate = GatedDetector(at=0)
        async with serving(tmp_path, gate) as jobs:
            first, lost = [(await submit(jobs, video))["id"] for _ in range(2)]
            await until(gate.reached)
            release_when_stopping(jobs, gate)
        folder = tmp_path / "data" / "jobs"
        (folder / ("e" * 32)).mkdir()
        (folder / ("e" * 32) / "source.part").write_bytes(b"torn upload")
        (folder / lost / "source").unlink()
        async with serving(tmp_path) as jobs:
            assert (await wait_until_over(jobs, first))["state"] == "succeeded"
            status = await jobs.get("anonymous", lost)
            assert (status["state"], "lost" in status["error"]["message"]) == ("failed", True)
        assert not (folder / ("e" * 32)).exists()

    run(scenario)
