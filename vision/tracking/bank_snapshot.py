"""A bank of streams on disk: all trackers, camera motions and settings in one .npz, to resume exactly."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.tracking.bank import EmbedFrames, TrackerBank
from vision.tracking.camera_motion import CameraMotion
from vision.tracking.config import TrackerConfig
from vision.tracking.snapshot import DAMAGED
from vision.tracking.tracker import Tracker

FORMAT = 1
Arrays = dict[str, npt.NDArray[Any]]


def save_bank(bank: TrackerBank, path: Path | str) -> None:
    """Write all streams of the bank to ``path``, over what is there; a crash leaves the old file or none.

    The embedder is not part of it: pass it again to ``load_bank``.
    """
    path = Path(path)
    streams: list[dict[str, Any]] = []
    arrays: Arrays = {}
    for number, key in enumerate(bank):
        tracker, camera = bank.tracker(key), bank.camera(key)
        streams.append(
            {
                "key": key,
                "config": dataclasses.asdict(tracker.config),
                "camera": None if camera is None else {"method": camera.method, "long_side": camera.long_side},
            }
        )
        arrays |= {f"{number}.tracker.{name}": array for name, array in tracker.to_arrays().items()}
        if camera is not None:
            arrays |= {f"{number}.camera.{name}": array for name, array in camera.to_arrays().items()}
    settings = json.dumps(
        {
            "format": FORMAT,
            "config": dataclasses.asdict(bank.config),
            "max_streams": bank.max_streams,
            "streams": streams,
        }
    )
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, settings=np.array(settings), **arrays)
    part.replace(path)


def load_bank(path: Path | str, *, embed: EmbedFrames | None = None) -> TrackerBank:
    """Return the saved bank; the next update of each stream gives what the original's would have given.

    Args:
        path: a file that ``save_bank`` wrote.
        embed: as for ``TrackerBank``.

    Raises:
        InvalidInputError: the file is missing, damaged or of another format. Pickled content is never loaded.
        ConfigError: its settings are out of range.
    """
    path = Path(path)
    try:
        # Opened here: numpy leaves its own handle open when the archive is torn.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays: Arrays = {name: file[name] for name in file.files}
        settings = json.loads(str(arrays.pop("settings")))
        file_format = settings["format"]
        if file_format == FORMAT:
            return _build(settings, arrays, embed)
    except DAMAGED as exc:
        raise InvalidInputError(
            f"the state of a bank must be a file written by save_bank, failed on {path.name}: {exc}; track again",
            path=path,
        ) from exc
    raise InvalidInputError(
        f"the state of a bank must be of format {FORMAT}, got {file_format}; track again", path=path
    )


def _build(settings: dict[str, Any], arrays: Arrays, embed: EmbedFrames | None) -> TrackerBank:
    bank = TrackerBank(TrackerConfig(**settings["config"]), embed=embed, max_streams=settings["max_streams"])
    for number, stream in enumerate(settings["streams"]):
        tracker = Tracker.from_arrays(TrackerConfig(**stream["config"]), _part(arrays, f"{number}.tracker."))
        camera = None
        if stream["camera"] is not None:
            camera = CameraMotion.from_arrays(_part(arrays, f"{number}.camera."), **stream["camera"])
        bank.adopt(stream["key"], tracker, camera)
    return bank


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
