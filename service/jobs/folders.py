"""The files of jobs: a folder for each, named by the job's random id; nothing a client says becomes part of a path."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

TRACKS, RESULTS, VIDEO = "tracks.txt", "results.jsonl", "annotated.mp4"
# The class of each pixel of each frame, for drawing alone: too long to be handed out.
MAPS = "maps.bin"
MEDIA_TYPES = {TRACKS: "text/plain; charset=utf-8", RESULTS: "application/x-ndjson", VIDEO: "video/mp4"}
"""Result files by name, in the order in which they are listed."""

SOURCE = "source"
PART = ".part"
_JOB_ID = re.compile(r"[0-9a-f]{32}")


def is_job_id(text: str) -> bool:
    """Return whether a text has the form of an id, and so can name a folder."""
    return _JOB_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The files of one job."""

    path: Path

    @property
    def source(self) -> Path:
        """The uploaded video; has no ending, for the decoder looks at the content."""
        return self.path / SOURCE

    def file(self, name: str) -> Path:
        """Return the place of a finished file."""
        return self.path / name

    def part(self, name: str) -> Path:
        """Return the place of a file that is being written."""
        return self.path / (name + PART)

    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(_size_of(entry) for entry in self._entries())

    def result_sizes(self) -> dict[str, int]:
        """Return the bytes of each finished result."""
        return {name: _size_of(path) for name in MEDIA_TYPES if (path := self.file(name)).is_file()}

    def keep_results(self) -> None:
        """Remove the upload and everything unfinished; what a job leaves when it is over."""
        for entry in self._entries():
            if entry.name not in MEDIA_TYPES:
                entry.unlink(missing_ok=True)

    def _entries(self) -> list[Path]:
        """Return what is in the folder; nothing where its owner has just removed it."""
        try:
            return list(self.path.iterdir())
        except FileNotFoundError:
            return []

    def remove(self) -> None:
        """Remove the folder and all in it; what cannot be removed is logged."""
        shutil.rmtree(self.path, onerror=_log_failure)


class JobFolders:
    """The folder of all job folders.

    Args:
        root: made where it is missing, for the owner alone: uploads are private. So is the folder that it is in.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Not the mode of the data folder if somebody else has made it: that may be anything, even /tmp.
        root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.mkdir(mode=0o700, exist_ok=True)
        root.chmod(0o700)

    def of(self, job_id: str) -> JobFolder:
        """Return the folder of a job, which need not exist."""
        if not is_job_id(job_id):
            raise ValueError(f"a job id must be 32 hexadecimal digits, got {job_id!r}")
        return JobFolder(self.root / job_id)

    def all(self) -> Iterator[tuple[str, JobFolder]]:
        """Yield the id and the folder of each job that has one; other entries are not ours and left alone."""
        for entry in sorted(self.root.iterdir()):
            if entry.is_dir() and is_job_id(entry.name):
                yield entry.name, JobFolder(entry)

    def remove_orphans(self, known: Container[str]) -> int:
        """Remove the folders of jobs that are not known (torn uploads, interrupted removals); return their number."""
        orphans = [folder for job_id, folder in self.all() if job_id not in known]
        for folder in orphans:
            folder.remove()
        return len(orphans)


def sync_file(path: Path) -> None:
    """Return once the content of a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Return once the names in a folder are on the disk; does nothing where folders cannot be synchronised."""
    if os.name == "posix":
        sync_file(path)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _log_failure(function: object, path: str, info: object) -> None:
    if not isinstance(info, tuple) or not isinstance(info[1], FileNotFoundError):
        log.warning("a file of a job cannot be removed: %s", info)
