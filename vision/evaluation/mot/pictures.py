"""Pictures of identity switches: the object in the last frame of its old id beside the first of its new one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from vision.errors import InvalidInputError
from vision.evaluation.mot.layout import sequence_folder
from vision.evaluation.mot.matching import Matches, Switch
from vision.evaluation.mot.plots import lane_colours
from vision.evaluation.mot.summary import ObjectSummary
from vision.evaluation.pictures import ERROR_TILE, crop_around
from vision.figures import DARK
from vision.io.images import read_image
from vision.io.listing import list_directory
from vision.io.sources import open_source
from vision.render import contact_sheet
from vision.types import FloatArray, ImageArray

log = logging.getLogger(__name__)

MOST_SWITCHES = 12
_OBJECT_RGB = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def find_frames(sequence: str, truth_path: Path, frames: Path | None, *, only: bool) -> Path | None:
    """Return where the pictures of a sequence are: a folder or a video, or None when they are not at hand.

    Args:
        sequence: its name.
        truth_path: its ground truth file; img1 beside it is taken when ``frames`` is None.
        frames: what the user gave: the pictures themselves when there is one sequence only, else a folder of SEQ/ or
            of SEQ.mp4 (or another ending).
        only: whether this is the only sequence.

    Raises:
        InvalidInputError: ``frames`` does not exist, or holds nothing for the sequence.
    """
    if frames is None:
        folder = sequence_folder(truth_path) / "img1"
        return folder if folder.is_dir() else None
    if not frames.exists():
        raise InvalidInputError(f"frames must be a folder or a video, found nothing at {frames}; check the path")
    if frames.is_file() and only:
        return frames
    if frames.is_dir():
        inside = [path for path in (frames / sequence, *sorted(frames.glob(f"{sequence}.*"))) if path.exists()]
        if inside or only:
            return inside[0] if inside else frames
    raise InvalidInputError(
        f"frames must hold a folder or a video named {sequence}, got none in {frames}; name them as the sequences, or "
        "evaluate one sequence at a time"
    )


def switch_pictures(
    matches: Matches, objects: Sequence[ObjectSummary], switches: Sequence[Switch], frames: Path
) -> list[tuple[Switch, ImageArray]]:
    """Return switches with two crops side by side, before and after; those whose pictures cannot be read are left out.

    The object is drawn in white, the results around it in the colours of their lanes. Switches of the worst objects
    come first, at most two of each as long as there are others.

    Args:
        matches: of the sequence. objects: the worst first. switches: in the order of frames.
        frames: folder of pictures, in the order of frames, or a video.
    """
    chosen = _choose(objects, switches)
    wanted: dict[int, list[tuple[int, int]]] = {}
    for place, switch in enumerate(chosen):
        wanted.setdefault(switch.before_frame, []).append((2 * place, switch.before_row))
        wanted.setdefault(switch.frame, []).append((2 * place + 1, switch.after_row))
    colours = lane_colours(objects, len(DARK.colours))
    tiles: dict[int, ImageArray] = {}
    for frame, picture in _read_frames(frames, wanted):
        for place, row in wanted[frame]:
            tiles[place] = _draw(matches, picture, row, colours)
    shown = [place for place in range(len(chosen)) if {2 * place, 2 * place + 1} <= tiles.keys()]
    if len(shown) < len(chosen):
        log.warning("%d of %d switches have no pictures in %s", len(chosen) - len(shown), len(chosen), frames)
    return [(chosen[place], _pair(chosen[place], tiles[2 * place], tiles[2 * place + 1])) for place in shown]


def _pair(switch: Switch, before: ImageArray, after: ImageArray) -> ImageArray:
    captions = [f"frame {switch.before_frame}: id {switch.before_id}", f"frame {switch.frame}: id {switch.after_id}"]
    return contact_sheet([before, after], columns=2, tile_width=ERROR_TILE, captions=captions)


def _choose(objects: Sequence[ObjectSummary], switches: Sequence[Switch]) -> list[Switch]:
    ranks = {row.object_id: rank for rank, row in enumerate(objects)}
    by_rank = sorted(switches, key=lambda switch: (ranks[switch.object_id], switch.frame))
    seen: dict[int, int] = {}
    first: list[Switch] = []
    rest: list[Switch] = []
    for switch in by_rank:
        seen[switch.object_id] = seen.get(switch.object_id, 0) + 1
        (first if seen[switch.object_id] <= 2 else rest).append(switch)
    kept = [*first, *rest][:MOST_SWITCHES]
    return sorted(kept, key=lambda switch: (ranks[switch.object_id], switch.frame))


def _read_frames(source: Path, wanted: Collection[int]) -> Iterator[tuple[int, ImageArray]]:
    """Yield (frame from 1, RGB picture) of the wanted frames that can be read; of a folder no others are decoded."""
    if not wanted:
        return
    try:
        if source.is_dir():
            paths = list_directory(source).paths
            for frame in sorted(wanted):
                if frame <= len(paths):
                    yield frame, read_image(paths[frame - 1]).image
            return
        with open_source(source) as opened:
            for picture in opened:
                if picture.index + 1 in wanted:
                    yield picture.index + 1, picture.image
                if picture.index + 1 >= max(wanted):
                    return
    except InvalidInputError as exc:
        log.warning("the report lacks pictures of switches: %s", exc)


def _draw(matches: Matches, picture: ImageArray, row: int, colours: Mapping[int, int]) -> ImageArray:
    """Return a tile around an object row: results around it, the object above them, the id of its own result."""
    sequence = matches.sequence
    results = sequence.results.of_frame(int(sequence.objects.frames[row]) - 1)
    box = sequence.objects.boxes[row].astype(np.float32)
    boxes = np.concatenate([box[None], sequence.results.boxes[results].astype(np.float32)])
    tile, moved = crop_around(picture, box, boxes)
    tile = tile.copy()
    own = int(matches.result_rows[row]) - results.start
    ids = sequence.results.ids[results].tolist()
    for place, (result_id, result_box) in enumerate(zip(ids, moved[1:], strict=True)):
        if (result_box[2:] - result_box[:2]).min() < 2:
            continue
        rgb = _rgb(colours.get(result_id))
        _outline(tile, result_box, rgb, 3 if place == own else 1)
        if place == own or (result_box[2:] - result_box[:2]).min() > ERROR_TILE / 8:
            _label(tile, result_box, str(result_id), rgb)
    _outline(tile, moved[0], _OBJECT_RGB, 1)
    return tile


def _outline(tile: ImageArray, box: FloatArray, rgb: tuple[int, int, int], thickness: int) -> None:
    x1, y1, x2, y2 = (round(value) for value in box.tolist())
    cv2.rectangle(tile, (x1, y1), (x2, y2), rgb, thickness, cv2.LINE_AA)


def _label(tile: ImageArray, box: FloatArray, text: str, rgb: tuple[int, int, int]) -> None:
    (width, height), _ = cv2.getTextSize(text, _FONT, 0.45, 1)
    x, y = round(float(box[0])), round(float(box[1]))
    x, y = min(x, ERROR_TILE - width - 4), min(y, ERROR_TILE - height - 6)
    cv2.rectangle(tile, (x, y), (x + width + 4, y + height + 6), rgb, cv2.FILLED)
    cv2.putText(tile, text, (x + 2, y + height + 3), _FONT, 0.45, (16, 19, 23), 1, cv2.LINE_AA)


def _rgb(colour: int | None) -> tuple[int, int, int]:
    text = DARK.muted if colour is None else DARK.colours[colour]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
