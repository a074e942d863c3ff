"""Jobs from upload to expiry, with a real tracker, real files and a stand-in for the network."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import orjson
import pytest
from job_fakes import (
    BlobDetector,
    FakeBuilder,
    chunks_of,
    job_settings,
    submit,
    wait_until_over,
    write_junk,
    write_video,
)

from service.batching import Priority
from service.clients import ModelReplacedError
from service.errors import ConflictError, DeadlineError, ForbiddenError, ServiceError, UnavailableError
from service.jobs import runner
from service.jobs.context import NICENESS, lower_priority
from service.jobs.errors import (
    InvalidVideoError,
    JobNotFoundError,
    StorageFullError,
    TooManyJobsError,
    VideoTooLongError,
)
from service.jobs.probe import probe_video
from service.jobs.service import JobService
from service.jobs.store import JobStore
from service.jobs.upload import Upload
from service.stream_options import StreamOptions
from vision.errors import ConfigError, InvalidInputError, MediaError, StateError
from vision.io.video import DecodeBudget
from vision.io.writers.jsonl import JsonlWriter, read_jsonl
from vision.io.writers.mot import MotWriter
from vision.types import Detections, Frame

FRAMES = 24


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", FRAMES).read_bytes()


class GatedDetector(BlobDetector):
    """Waits at a frame until it may go on."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.reached, self.may_go_on = threading.Event(), threading.Event()

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        if frames[0].index == self.at and not self.reached.is_set():
            self.reached.set()
            assert self.may_go_on.wait(30)
        return super().detect(frames)


class FailingDetector(BlobDetector):
    """Raises at a frame, as often as there are errors."""

    def __init__(self, *errors: Exception, at: int = 8) -> None:
        super().__init__()
        self.errors, self.at = list(errors), at

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        if frames[0].index == self.at and self.errors:
            raise self.errors.pop(0)
        return super().detect(frames)


class SeeingDetector(FailingDetector):
    """Remembers the frames that it was asked for."""

    def __init__(self, *errors: Exception, at: int = 8) -> None:
        super().__init__(*errors, at=at)
        self.seen: list[int] = []

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        self.seen.append(frames[0].index)
        return super().detect(frames)


def _release_when_stopping(jobs: JobService, gate: GatedDetector) -> None:
    """Open a gate as soon as the threads of the jobs are told to stop, and not before."""
    stopping = jobs._parts.runner._stopping  # type: ignore[union-attr]
    threading.Thread(target=lambda: (stopping.wait(30), gate.may_go_on.set()), daemon=True).start()


@asynccontextmanager
async def serving(folder: Path, detector: Any = None, **settings: Any) -> AsyncIterator[JobService]:
    jobs = JobService(job_settings(folder, **settings), FakeBuilder(detector))
    await jobs.start()
    try:
        yield jobs
    finally:
        await jobs.close(drain_s=30)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 30)


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder / "data")) for path in (folder / "data").rglob("*") if path.is_file())


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    for row in rows:
        row.pop("timings_ms", None)
    return rows


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
            _release_when_stopping(jobs, gate)
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
            _release_when_stopping(jobs, gate)
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


