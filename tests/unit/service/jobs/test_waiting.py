"""Jobs when something is amiss: models that are away, disks that are full, threads that may not be slow."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from job_fakes import (
    FakeBuilder,
    submit,
    wait_until_over,
)
from job_serving import (
    FRAMES,
    FailingDetector,
    GatedDetector,
    SeeingDetector,
    release_when_stopping,
    rows_of,
    run,
    serving,
    until,
)

from service.clients import ModelReplacedError
from service.errors import DeadlineError, UnavailableError
from service.jobs import runner
from service.jobs.context import NICENESS, lower_priority
from service.jobs.store import JobStore
from service.stream_options import StreamOptions
from service.work import Priority
from vision.errors import MediaError
from vision.types import Detections, Frame


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
        async with serving(tmp_path, builder=builder) as jobs:
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
        async with serving(tmp_path, builder=detector.builder) as jobs:
            job_id = (await submit(jobs, video, wants_video=False))["id"]
            for _ in range(5):
                await until(detector.builder.asked)
                detector.builder.asked.clear()
            detector.builder.absent.clear()
            assert (await wait_until_over(jobs, job_id))["state"] == "succeeded"
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


def test_a_job_that_may_have_killed_a_server_runs_alone(tmp_path: Path, video: bytes) -> None:
    async def scenario() -> None:
        gate = GatedDetector(at=0)
        async with serving(tmp_path, gate) as jobs:
            first = (await submit(jobs, video, wants_video=False))["id"]
            await until(gate.reached)
            release_when_stopping(jobs, gate)
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
