"""The tables of the queue, a row as a JobRecord and back."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

from service.jobs.record import Checkpoint, JobRecord, JobState, Phase
from vision.errors import StateError

VERSION = 1

_CREATE = """
CREATE TABLE jobs (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    key_id TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    phase TEXT CHECK (phase IN ('track', 'render')),
    options TEXT NOT NULL,
    wants_video INTEGER NOT NULL,
    video_bytes INTEGER NOT NULL,
    frames_total INTEGER,
    frames_done INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    checkpoint TEXT,
    warning TEXT,
    error_code TEXT,
    error_message TEXT,
    created_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL
);
CREATE INDEX jobs_of_state ON jobs (state, sequence);
CREATE INDEX jobs_of_key ON jobs (key_id, sequence);
"""

INSERT = """
INSERT INTO jobs (id, key_id, name, state, phase, options, wants_video, video_bytes, frames_total, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def make_private(path: Path) -> None:
    """Let the owner alone read the database; SQLite gives its log and index files the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))
    path.chmod(0o600)


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection whose commits are on the disk when they return."""
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables where there are none; raises StateError for those of a newer version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StateError(
            f"the job queue must be of version {VERSION} or older, found {version}, made by a newer Stride32; start "
            "that one, or choose another STRIDE32_DATA_DIR"
        )
    if version == 0:
        # One transaction, the version in it: a process killed here leaves either nothing or all.
        connection.executescript(f"BEGIN IMMEDIATE; {_CREATE} PRAGMA user_version = {VERSION}; COMMIT;")


def insert_values(record: JobRecord) -> tuple[object, ...]:
    """Return the parameters of ``INSERT`` for a new job."""
    return (
        record.id,
        record.key_id,
        record.name,
        record.state,
        record.phase,
        record.options,
        record.wants_video,
        record.video_bytes,
        record.frames_total,
        record.created_at,
    )


def to_record(row: sqlite3.Row) -> JobRecord:
    """Return a row as a value."""
    return JobRecord(
        id=row["id"],
        key_id=row["key_id"],
        name=row["name"],
        state=JobState(row["state"]),
        phase=None if row["phase"] is None else Phase(row["phase"]),
        options=row["options"],
        wants_video=bool(row["wants_video"]),
        video_bytes=row["video_bytes"],
        frames_total=row["frames_total"],
        frames_done=row["frames_done"],
        attempts=row["attempts"],
        cancel_requested=bool(row["cancel_requested"]),
        deleted=bool(row["deleted"]),
        checkpoint=None if row["checkpoint"] is None else Checkpoint(**json.loads(row["checkpoint"])),
        warning=row["warning"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """Return a checkpoint as it is kept."""
    return json.dumps(
        {
            "digest": checkpoint.digest,
            "next_frame": checkpoint.next_frame,
            "offsets": dict(checkpoint.offsets),
            "state": checkpoint.state,
        }
    )
