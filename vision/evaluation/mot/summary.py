"""Each object and each result track of a sequence in a row of numbers, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vision.evaluation.mot.matching import Matches, Switch
from vision.types import IntArray


@dataclass(frozen=True, slots=True)
class Span:
    """Frames ``first`` to ``last``, from 1 and both included, in which one result follows one object without a gap."""

    first: int
    last: int
    result_id: int


@dataclass(frozen=True, slots=True)
class ObjectSummary:
    """How one object was followed.

    Attributes:
        object_id: of the ground truth. first, last: frames from 1 in which it is annotated first and last.
        frames: in which it is annotated. matched: in which a result overlaps it.
        main_id: the result that follows it longest, -1 for none. main_frames: frames that it does.
        result_ids: all results that follow it, in the order of their first frame.
        switches, breaks: its part of IDSW and Frag.
        longest_gap: most frames in a row, of those where it is annotated, in which it is missed.
        mean_overlap: mean IoU of its matches, 0 without any.
        spans: its matches. present: its annotated frames as (first, last).
    """

    object_id: int
    first: int
    last: int
    frames: int
    matched: int
    main_id: int
    main_frames: int
    result_ids: tuple[int, ...]
    switches: int
    breaks: int
    longest_gap: int
    mean_overlap: float
    spans: tuple[Span, ...]
    present: tuple[tuple[int, int], ...]

    @property
    def lost(self) -> int:
        """Frames in which it is missed or followed by another result than its main one."""
        return self.frames - self.main_frames


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """How one result track did.

    Attributes:
        result_id: of the results. first, last: its frames from 1. frames: in which it is there.
        false: frames in which it is on no object.
        object_ids: the objects that it follows, the longest first.
        main_frames: frames on the first of them.
    """

    result_id: int
    first: int
    last: int
    frames: int
    false: int
    object_ids: tuple[int, ...]
    main_frames: int

    @property
    def wrong(self) -> int:
        """Frames on no object or on another than its main one."""
        return self.frames - self.main_frames


def summarise_objects(matches: Matches, switches: Sequence[Switch]) -> list[ObjectSummary]:
    """Return one row an object, those with the most lost frames first."""
    objects = matches.sequence.objects
    switched = Counter(switch.object_id for switch in switches)
    order = np.argsort(objects.id_rows, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(objects.id_rows[order])) + 1) if len(order) else []
    rows = [_summarise(matches, group, switched[int(objects.ids[group[0]])]) for group in groups]
    return sorted(rows, key=lambda row: (-row.lost, -row.switches, row.object_id))


def _summarise(matches: Matches, rows: npt.NDArray[np.intp], switches: int) -> ObjectSummary:
    objects = matches.sequence.objects
    frames, ids, matched = objects.frames[rows], matches.result_ids[rows], matches.matched[rows]
    counts = Counter(ids[matched].tolist())
    main_id, main_frames = counts.most_common(1)[0] if counts else (-1, 0)
    return ObjectSummary(
        object_id=int(objects.ids[rows[0]]),
        first=int(frames[0]),
        last=int(frames[-1]),
        frames=len(rows),
        matched=int(matched.sum()),
        main_id=main_id,
        main_frames=main_frames,
        result_ids=tuple(dict.fromkeys(ids[matched].tolist())),
        switches=switches,
        breaks=max(int(matches.resumed[rows].sum()) - 1, 0),
        longest_gap=_longest_run(~matched),
        mean_overlap=float(matches.overlap[rows][matched].mean()) if matched.any() else 0.0,
        spans=_spans(frames[matched], ids[matched]),
        present=tuple((span.first, span.last) for span in _spans(frames, np.zeros(len(frames), np.int64))),
    )


def summarise_tracks(matches: Matches) -> list[TrackSummary]:
    """Return one row a result track, those with the most wrong frames first."""
    results, objects = matches.sequence.results, matches.sequence.objects
    followed = np.full(len(results), -1, np.int64)
    followed[matches.result_rows[matches.matched]] = objects.ids[matches.matched]
    order = np.argsort(results.id_rows, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(results.id_rows[order])) + 1) if len(order) else []
    summaries = []
    for rows in groups:
        counts = Counter(followed[rows][followed[rows] >= 0].tolist())
        ranked = counts.most_common()
        summaries.append(
            TrackSummary(
                result_id=int(results.ids[rows[0]]),
                first=int(results.frames[rows[0]]),
                last=int(results.frames[rows[-1]]),
                frames=len(rows),
                false=len(rows) - counts.total(),
                object_ids=tuple(object_id for object_id, _ in ranked),
                main_frames=ranked[0][1] if ranked else 0,
            )
        )
    return sorted(summaries, key=lambda row: (-row.wrong, row.result_id))


def _spans(frames: IntArray, ids: IntArray) -> tuple[Span, ...]:
    """Return the runs of neighbouring frames with one id."""
    if not len(frames):
        return ()
    ends = np.flatnonzero((np.diff(frames) != 1) | (np.diff(ids) != 0))
    first, last = np.concatenate([[0], ends + 1]), np.concatenate([ends, [len(frames) - 1]])
    return tuple(
        Span(int(frames[start]), int(frames[end]), int(ids[start])) for start, end in zip(first, last, strict=True)
    )


def _longest_run(flags: npt.NDArray[np.bool_]) -> int:
    """Return the most True values in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0
