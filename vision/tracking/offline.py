"""Offline quality: the tracks of a whole sequence, made better with what only its end can know.

After the last frame: remove short and unsure tracks, link those of one object, smooth the boxes, fill the gaps. Nothing
here remembers anything; equal input gives equal output.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vision.geometry.boxes import cxcyah_to_xyxy, cxcywh_to_xyxy, xyxy_to_cxcyah, xyxy_to_cxcywh
from vision.tracking import kalman
from vision.tracking.gaussian import smooth_gaussian
from vision.tracking.interpolation import FrameRuns, find_runs, interpolate
from vision.tracking.linking import Appearance, link_ids
from vision.tracking.offline_config import OfflineConfig
from vision.tracking.rts import smooth_rts
from vision.tracking.trajectories import Trajectories
from vision.types import IntArray

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MIN_SIZE = 1e-3
"""Smallest width and height in pixels of a box that counts as seen, and of one that was computed."""


def refine(
    trajectories: Trajectories, config: OfflineConfig | None = None, appearance: Appearance | None = None
) -> Trajectories:
    """Return the tracks after removal, linking, smoothing and filling, as ``config`` says.

    Only seen boxes count as measurements: rows that are not ``filled`` and measure 1e-3 pixels a side at least. Other
    rows are kept as they are unless their frame is filled anew. Ids are among those given, no track reaches beyond the
    frames in which it or one that it was joined with was seen, and new rows are marked ``filled``; their scores are
    interpolated.

    Args:
        trajectories: tracks of one sequence, frame indices in even steps of time.
        config: settings; the defaults remove tracks of fewer than 5 frames, smooth and fill, and do not link.
        appearance: mean unit embedding [D] of tracks by id, used for linking; without it motion decides alone.

    Raises:
        InvalidInputError: embeddings of different widths.
    """
    return refine_rows(trajectories, config, appearance)[0]


def refine_rows(
    trajectories: Trajectories, config: OfflineConfig | None = None, appearance: Appearance | None = None
) -> tuple[Trajectories, IntArray]:
    """Return what ``refine`` does, and for each of its rows the row of ``trajectories`` behind it, -1 where filled."""
    config = config or OfflineConfig()
    kept = _long_and_sure(trajectories, config)
    ids = _linked(trajectories, kept, config, appearance) if config.link else trajectories.ids
    seen = np.flatnonzero(kept & seen_rows(trajectories))
    seen = seen[np.lexsort((trajectories.frames[seen], ids[seen]))]
    runs = find_runs(ids[seen], trajectories.frames[seen], config.max_gap)
    shown = runs.seen if config.gaps == "none" else np.ones(len(runs.frames), bool)
    before, source = seen[runs.before], np.where(runs.seen, seen[runs.before], -1)
    boxes = _smoothed(runs, trajectories.boxes[seen].astype(np.float64), config)
    scores = interpolate(runs, trajectories.scores[seen])
    frames, track_ids = runs.frames[shown], ids[before][shown]
    rest = _left_over(trajectories, ids, kept, frames, track_ids)
    columns = (
        np.concatenate([frames, trajectories.frames[rest]]),
        np.concatenate([track_ids, ids[rest]]),
        np.concatenate([boxes[shown], trajectories.boxes[rest]]),
        np.concatenate([scores[shown], trajectories.scores[rest]]),
        np.concatenate([trajectories.labels[before][shown], trajectories.labels[rest]]),
        np.concatenate([~runs.seen[shown], trajectories.filled[rest]]),
    )
    order = np.lexsort((columns[1], columns[0]))
    refined = Trajectories(*(column[order] for column in columns))
    return refined, np.concatenate([source[shown], rest])[order]


def seen_rows(trajectories: Trajectories) -> BoolArray:
    """Return which rows [R] are measurements: not filled, and of a width and height to speak of."""
    size = trajectories.boxes[:, 2:] - trajectories.boxes[:, :2]
    return ~trajectories.filled & (size >= MIN_SIZE).all(axis=1)


def _long_and_sure(trajectories: Trajectories, config: OfflineConfig) -> BoolArray:
    """Return which rows [R] belong to tracks seen long enough and with a sufficient mean score."""
    _, track = np.unique(trajectories.ids, return_inverse=True)
    seen = seen_rows(trajectories).astype(np.float64)
    lengths = np.bincount(track, seen)
    kept = lengths >= config.min_length
    if config.min_score is not None:
        kept &= np.bincount(track, seen * trajectories.scores) / np.maximum(lengths, 1) >= config.min_score
    return np.asarray(kept[track])


def _linked(
    trajectories: Trajectories, kept: BoolArray, config: OfflineConfig, appearance: Appearance | None
) -> IntArray:
    """Return the id [R] of each row after linking the ``kept`` tracks; rows without a measurement follow theirs."""
    ids = trajectories.ids
    # Whole tracks are linked, so that a filled row at an end can never meet a box of the track it is joined with.
    rows = np.flatnonzero(kept & np.isin(ids, ids[seen_rows(trajectories)]))
    rows = rows[np.lexsort((trajectories.frames[rows], ids[rows]))]
    boxes = trajectories.boxes[rows].astype(np.float64)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + MIN_SIZE)
    cxcyah = np.asarray(xyxy_to_cxcyah(boxes), np.float64)
    linked = ids.copy()
    linked[rows] = link_ids(ids[rows], trajectories.frames[rows], cxcyah, trajectories.labels[rows], config, appearance)
    return linked


def _smoothed(runs: FrameRuns, boxes: Array, config: OfflineConfig) -> Array:
    """Return the xyxy box [S, 4] of every frame of the runs from seen boxes [R, 4]."""
    if config.rts or config.gaps == "rts":
        noise = kalman.Noise(config.std_weight_position, config.std_weight_velocity)
        states = smooth_rts(runs, np.asarray(xyxy_to_cxcyah(boxes), np.float64), noise).mean[:, :4]
        states[:, 2:] = np.maximum(states[:, 2:], (kalman.MIN_ASPECT, kalman.MIN_HEIGHT))
        between = np.asarray(cxcyah_to_xyxy(states), np.float64)
        boxes = between[runs.seen] if config.rts else boxes
    if config.gaps == "gaussian":
        cxcywh = np.asarray(xyxy_to_cxcywh(boxes), np.float64)
        made = smooth_gaussian(runs, cxcywh, config.gaussian_tau)
        made[:, 2:] = np.maximum(made[:, 2:], MIN_SIZE)
        return np.asarray(cxcywh_to_xyxy(made), np.float64)
    if config.gaps == "rts":
        return np.where(runs.seen[:, None], boxes[runs.before], between)
    return np.asarray(interpolate(runs, boxes))


def _left_over(
    trajectories: Trajectories, ids: IntArray, kept: BoolArray, frames: IntArray, track_ids: IntArray
) -> IntArray:
    """Return the kept rows without a measurement whose frame was not filled anew."""
    rest = np.flatnonzero(kept & ~seen_rows(trajectories))
    if not len(rest):
        return rest
    # One number for each pair of track and frame.
    names, row_track = np.unique(np.concatenate([ids[rest], track_ids]), return_inverse=True)
    row_frame = np.concatenate([trajectories.frames[rest], frames])
    keys = row_track + row_frame * len(names)
    return rest[~np.isin(keys[: len(rest)], keys[len(rest) :])]
