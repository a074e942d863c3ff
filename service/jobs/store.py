"""The queue of video jobs in SQLite: every change of a job is one transaction, so a killed server loses none."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.jobs.record import Checkpoint, JobRecord, JobState
from service.jobs.schema import INSERT, checkpoint_text, insert_values, prepare, to_record
from vision.errors import StateError

# Starts of a job without progress, each of which killed the server; after them the video is taken for the cause.
MAX_ATTEMPTS = 2


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
        try:
            self._writer = _connect(path)
            prepare(self._writer)
            self._reader = _connect(path)
        except sqlite3.DatabaseError as exc:
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
        """Return the number of jobs in each state."""
        found = {row["state"]: row["n"] for row in self._select("SELECT state, COUNT(*) n FROM jobs GROUP BY state")}
        return {state: found.get(state, 0) for state in JobState}

    def unfinished_of(self, key_id: str) -> int:
        """Return how many jobs of a key wait or run."""
        (row,) = self._select(
            "SELECT COUNT(*) n FROM jobs WHERE key_id = ? AND state IN ('queued', 'running')", (key_id,)
        )
        return int(row["n"])

    # --- writing ---

    def add(self, record: JobRecord) -> None:
        """Add a new job at the end of the queue."""
        with self._transaction() as connection:
            connection.execute(INSERT, insert_values(record))

    def claim(self, now: float) -> JobRecord | None:
        """Take the oldest waiting job and return it as running, or None."""
        with self._transaction() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE state = 'queued' ORDER BY sequence LIMIT 1").fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE jobs SET state = 'running', phase = COALESCE(phase, 'track'), "
                "started_at = COALESCE(started_at, ?) WHERE sequence = ?",
                (now, row["sequence"]),
            )
            found = connection.execute("SELECT * FROM jobs WHERE sequence = ?", (row["sequence"],)).fetchone()
            return to_record(found)

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
        with self._transaction() as connection:
            state = _state_of(connection, job_id)
            if state is JobState.QUEUED:
                connection.execute(
                    "UPDATE jobs SET state = 'cancelled', finished_at = ?, checkpoint = NULL WHERE id = ?",
                    (now, job_id),
                )
            elif state is JobState.RUNNING:
                connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", (job_id,))
            return state

    def delete(self, job_id: str) -> JobState | None:
        """Remove a job; a running one is hidden and asked to stop. Return the state before, None if there is none."""
        with self._transaction() as connection:
            state = _state_of(connection, job_id)
            if state is JobState.RUNNING:
                connection.execute("UPDATE jobs SET deleted = 1, cancel_requested = 1 WHERE id = ?", (job_id,))
            else:
                connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            return state

    def recover(self, now: float) -> None:
        """Sort out what a killed server left: its running jobs wait again, or have failed, or are gone."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM jobs WHERE deleted = 1")
            connection.execute(
                "UPDATE jobs SET state = 'cancelled', finished_at = ?, checkpoint = NULL "
                "WHERE state = 'running' AND cancel_requested = 1",
                (now,),
            )
            connection.execute(
                "UPDATE jobs SET state = 'failed', finished_at = ?, checkpoint = NULL, error_code = 'crashed', "
                "error_message = ? WHERE state = 'running' AND attempts >= ?",
                (
                    now,
                    f"expected a video that can be processed, found that the server ended {MAX_ATTEMPTS} times at the "
                    "same place of it; convert the video and upload it again",
                    MAX_ATTEMPTS,
                ),
            )
            connection.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'")

    # --- the two connections ---

    def _select(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        with self._read_lock:
            return self._reader.execute(query, values).fetchall()

    def _update(self, job_id: str, assignments: str, values: Sequence[Any]) -> None:
        """Change columns of one job; ``assignments`` is written in this file, never by a client."""
        with self._transaction() as connection:
            connection.execute(f"UPDATE jobs SET {assignments} WHERE id = ?", (*values, job_id))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # A full disk makes COMMIT itself fail and may have rolled back already.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise


def _state_of(connection: sqlite3.Connection, job_id: str) -> JobState | None:
    row = connection.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else JobState(row["state"])


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection whose commits are on the disk when they return."""
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection
