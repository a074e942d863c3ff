"""What a client is told of a frame: a FrameResult as JSON, kept for as long as it is a session's last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from service.convert import detections_json, image_size, tracks_json
from vision.types import Detections, FrameResult, Tracks


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one frame.

    Attributes:
        sequence: the frame's number.
        body: JSON; the same bytes whenever the frame is sent again.
        replayed: whether the frame was answered before.
    """

    sequence: int
    body: bytes
    replayed: bool = False


def encode_answer(session_id: str, result: FrameResult, class_names: tuple[str, ...], *, decode_ms: float) -> bytes:
    """Return the answer's JSON; numbers are the result's own, to the last digit.

    Args:
        session_id: the session that the frame belongs to.
        result: of a pipeline with a tracker; its frame_index is the sequence number.
        class_names: the detector's name of each label.
        decode_ms: milliseconds that decoding the picture took.
    """
    timings = {"decode": round(decode_ms, 3), **{name: round(ms, 3) for name, ms in result.timings_ms.items()}}
    row = {
        "session": session_id,
        "sequence": result.frame_index,
        "timestamp_s": result.timestamp_s,
        "image": image_size(result.size_hw or (0, 0)),
        "tracks": track_rows(result, class_names),
        "detections": detections_json(result.detections or Detections.empty(), class_names),
        "timings_ms": timings,
    }
    return orjson.dumps(row)


def track_rows(result: FrameResult, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return each track as an object; ``surface`` is there where the frame was segmented."""
    rows = tracks_json(result.tracks or Tracks.empty(), class_names)
    if result.regions is not None:
        for row, surface in zip(rows, result.regions.surfaces, strict=True):
            row["surface"] = surface
    return rows
