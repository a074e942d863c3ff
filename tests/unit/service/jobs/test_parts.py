"""Progress, quota, folders, names and videos: the small parts of a job."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
from job_fakes import write_junk, write_video
from starlette.requests import Request
from starlette.types import Message

from service.auth import ANONYMOUS
from service.errors import InvalidParameterError
from service.jobs.answers import send_result
from service.jobs.errors import (
    InvalidVideoError,
    JobNotFoundError,
    StorageFullError,
    TooManyJobsError,
    VideoTooLongError,
)
from service.jobs.events import MAX_LISTENERS_PER_KEY, EventHub
from service.jobs.folders import MEDIA_TYPES, JobFolders, is_job_id
from service.jobs.intake import DEFAULT_NAME, checked_name
from service.jobs.probe import check_length, frame_limit, probe_video
from service.jobs.progress import RENDER_SHARE, Progress
from service.jobs.quota import DiskQuota
from service.jobs.record import Phase
from service.jobs.runner import describe_failure
from vision.errors import InvalidInputError, MediaError, ModelNotFoundError
from vision.io.video import DecodeBudget

JOB = "ab" * 16


class Clock:
    """Seconds that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_tells_share_rate_and_end() -> None:
    clock, told = Clock(), []
    progress = Progress(wants_video=False, notify=lambda: told.append(clock.now), clock=clock)
    progress.begin(Phase.TRACK, total=100)
    assert (progress.view().share, progress.view().eta_s, progress.view().frames_per_s) == (0, None, None)
    for done in range(1, 51):
        clock.now = done / 10
        progress.reach(done)
    view = progress.view()
    assert (view.frames_done, view.frames_total, view.share) == (50, 100, 0.5)
    assert view.frames_per_s == pytest.approx(10)
    assert view.eta_s == pytest.approx(5, abs=0.3)
    # Fifty frames, but at most four messages a second.
    assert len(told) <= 1 + 5 * 4


def test_the_rate_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    progress = Progress(wants_video=False, notify=lambda: None, clock=clock)
    progress.begin(Phase.TRACK, total=None)
    for second in range(1, 61):
        clock.now = second
        progress.reach(second * 10 if second <= 30 else 300 + (second - 30))
    assert progress.view().frames_per_s == pytest.approx(1, rel=0.1)
    assert (progress.view().eta_s, progress.view().share) == (None, 0)


def test_drawing_is_the_last_part_of_the_way() -> None:
    clock = Clock()
    progress = Progress(wants_video=True, notify=lambda: None, clock=clock)
    progress.begin(Phase.TRACK, total=10)
    clock.now = 10
    progress.reach(10)
    assert progress.view().share == pytest.approx(1 - RENDER_SHARE)
    assert progress.view().eta_s is not None
    progress.begin(Phase.RENDER, total=10)
    assert progress.view().share == pytest.approx(1 - RENDER_SHARE)
    clock.now = 12
    progress.reach(5)
    assert progress.view().share == pytest.approx(1 - RENDER_SHARE / 2)
    assert progress.view().eta_s == pytest.approx(2)


def test_a_header_that_promises_too_little_gives_no_share_above_one() -> None:
    progress = Progress(wants_video=False, notify=lambda: None)
    progress.begin(Phase.TRACK, total=10)
    progress.reach(25)
    assert (progress.view().share, progress.view().frames_total) == (1, 25)


def test_quota(tmp_path: Path) -> None:
    quota = DiskQuota(tmp_path, 1000)
    quota.grow("a", 600)
    with pytest.raises(StorageFullError):
        quota.grow("b", 500)
    quota.record("a", 100)
    quota.grow("b", 500)
    assert quota.used == 600
    quota.check(400)
    with pytest.raises(StorageFullError):
        quota.check(401)
    quota.release("b")
    quota.release("b")
    assert quota.used == 100


def test_a_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1))
    quota = DiskQuota(tmp_path, 1 << 40)
    with pytest.raises(StorageFullError, match="is full"):
        quota.check(1)
    with pytest.raises(StorageFullError, match="is full"):
        quota.before_writing(1)
    # Counting is for the event loop, and asks no disk.
    quota.grow("a", 1)


def test_folders_are_named_by_ids_alone(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path / "jobs")
    assert is_job_id(JOB)
    for name in ("", "..", "../" + JOB, JOB.upper(), JOB + "\n", JOB[:-1], "٣" * 32):
        assert not is_job_id(name)
        with pytest.raises(ValueError, match="32 hexadecimal"):
            folders.of(name)
    assert (tmp_path / "jobs").stat().st_mode & 0o077 == 0
    (tmp_path / "jobs").chmod(0o755)
    JobFolders(tmp_path / "jobs")
    JobFolders(tmp_path / "new" / "jobs")
    assert (tmp_path / "jobs").stat().st_mode & 0o077 == 0
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


def test_what_belongs_to_no_job_is_removed(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path / "jobs")
    for name in (JOB, "cd" * 16, "not-ours"):
        (tmp_path / "jobs" / name).mkdir()
        (tmp_path / "jobs" / name / "source.part").write_bytes(b"x")
    assert folders.remove_orphans({JOB}) == 1
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == [JOB, "not-ours"]


