"""The queue of video jobs in SQLite: every change of a job is one transaction, so a killed server loses none."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.jobs.record import Checkpoint, JobRecord, JobState
from service.jobs.schema import INSERT, checkpoint_text, connect, insert_values, make_private, prepare, to_record
from service.jobs.tally import JobTally
from vision.errors import StateError

# Starts of a job without progress, each of which killed the server; after them the video is taken for the cause.
MAX_ATTEMPTS = 2
_CRASHED = (
    f"expected a video that can be processed, found that the server ended {MAX_ATTEMPTS} times at the same place of "
    "it; convert the video and upload it again"
)
_NOT_DRAWN = f"there is no annotated video: the server ended {MAX_ATTEMPTS} times while it was drawn"


class JobStore:
    """The rows of all jobs; methods may be called from any thread.

    Writing is serialised by a lock. Readers have a connection of their own, which the write-ahead log keeps from
    waiting for a writer's disk.

    Args:
        path: the database file; made where it is missing.

    Raises:
        StateError: the file is no database, or one of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        self._tally = JobTally()
        try:
            make_private(path)
            self._writer = connect(path)
            prepare(self._writer)
            self._reader = connect(path)
            self._count_anew()
        except (sqlite3.DatabaseError, OSError) as exc:
            raise StateError(
                f"the job queue {path.name} must be a database of Stride32, failed: {exc}; move it away to begin a "
                "new one",
                path=path,
            ) from exc

    def close(self) -> None:
        """Close the database."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    # --- reading ---

    def get(self, job_id: str) -> JobRecord | None:
        """Return a job, or None."""
        rows = self._select("SELECT * FROM jobs WHERE id = ?", (job_id,))
        return to_record(rows[0]) if rows else None

    def list_of(self, key_id: str, *, state: JobState | None = None, limit: int = 100) -> list[JobRecord]:
        """Return the jobs of a key, newest first."""
        query, values = "SELECT * FROM jobs WHERE key_id = ? AND deleted = 0", [key_id]
        if state is not None:
            query += " AND state = ?"
            values.append(state)
        return [to_record(row) for row in self._select(f"{query} ORDER BY sequence DESC LIMIT ?", (*values, limit))]

    def all(self) -> list[JobRecord]:
        """Return every job, oldest first."""
        return [to_record(row) for row in self._select("SELECT * FROM jobs ORDER BY sequence")]

    def finished_before(self, when: float) -> list[JobRecord]:
        """Return the jobs that ended before ``when`` (seconds since 1970)."""
        rows = self._select("SELECT * FROM jobs WHERE finished_at IS NOT NULL AND finished_at < ?", (when,))
        return [to_record(row) for row in rows]

    def counts(self) -> dict[JobState, int]:
        """Return the number of jobs in each state, from memory."""
        return self._tally.counts()

    def unfinished_of(self, key_id: str) -> int:
        """Return how many jobs of a key wait or run, from memory."""
        return self._tally.unfinished_of(key_id)

    # --- writing ---

    def add(self, record: JobRecord) -> None:
        """Add a new job at the end of the queue."""
        with self._transaction(record.id) as connection:
            connection.execute(INSERT, insert_values(record))

    def claim(self, now: float, *, resting: Collection[str] = (), is_alone: bool = True) -> JobRecord | None:
        """Take the oldest waiting job and return it as running, or None.

        A job that was running when a server was killed runs alone until it has progress: if it kills this one too, no
        other job can be taken for the cause.

        Args:
            now: seconds since 1970.
            resting: jobs whose turn is not yet.
            is_alone: whether no other job runs.
        """
        marks = ", ".join("?" * len(resting))
        oldest = f"SELECT * FROM jobs WHERE state = 'queued' AND id NOT IN ({marks}) ORDER BY sequence LIMIT 1"
        while rows := self._select(oldest, tuple(resting)):
            (row,) = rows
            if row["attempts"] > 0 and not is_alone:
                return None
            with self._transaction(row["id"]) as connection:
                changed = connection.execute(
                    "UPDATE jobs SET state = 'running', phase = COALESCE(phase, 'track'), "
                    "started_at = COALESCE(started_at, ?) WHERE id = ? AND state = 'queued'",
                    (now, row["id"]),
                )
                if changed.rowcount:  # or it was cancelled, removed or taken in between
                    found = connection.execute("SELECT * FROM jobs WHERE id = ?", (row["id"],)).fetchone()
                    return to_record(found)
        return None

    def begin_attempt(self, job_id: str) -> None:
        """Count an attempt, before the video is touched: if that kills the server, the next start knows."""
        self._update(job_id, "attempts = attempts + 1", ())

    def save_checkpoint(self, job_id: str, checkpoint: Checkpoint) -> None:
        """Make a checkpoint the one to go on from; it is progress, so earlier starts are forgiven."""
        self._update(
            job_id,
            "checkpoint = ?, frames_done = ?, attempts = 1",
            (checkpoint_text(checkpoint), checkpoint.next_frame),
        )

    def begin_anew(self, job_id: str) -> None:
        """Forget a checkpoint that cannot be used."""
        self._update(job_id, "checkpoint = NULL, frames_done = 0", ())

    def begin_render(self, job_id: str, frames: int, warning: str | None) -> None:
        """Say that tracking is done after ``frames`` frames and drawing begins."""
        self._update(
            job_id,
            "phase = 'render', checkpoint = NULL, frames_done = 0, frames_total = ?, attempts = 1, warning = ?",
            (frames, warning),
        )

    def save_render_progress(self, job_id: str, frames: int) -> None:
        """Say that so many frames are drawn; further than any earlier attempt is progress, so those are forgiven."""
        self._update(
            job_id, "attempts = CASE WHEN frames_done < ? THEN 1 ELSE attempts END, frames_done = MAX(frames_done, ?)",
            (frames, frames),
        )  # fmt: skip

    def rest(self, job_id: str, *, was_counted: bool) -> None:
        """Put a job back at its old place because a model is not there; an attempt that was counted is taken back."""
        self._update(job_id, "state = 'queued', attempts = MAX(attempts - ?, 0)", (int(was_counted),))

    def requeue(self, job_id: str) -> None:
        """Put a running job back at its old place; that the server stops is no fault of the job's."""
        self._update(job_id, "state = 'queued', attempts = 0", ())

    def finish(
        self,
        job_id: str,
        state: JobState,
        now: float,
        *,
        frames: int | None = None,
        warning: str | None = None,
        error: tuple[str, str] | None = None,
    ) -> None:
        """End a job; ``error`` is code and message, ``frames`` their number if it is known now."""
        code, message = error or (None, None)
        self._update(
            job_id,
            "state = ?, finished_at = ?, checkpoint = NULL, error_code = ?, error_message = ?, "
            "warning = COALESCE(?, warning), frames_done = COALESCE(?, frames_done), "
            "frames_total = COALESCE(?, frames_total)",
            (state, now, code, message, warning, frames, frames),
        )

    def request_cancel(self, job_id: str, now: float) -> JobState | None:
        """Cancel a waiting job, ask a running one to stop; return the state before, None if there is no such job."""
        with self._transaction(job_id) as connection:
            state = _state_of(connection, job_id)
            if state is JobState.QUEUED:
                connection.execute(
                    "UPDATE jobs SET state = 'cancelled', finished_at = ?, checkpoint = NULL WHERE id = ?",
                    (now, job_id),
                )
            elif state is JobState.RUNNING:
                connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", (job_id,))
            return state

    def end_orphan(self, job_id: str, now: float) -> None:
        """Cancel a job that is running by its row alone."""
        self._update(
            job_id, "state = 'cancelled', finished_at = ?, checkpoint = NULL", (now,), condition="state = 'running'"
        )

    def delete(self, job_id: str) -> JobState | None:
        """Remove a job; a running one is hidden and asked to stop. Return the state before, None if there is none."""
        with self._transaction(job_id) as connection:
            state = _state_of(connection, job_id)
            if state is JobState.RUNNING:
                connection.execute("UPDATE jobs SET deleted = 1, cancel_requested = 1 WHERE id = ?", (job_id,))
            else:
                connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            return state

    def recover(self, now: float) -> None:
        """Sort out what a killed server left: its running jobs wait again, or are over, or are gone."""
        spent = ("state = 'running' AND attempts >= ?", MAX_ATTEMPTS)
        with self._transaction() as connection:
            connection.execute("DELETE FROM jobs WHERE deleted = 1")
            connection.execute(
                "UPDATE jobs SET state = 'cancelled', finished_at = ?, checkpoint = NULL "
                "WHERE state = 'running' AND cancel_requested = 1",
                (now,),
            )
            # The tracks are whole; only the video to look at cannot be made.
            connection.execute(
                "UPDATE jobs SET state = 'succeeded', finished_at = ?, "
                "frames_done = COALESCE(frames_total, frames_done), "
                f"warning = COALESCE(warning || '; ', '') || ? WHERE {spent[0]} AND phase = 'render'",
                (now, _NOT_DRAWN, spent[1]),
            )
            connection.execute(
                "UPDATE jobs SET state = 'failed', finished_at = ?, checkpoint = NULL, error_code = 'crashed', "
                f"error_message = ? WHERE {spent[0]}",
                (now, _CRASHED, spent[1]),
            )
            connection.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'")
        self._count_anew()

    # --- the two connections ---

    def _select(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        with self._read_lock:
            return self._reader.execute(query, values).fetchall()

    def _update(self, job_id: str, assignments: str, values: Sequence[Any], *, condition: str = "TRUE") -> None:
        """Change columns of one job; the SQL is written in this file, never by a client."""
        with self._transaction(job_id) as connection:
            connection.execute(f"UPDATE jobs SET {assignments} WHERE id = ? AND {condition}", (*values, job_id))

    @contextmanager
    def _transaction(self, job_id: str | None = None) -> Iterator[sqlite3.Connection]:
        """Commit what is done within, and count the job that it was about."""
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                row = None
                if job_id is not None:
                    row = self._writer.execute("SELECT key_id, state FROM jobs WHERE id = ?", (job_id,)).fetchone()
                self._writer.execute("COMMIT")
            except BaseException:
                # A full disk makes COMMIT itself fail and may have rolled back already.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            if job_id is not None:
                self._tally.note(job_id, None if row is None else (row["key_id"], JobState(row["state"])))

    def _count_anew(self) -> None:
        rows = self._select("SELECT id, key_id, state FROM jobs")
        self._tally.reset((row["id"], row["key_id"], JobState(row["state"])) for row in rows)


def _state_of(connection: sqlite3.Connection, job_id: str) -> JobState | None:
    row = connection.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else JobState(row["state"])
