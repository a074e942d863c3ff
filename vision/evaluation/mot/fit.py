"""Whether results belong to a ground truth: faults that give poor scores without any error are told here.

Corners in place of sizes, another size of the picture, another video: read with such a fault, hardly a box overlaps.
So the boxes are compared once as they are and once as the fault would explain them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.evaluation.mot.files import Rows
from vision.geometry.boxes import xywh_to_xyxy
from vision.geometry.iou import pairwise_iou

# Frames compared, evenly over the sequence: enough to tell a fault, and quick on a video of hours.
MOST_FRAMES = 120
IOU = 0.5
# Boxes that must overlap under another reading before a fault is named; a handful may do so by chance.
FEWEST_HITS = 3
FEWEST_BOXES = 10
# Results a frame early or late fit still, only worse: so much better must the neighbouring frame fit.
LAG_GAIN = 1.015
FEWEST_LAG_PAIRS = 50
SCALES = (0.25, 1 / 3, 0.4, 0.5, 0.6, 2 / 3, 0.75, 0.8, 1.25, 4 / 3, 1.5, 5 / 3, 2, 2.5, 3, 4)
_RELATIVE_LIMIT = 2.0

Boxes = npt.NDArray[np.float64]
Change = Callable[[Rows], Rows]


def check_fit(
    sequence: str, truth: Rows, tracked: Rows, path: Path, size_wh: tuple[int, int] | None = None
) -> list[str]:
    """Return what is doubtful about the results of a sequence, each a sentence; nothing when all is well.

    Args:
        sequence: its name.
        truth: float64 [R, >= 6]: frame, id, x, y, w, h of all annotated objects, ignored ones as well.
        tracked: float64 [Q, >= 6]: the same of the results.
        path: the result file, for messages.
        size_wh: of a frame in pixels, or None when unknown.

    Raises:
        InvalidInputError: the numbers are corners, shares of the picture or of another size of it, or no result touches
            any object.
    """
    if not len(tracked):
        return [f"{sequence}: nothing was tracked, {path.name} is empty"]
    _refuse_shares(tracked, truth, path)
    hits = _hits(truth, tracked)
    _refuse_corners(truth, tracked, hits, path)
    _refuse_other_size(truth, tracked, hits, path)
    notes = _lag(sequence, truth, tracked)
    if not hits and not notes:
        _refuse_strangers(truth, tracked, path)
        notes.append(
            f"{sequence}: no result overlaps an object by half, so every score is 0 or near it; are these the results "
            "of this video?"
        )
    return [*notes, *_outside(sequence, truth, tracked, size_wh)]


def _refuse_shares(tracked: Rows, truth: Rows, path: Path) -> None:
    if tracked[:, 2:6].max() <= _RELATIVE_LIMIT < truth[:, 2:6].max():
        raise InvalidInputError(
            f"boxes must be in pixels, but no number in {path.name} is above {tracked[:, 2:6].max():.3g}: these are "
            "shares of the picture; multiply x and w by its width, y and h by its height",
            path=path,
        )


def _refuse_corners(truth: Rows, tracked: Rows, hits: int, path: Path) -> None:
    results_as_corners = _hits(truth, tracked, _from_corners)
    if results_as_corners >= FEWEST_HITS and results_as_corners > 10 * hits:
        raise InvalidInputError(
            f"columns 3 to 6 must be x, y, width, height; read so, {hits} boxes of {path.name} meet an object, read as "
            f"two corners {results_as_corners} do; write width and height in place of the second corner",
            path=path,
        )
    truth_as_corners = _hits(_from_corners(truth), tracked)
    if truth_as_corners >= FEWEST_HITS and truth_as_corners > 10 * hits:
        raise InvalidInputError(
            f"the ground truth must have x, y, width, height in columns 3 to 6; read so, {hits} boxes of {path.name} "
            f"meet an object, with the ground truth read as two corners {truth_as_corners} do; write width and height "
            "there",
            path=path,
        )


def _refuse_other_size(truth: Rows, tracked: Rows, hits: int, path: Path) -> None:
    """Refuse results whose boxes fit once they are scaled: made on a smaller or larger copy of the video."""
    if hits > 0.05 * len(tracked):
        return
    found = {scale: _hits(truth, tracked, _scaled(scale)) for scale in SCALES}
    scale = max(found, key=lambda key: found[key])
    if found[scale] >= max(FEWEST_HITS, 0.2 * len(tracked) * _share_compared(truth, tracked)) > hits:
        raise InvalidInputError(
            f"results must be in pixels of the annotated video; as they are, {hits} boxes of {path.name} meet an "
            f"object, multiplied by {scale:.3g} {found[scale]} do: they were made on another size of the video; scale "
            "x, y, w and h",
            path=path,
        )


def _refuse_strangers(truth: Rows, tracked: Rows, path: Path) -> None:
    if len(tracked) < FEWEST_BOXES or _hits(truth, tracked, iou=1e-9):
        return
    raise InvalidInputError(
        f"results must lie on the annotated objects, but no box of {path.name} touches one in its frame: results "
        f"{_extent(tracked)}, ground truth {_extent(truth)}; check that both are of the same video and in its pixels",
        path=path,
    )


def _lag(sequence: str, truth: Rows, tracked: Rows) -> list[str]:
    """Return a note when the results fit the frame before or after better: counted from 0, or cut differently."""
    now, pairs = _mean_overlap(truth, tracked, 0)
    if pairs < FEWEST_LAG_PAIRS:
        return []
    moved, shift = max((_mean_overlap(truth, tracked, shift)[0], shift) for shift in (-1, 1))
    if moved <= LAG_GAIN * now:
        return []
    return [
        f"{sequence}: the results look one frame {'early' if shift == 1 else 'late'} (mean overlap {now:.3f}, moved by "
        f"one frame {moved:.3f}); MOTChallenge counts frames from 1"
    ]


def _outside(sequence: str, truth: Rows, tracked: Rows, size_wh: tuple[int, int] | None) -> list[str]:
    notes = []
    for name, rows in (("results", tracked), ("ground truth boxes", truth)):
        if size_wh is not None:
            x, y, w, h = rows[:, 2:6].T
            share = float(np.mean((x > size_wh[0]) | (y > size_wh[1]) | (x + w < 0) | (y + h < 0)))
            beyond = float(np.mean((x + w > 1.2 * size_wh[0]) | (y + h > 1.2 * size_wh[1])))
            if max(share, beyond) > 0.1:
                notes.append(
                    f"{sequence}: {max(share, beyond):.0%} of the {name} reach far out of the picture "
                    f"({size_wh[0]} x {size_wh[1]}); are they of another size, or corners in place of width and height?"
                )
        elif len(rows) >= FEWEST_LAG_PAIRS and (rows[:, 4:6] > rows[:, 2:4]).all():
            notes.append(
                f"{sequence}: in all {name}, columns 5 and 6 are above 3 and 4; are they corners in place of width "
                "and height?"
            )
    return notes


def _hits(truth: Rows, tracked: Rows, change: Change | None = None, iou: float = IOU) -> int:
    """Return how many results of the compared frames overlap an object, after ``change`` was done to them."""
    tracked = tracked if change is None else change(tracked)
    pairs = _frames(truth, tracked)
    return sum(int((pairwise_iou(found, objects).max(axis=1) >= iou).sum()) for objects, found in pairs)


def _mean_overlap(truth: Rows, tracked: Rows, shift: int) -> tuple[float, int]:
    """Return the mean best overlap of the objects that a result touches ``shift`` frames earlier, and their number."""
    moved = tracked.copy()
    moved[:, 0] += shift
    best = [pairwise_iou(objects, found).max(axis=1) for objects, found in _frames(truth, moved)]
    values = np.concatenate([*best, np.zeros(0)])
    values = values[values > 0]
    return (float(values.mean()), len(values)) if len(values) else (0.0, 0)


def _frames(truth: Rows, tracked: Rows) -> Iterator[tuple[Boxes, Boxes]]:
    """Yield the xyxy boxes of objects and results of frames that have both, evenly over the sequence."""
    common = np.intersect1d(truth[:, 0], tracked[:, 0])
    if len(common) > MOST_FRAMES:
        common = common[np.linspace(0, len(common) - 1, MOST_FRAMES).astype(int)]
    yield from zip(_boxes_of(truth, common), _boxes_of(tracked, common), strict=True)


def _boxes_of(rows: Rows, frames: Boxes) -> Iterator[Boxes]:
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    first, last = np.searchsorted(rows[:, 0], frames, "left"), np.searchsorted(rows[:, 0], frames, "right")
    for start, end in zip(first, last, strict=True):
        yield np.asarray(xywh_to_xyxy(rows[start:end, 2:6]))


def _share_compared(truth: Rows, tracked: Rows) -> float:
    common = np.intersect1d(truth[:, 0], tracked[:, 0])
    return min(1.0, MOST_FRAMES / max(len(common), 1))


def _from_corners(rows: Rows) -> Rows:
    """Return the rows with columns 5 and 6 read as a corner; those where it is none are left out."""
    changed = rows.copy()
    changed[:, 4:6] -= changed[:, 2:4]
    return changed[(changed[:, 4:6] > 0).all(axis=1)]


def _scaled(scale: float) -> Change:
    def change(rows: Rows) -> Rows:
        changed = rows.copy()
        changed[:, 2:6] *= scale
        return changed

    return change


def _extent(rows: Rows) -> str:
    boxes = xywh_to_xyxy(rows[:, 2:6])
    left, top = boxes[:, :2].min(axis=0)
    right, bottom = boxes[:, 2:].max(axis=0)
    return (
        f"span x {left:.0f}..{right:.0f}, y {top:.0f}..{bottom:.0f}, frames {rows[:, 0].min():.0f}.."
        f"{rows[:, 0].max():.0f}"
    )
