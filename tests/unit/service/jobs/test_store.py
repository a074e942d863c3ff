"""The queue: order, attempts, what a killed server leaves, who sees what."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.jobs.record import Checkpoint, JobRecord, JobState, Phase
from service.jobs.store import JobStore
from vision.errors import StateError

CHECKPOINT = Checkpoint(digest="d", next_frame=7, offsets={"tracks.txt": 12}, state="state-7")


def record(number: int, **changes: object) -> JobRecord:
    new = JobRecord(
        id=f"{number:032x}",
        key_id="me",
        name="clip",
        state=JobState.QUEUED,
        phase=None,
        options="{}",
        wants_video=True,
        video_bytes=10,
        frames_total=40,
        created_at=100.0 + number,
    )
    return replace(new, **changes)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(tmp_path / "jobs.sqlite3")
    yield store
    store.close()


def get(store: JobStore, number: int) -> JobRecord:
    found = store.get(f"{number:032x}")
    assert found is not None
    return found


def test_a_row_is_the_value_that_was_added(store: JobStore) -> None:
    store.add(record(1, name="Tür 🚪"))
    assert get(store, 1) == record(1, name="Tür 🚪")
    assert store.get("f" * 32) is None


def test_the_oldest_waiting_job_comes_first_and_its_attempt_is_counted(store: JobStore) -> None:
    for number in (3, 1, 2):
        store.add(record(number))
    claimed = store.claim(500.0)
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.phase) == (record(3).id, JobState.RUNNING, Phase.TRACK)
    assert (claimed.attempts, claimed.started_at) == (0, 500.0)
    assert [job.id for job in (store.claim(501.0), store.claim(502.0)) if job] == [record(1).id, record(2).id]
    assert store.claim(503.0) is None


def test_a_job_is_given_to_one_thread_only(store: JobStore) -> None:
    for number in range(40):
        store.add(record(number))
    taken: list[str] = []

    def take() -> None:
        while (job := store.claim(1.0)) is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [record(number).id for number in range(40)]


def test_a_server_that_was_killed_once_tries_again_and_twice_gives_up(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    store = JobStore(path)
    store.add(record(1))
    for attempt, state in ((1, JobState.QUEUED), (2, JobState.FAILED)):
        claimed = store.claim(1.0)
        assert claimed is not None
        store.begin_attempt(claimed.id)
        assert get(store, 1).attempts == attempt
        store.close()  # killed
        store = JobStore(path)
        store.recover(9.0)
        assert get(store, 1).state is state
    assert (get(store, 1).error_code, get(store, 1).finished_at) == ("crashed", 9.0)
    assert store.claim(1.0) is None
    store.close()


def test_progress_forgives_earlier_attempts(store: JobStore) -> None:
    store.add(record(1))
    for _ in range(5):
        store.claim(1.0)
        store.begin_attempt(record(1).id)
        store.save_checkpoint(record(1).id, CHECKPOINT)
        store.recover(9.0)
        assert get(store, 1).state is JobState.QUEUED
    assert get(store, 1).checkpoint == CHECKPOINT
    assert get(store, 1).frames_done == 7


def test_drawing_further_than_before_is_progress_and_as_far_is_none(store: JobStore) -> None:
    store.add(record(1))
    store.claim(1.0)
    store.begin_attempt(record(1).id)
    store.begin_render(record(1).id, 40, None)
    for frames, attempts in ((10, 2), (30, 1), (30, 2), (5, 3)):
        if attempts > 1:
            store.begin_attempt(record(1).id)
        store.save_render_progress(record(1).id, frames)
        assert get(store, 1).attempts == (1 if frames in (10, 30) and (frames, attempts) != (30, 2) else attempts)
    assert get(store, 1).frames_done == 30


def test_a_video_that_kills_whoever_draws_it_is_left_out(store: JobStore) -> None:
    store.add(record(1))
    store.claim(1.0)
    store.begin_render(record(1).id, 38, "cut short")
    store.recover(8.0)
    store.claim(9.0)
    store.begin_attempt(record(1).id)
    store.recover(9.0)
    found = get(store, 1)
    assert (found.state, found.error_code, found.frames_done) == (JobState.SUCCEEDED, None, 38)
    assert found.warning is not None
    assert found.warning.startswith("cut short; there is no annotated video")


def test_a_job_that_was_running_when_a_server_died_is_taken_alone(store: JobStore) -> None:
    for number in (1, 2):
        store.add(record(number))
    store.claim(1.0)
    store.begin_attempt(record(1).id)
    store.recover(2.0)
    assert store.claim(3.0, is_alone=False) is None  # nor is the second one taken before it
    again = store.claim(3.0)
    assert again is not None
    assert again.id == record(1).id


def test_jobs_that_rest_are_passed_over(store: JobStore) -> None:
    for number in (1, 2):
        store.add(record(number))
    store.claim(1.0)
    store.begin_attempt(record(1).id)
    store.rest(record(1).id, was_counted=True)
    assert (get(store, 1).state, get(store, 1).attempts) == (JobState.QUEUED, 0)
    other = store.claim(2.0, resting=[record(1).id])
    assert other is not None
    assert other.id == record(2).id
    assert store.claim(3.0, resting=[record(1).id]) is None


def test_counts_are_those_of_the_rows(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite3")
    for number in range(6):
        store.add(record(number, key_id="me" if number % 2 else "you"))
    store.claim(1.0)
    store.claim(1.0)
    store.finish(record(0).id, JobState.SUCCEEDED, 2.0)
    store.request_cancel(record(2).id, 3.0)
    store.delete(record(3).id)
    store.delete(record(1).id)  # runs: hidden, and still there
    counted = store.counts(), store.unfinished_of("me"), store.unfinished_of("you")
    assert counted[0] == {
        JobState.QUEUED: 2,
        JobState.RUNNING: 1,
        JobState.SUCCEEDED: 1,
        JobState.FAILED: 0,
        JobState.CANCELLED: 1,
    }
    store.close()
    store = JobStore(tmp_path / "jobs.sqlite3")
    assert (store.counts(), store.unfinished_of("me"), store.unfinished_of("you")) == counted
    store.recover(4.0)
    assert (store.counts()[JobState.RUNNING], store.unfinished_of("me")) == (0, 1)
    store.close()


def test_the_queue_is_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite3").touch(0o644)
    store = JobStore(tmp_path / "jobs.sqlite3")
    store.add(record(1))
    assert [path.stat().st_mode & 0o077 for path in tmp_path.iterdir()] == [0] * len(list(tmp_path.iterdir()))
    store.close()


def test_a_stop_of_the_server_is_no_attempt(store: JobStore) -> None:
    store.add(record(1))
    for _ in range(5):
        store.claim(1.0)
        store.begin_attempt(record(1).id)
        store.requeue(record(1).id)
    store.claim(1.0)
    store.begin_attempt(record(1).id)
    store.recover(9.0)
    assert get(store, 1).state is JobState.QUEUED


def test_a_server_that_is_killed_before_it_touches_the_video_does_not_blame_it(store: JobStore) -> None:
    store.add(record(1))
    for _ in range(5):
        store.claim(1.0)
        store.recover(9.0)
    assert get(store, 1).state is JobState.QUEUED


def test_a_job_keeps_its_place_when_it_is_put_back(store: JobStore) -> None:
    store.add(record(1))
    store.add(record(2))
    store.claim(1.0)
    store.requeue(record(1).id)
    again = store.claim(2.0)
    assert again is not None
    assert (again.id, again.started_at) == (record(1).id, 1.0)


def test_drawing_begins_without_a_checkpoint(store: JobStore) -> None:
    store.add(record(1))
    store.claim(1.0)
    store.save_checkpoint(record(1).id, CHECKPOINT)
    store.begin_render(record(1).id, 38, "cut short")
    found = get(store, 1)
    assert (found.phase, found.checkpoint, found.frames_total, found.frames_done) == (Phase.RENDER, None, 38, 0)
    assert found.warning == "cut short"
    store.recover(2.0)
    again = store.claim(3.0)
    assert again is not None
    assert again.phase is Phase.RENDER


def test_cancel(store: JobStore) -> None:
    for number in (1, 2):
        store.add(record(number))
    store.claim(1.0)
    assert store.request_cancel(record(1).id, 5.0) is JobState.RUNNING
    assert get(store, 1).cancel_requested
    assert store.request_cancel(record(2).id, 5.0) is JobState.QUEUED
    assert (get(store, 2).state, get(store, 2).finished_at) == (JobState.CANCELLED, 5.0)
    assert store.request_cancel(record(9).id, 5.0) is None
    # Killed before its thread noticed: it stays cancelled.
    store.recover(6.0)
    assert get(store, 1).state is JobState.CANCELLED


def test_a_running_job_that_is_deleted_is_hidden_until_its_thread_lets_go(store: JobStore) -> None:
    store.add(record(1))
    store.claim(1.0)
    assert store.delete(record(1).id) is JobState.RUNNING
    assert get(store, 1).deleted
    assert store.list_of("me") == []
    store.recover(2.0)
    assert store.get(record(1).id) is None
    store.add(record(2))
    assert store.delete(record(2).id) is JobState.QUEUED
    assert store.get(record(2).id) is None


def test_lists_and_counts(store: JobStore) -> None:
    for number in range(4):
        store.add(record(number, key_id="me" if number < 3 else "you"))
    store.claim(1.0)
    store.finish(record(0).id, JobState.FAILED, 7.0, error=("invalid_video", "no"))
    assert [job.id for job in store.list_of("me")] == [record(number).id for number in (2, 1, 0)]
    assert [job.id for job in store.list_of("me", limit=1)] == [record(2).id]
    assert [job.error_message for job in store.list_of("me", state=JobState.FAILED)] == ["no"]
    assert store.counts()[JobState.QUEUED] == 3
    assert (store.unfinished_of("me"), store.unfinished_of("you")) == (2, 1)
    assert [job.id for job in store.finished_before(8.0)] == [record(0).id]
    assert store.finished_before(7.0) == []


def test_a_transaction_that_fails_leaves_the_queue_usable(store: JobStore) -> None:
    store.add(record(1))
    with pytest.raises(sqlite3.IntegrityError):
        store.add(record(1))
    store.add(record(2))
    assert store.counts()[JobState.QUEUED] == 2


def test_what_is_no_queue_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database at all, " * 100)
    with pytest.raises(StateError, match="must be a database"):
        JobStore(tmp_path / "text")
    JobStore(tmp_path / "newer").close()
    connection = sqlite3.connect(tmp_path / "newer")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError, match="found 99"):
        JobStore(tmp_path / "newer")