def test_an_error_that_passes_is_waited_out(tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RETRY_AFTER_S", (0.01, 0.01))
    monkeypatch.setattr("service.jobs.track.FRAME_RETRY_S", (0.01,))

    async def scenario() -> None:
        # Six errors are three runs with two tries each; progress lies in the checkpoint that the first one writes.
        async with serving(tmp_path, FailingDetector(*[UnavailableError("busy")] * 5)) as jobs:
            status = await wait_until_over(jobs, (await submit(jobs, video, wants_video=False))["id"])
            path = await jobs.result("anonymous", status["id"], "results.jsonl")
            assert (status["state"], len(rows_of(path))) == ("succeeded", FRAMES + 1)
        # The model is there (the builder says so) and fails for ever: that is the job's end.
        async with serving(tmp_path / "b", FailingDetector(*[UnavailableError("busy")] * 9, at=0)) as jobs:
            status = await wait_until_over(jobs, (await submit(jobs, video, wants_video=False))["id"])
            assert (status["state"], status["error"]["code"]) == ("failed", "not_ready")

    run(scenario)


def test_one_frame_is_tried_again_and_not_those_before_it(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "whole") as jobs:
            whole = await wait_until_over(jobs, (await submit(jobs, video, wants_video=False))["id"])
            expected = await jobs.result("anonymous", whole["id"], "tracks.txt")
        detector = SeeingDetector(DeadlineError("too late"))
        async with serving(tmp_path / "busy", detector) as jobs:
            status = await wait_until_over(jobs, (await submit(jobs, video, wants_video=False))["id"])
            path = await jobs.result("anonymous", status["id"], "tracks.txt")
            assert path.read_bytes() == expected.read_bytes()
        assert detector.seen == [*range(9), *range(8, FRAMES)]

    run(scenario)


class AbsentModels(FakeBuilder):
    """Says that models are not loaded while ``absent`` is set, and tells when it was asked."""

    def __init__(self, detector: Any = None) -> None:
        super().__init__(detector)
        self.absent, self.asked = threading.Event(), threading.Event()

    def open(self, options: StreamOptions, *, priority: Priority) -> Any:
        self._need()
        return super().open(options, priority=priority)

    def check(self, options: StreamOptions) -> Any:
        self._need()
        return super().check(options)

    def _need(self) -> None:
        if self.absent.is_set():
            self.asked.set()
            raise UnavailableError("the model is not loaded")


def test_jobs_wait_for_their_models_without_end(tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "REST_S", 0.01)
    monkeypatch.setattr(runner, "RETRY_AFTER_S", ())

    async def scenario() -> None:
        gate = GatedDetector(at=0)
        builder = AbsentModels(gate)
        jobs = JobService(job_settings(tmp_path), builder)
        await jobs.start()
        first, second, third = [(await submit(jobs, video, wants_video=False))["id"] for _ in range(3)]
        await until(gate.reached)
        builder.absent.set()
        gate.may_go_on.set()
        assert (await wait_until_over(jobs, first))["state"] == "succeeded"
        for _ in range(12):  # many times as often as errors are waited out
            builder.asked.clear()
            await until(builder.asked)
        assert (await jobs.cancel("anonymous", third))["state"] == "cancelled"
        assert {job["state"] for job in await jobs.list_of("anonymous")} <= {
            *("succeeded", "cancelled", "queued", "running"),
        }
        builder.absent.clear()
        assert (await wait_until_over(jobs, second))["state"] == "succeeded"
        assert (await jobs.get("anonymous", third))["state"] == "cancelled"
        await jobs.close(drain_s=30)

    run(scenario)


class UnloadedDetector(SeeingDetector):
    """Takes the models away at a frame."""

    builder: AbsentModels

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        if frames[0].index == self.at and self.errors:
            self.builder.absent.set()
        return super().detect(frames)


def test_a_model_that_goes_away_costs_no_frame(tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "REST_S", 0.01)

    async def scenario() -> None:
        detector = UnloadedDetector(UnavailableError("unloaded just now"))
        detector.builder = AbsentModels(detector)
        jobs = JobService(job_settings(tmp_path), detector.builder)
        await jobs.start()
        job_id = (await submit(jobs, video, wants_video=False))["id"]
        for _ in range(5):
            await until(detector.builder.asked)
            detector.builder.asked.clear()
        detector.builder.absent.clear()
        assert (await wait_until_over(jobs, job_id))["state"] == "succeeded"
        await jobs.close(drain_s=30)
        assert detector.seen == [*range(9), *range(8, FRAMES)]

    run(scenario)


def test_a_model_that_is_replaced_begins_the_job_anew(
    tmp_path: Path, video: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        detector = SeeingDetector(ModelReplacedError("another was loaded"))
        async with serving(tmp_path, detector, jobs_checkpoint_s=0.001) as jobs:
            status = await wait_until_over(jobs, (await submit(jobs, video, wants_video=False))["id"])
            path = await jobs.result("anonymous", status["id"], "results.jsonl")
            assert (status["state"], len(rows_of(path))) == ("succeeded", FRAMES + 1)
        assert detector.seen == [*range(9), *range(FRAMES)]

    run(scenario)
    assert "begins anew" in caplog.text


def test_an_end_that_cannot_be_written_is_written_later(
    tmp_path: Path, video: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "REST_S", 0.01)
    finish, failures = JobStore.finish, iter(range(4))
    failed = threading.Event()

    def finish_on_a_full_disk(store: JobStore, *args: Any, **options: Any) -> None:
        if next(failures, None) is not None:
            failed.set()
            raise sqlite3.OperationalError("database or disk is full")
        finish(store, *args, **options)

    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            monkeypatch.setattr(JobStore, "finish", finish_on_a_full_disk)
            job_id = (await submit(jobs, video, wants_video=False))["id"]
            await until(failed)
            status = await wait_until_over(jobs, job_id)
            assert (status["state"], len(status["results"])) == ("succeeded", 2)
            assert jobs.counts()["running"] == 0

    caplog.set_level(logging.CRITICAL, "service.jobs")
    run(scenario)


def test_a_job_that_runs_by_its_row_alone_can_be_cancelled_and_deleted(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        gate = GatedDetector(at=0)
        async with serving(tmp_path, gate) as jobs:
            await submit(jobs, video)
            await until(gate.reached)
            cancelled, deleted = [(await submit(jobs, video))["id"] for _ in range(2)]
            for job_id in (cancelled, deleted):
                jobs._parts.store._update(job_id, "state = 'running'", ())  # type: ignore[union-attr]
            assert (await jobs.cancel("anonymous", cancelled))["state"] == "cancelled"
            assert not (tmp_path / "data" / "jobs" / cancelled / "source").exists()
            await jobs.delete("anonymous", deleted)
            assert not (tmp_path / "data" / "jobs" / deleted).exists()
            assert (jobs.counts()["running"], jobs.counts()["cancelled"]) == (1, 1)
            gate.may_go_on.set()

    run(scenario)


def test_drawing_that_fails_leaves_the_tracks(
    tmp_path: Path, video: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, frame: Frame, result: Any) -> None:
        raise MediaError("the encoder does not like it")

    monkeypatch.setattr("vision.io.writers.video.VideoWriter.write", refuse)

    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            status = await wait_until_over(jobs, (await submit(jobs, video))["id"])
            assert (status["state"], "no annotated video" in status["warning"]) == ("succeeded", True)
            assert [entry["name"] for entry in status["results"]] == ["tracks.txt", "results.jsonl"]

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


def test_a_job_that_may_have_killed_a_server_runs_alone(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        gate = GatedDetector(at=0)
        async with serving(tmp_path, gate) as jobs:
            first = (await submit(jobs, video, wants_video=False))["id"]
            await until(gate.reached)
            _release_when_stopping(jobs, gate)
        store = JobStore(tmp_path / "data" / "jobs.sqlite3")
        store._update(first, "attempts = 1", ())
        store.close()
        gate = GatedDetector(at=12)
        async with serving(tmp_path, gate, jobs_workers=2) as jobs:
            other = (await submit(jobs, video, wants_video=False))["id"]
            await until(gate.reached)
            assert (await jobs.get("anonymous", first))["state"] == "running"
            assert (await jobs.get("anonymous", other))["state"] == "queued"
            gate.may_go_on.set()
            assert (await wait_until_over(jobs, first))["state"] == "succeeded"
            assert (await wait_until_over(jobs, other))["state"] == "succeeded"

    run(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux alone")
def test_a_thread_gives_way_and_is_never_moved_up() -> None:
    found: list[int] = []

    def work() -> None:
        me = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, me, 15)
        lower_priority()
        found.append(os.getpriority(os.PRIO_PROCESS, me))

    for target in (work, lambda: (lower_priority(), found.append(os.getpriority(os.PRIO_PROCESS, 0)))):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert found[0] == 15
    assert found[1] >= NICENESS


def test_a_refused_priority_costs_no_job(tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)

    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            status = await wait_until_over(jobs, (await submit(jobs, video, wants_video=False))["id"])
            assert status["state"] == "succeeded"

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
            while list((tmp_path / "data" / "jobs").iterdir()):
                await asyncio.sleep(0.01)
            assert jobs._parts.runner._environment.quota.used == 0  # type: ignore[union-attr]
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
            _release_when_stopping(jobs, gate)
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


def test_chunks_of_nothing_are_no_video(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as jobs:
            with pytest.raises(InvalidVideoError, match="no bytes"):
                await submit(jobs, b"")
            assert [piece async for piece in chunks_of(b"")] == []

    run(scenario)