def test_a_job_that_is_over_leaves_its_results(tmp_path: Path) -> None:
    folder = JobFolders(tmp_path / "jobs").of(JOB)
    assert (folder.size(), folder.result_sizes()) == (0, {})
    folder.keep_results()
    folder.path.mkdir()
    for name in (*MEDIA_TYPES, "source", "maps.bin", "tracks.txt.part", "state-4.tracker.npz"):
        folder.file(name).write_bytes(b"12345")
    folder.keep_results()
    assert {path.name for path in folder.path.iterdir()} == set(MEDIA_TYPES)
    assert folder.size() == 15
    assert folder.result_sizes() == dict.fromkeys(MEDIA_TYPES, 5)


def test_a_result_that_expires_while_it_is_sent_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "tracks.txt").write_bytes(b"12345")
    request = Request({"type": "http", "method": "GET", "headers": []})
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(60)  # the client stays
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async def scenario() -> None:
        with pytest.raises(JobNotFoundError):
            await send_result(tmp_path / "results.jsonl", request)
        response = await send_result(tmp_path / "tracks.txt", request)
        await response(request.scope, receive, send)
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        sent.clear()
        (tmp_path / "tracks.txt").unlink()
        with pytest.raises(JobNotFoundError):
            await response(request.scope, receive, send)
        assert sent == []

    asyncio.run(scenario())


def test_one_key_does_not_take_all_event_streams() -> None:
    async def scenario() -> None:
        hub = EventHub()
        mine = [hub.listen(f"{number % 3}", "me") for number in range(MAX_LISTENERS_PER_KEY)]
        with pytest.raises(TooManyJobsError):
            hub.listen("4", "me")
        hub.listen("4", "you").close()
        mine[0].close()
        hub.listen("4", "me")
        for number in range(MAX_LISTENERS_PER_KEY + 1):
            hub.listen(f"a{number}", ANONYMOUS)

    asyncio.run(scenario())


def test_junk_is_looked_into_for_a_while_and_not_for_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_junk(tmp_path / "junk", packets=600)
    monkeypatch.setattr("service.jobs.probe.PROBE_BUDGET", DecodeBudget(packets=50, seconds=20.0))
    asked: list[int] = []
    with pytest.raises(InvalidVideoError, match="no frame"):
        probe_video(
            tmp_path / "junk",
            name="v",
            max_pixels=10**6,
            max_duration_s=1000,
            should_stop=lambda: bool(asked.append(1)),
        )
    assert len(asked) == 51


def disk_full() -> Exception:
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "/srv/data/x")
    except OSError as exc:
        wrapped = MediaError("/srv/data/x cannot be encoded")
        wrapped.__cause__ = exc
        return wrapped


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (disk_full(), "storage_full", "is full"),
        (MediaError("/srv/data/v is damaged", path="/srv/data/v"), "invalid_video", "v is damaged"),
        (VideoTooLongError("too long"), "video_too_long", "too long"),
        (InvalidInputError("a box is NaN"), "inference_failed", "a box is NaN"),
        (ModelNotFoundError("x", ["y"]), "model_not_found", "unknown model 'x'"),
        (RuntimeError("/srv/data"), "internal", "its log has the reason"),
        (sqlite3.OperationalError("disk I/O error"), "internal", "its log has the reason"),
    ],
)
def test_a_failure_is_told_without_paths(error: Exception, code: str, message: str) -> None:
    found = describe_failure(error, JOB)
    assert found[0] == code
    assert message in found[1]
    assert "/srv" not in found[1]


@pytest.mark.parametrize("name", [None, "", "   "])
def test_a_job_without_a_name_has_one(name: str | None) -> None:
    assert checked_name(name) == DEFAULT_NAME


def test_names_are_for_display() -> None:
    assert checked_name(" ../../etc/passwd <b> ") == "../../etc/passwd <b>"
    for name in ("a\nb", "a\x00", "a\u202eb", "x" * 121):
        with pytest.raises(InvalidParameterError, match="printable"):
            checked_name(name)


def test_probe(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v", 30)
    facts = probe_video(video, name="v", max_pixels=10**6, max_duration_s=10)
    assert (facts.frames, facts.fps, facts.size_hw) == (30, 25, (96, 128))
    with pytest.raises(VideoTooLongError):
        check_length(30.0, None, 10)
    with pytest.raises(VideoTooLongError, match="frames"):
        check_length(0.1, frame_limit(10) + 1, 10)
    check_length(None, None, 10)
    check_length(10.5, frame_limit(10), 10)
    with pytest.raises(InvalidVideoError, match="pixels"):
        probe_video(video, name="v", max_pixels=1000, max_duration_s=10)
    (tmp_path / "text").write_bytes(b"#EXTM3U\nfile:///etc/passwd\n" * 10)
    with pytest.raises(InvalidVideoError) as caught:
        probe_video(tmp_path / "text", name="holiday", max_pixels=10**6, max_duration_s=10)
    assert "holiday" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
