"""A tracker on disk: its arrays and its settings in one .npz, so that a stream resumes exactly where it stopped."""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np

from vision.errors import InvalidInputError
from vision.tracking.config import TrackerConfig
from vision.tracking.tracker import Tracker

FORMAT = 2

DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What numpy, zip and JSON raise for a file that is not what it should be."""


def save_tracker(tracker: Tracker, path: Path | str) -> None:
    """Write the tracker's whole state to ``path``, over what is there; a crash leaves the old file or none."""
    path = Path(path)
    settings = json.dumps({"format": FORMAT, "config": dataclasses.asdict(tracker.config)})
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, settings=np.array(settings), **tracker.to_arrays())
    part.replace(path)


def load_tracker(path: Path | str) -> Tracker:
    """Return the saved tracker; its next update gives what the original's would have given, to the last bit.

    Raises:
        InvalidInputError: the file is missing, damaged or of another format. Pickled content is never loaded.
        ConfigError: its settings are out of range.
    """
    path = Path(path)
    try:
        # Opened here: numpy leaves its own handle open when the archive is torn.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        settings = json.loads(str(arrays.pop("settings")))
        file_format, config = settings["format"], TrackerConfig(**settings["config"])
    except DAMAGED as exc:
        raise InvalidInputError(
            f"tracker state must be a file written by save_tracker, failed on {path.name}: {exc}; track again",
            path=path,
        ) from exc
    if file_format != FORMAT:
        raise InvalidInputError(f"tracker state must be of format {FORMAT}, got {file_format}; track again", path=path)
    return Tracker.from_arrays(config, arrays)
