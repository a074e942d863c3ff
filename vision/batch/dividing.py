"""Items of which each local video that can be divided is several: one for each part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vision.batch.columns import FRAME_COLUMNS, decode_address
from vision.batch.dividers import Dividers, Division
from vision.batch.filesystems import is_url
from vision.batch.video_parts import least_length
from vision.errors import InvalidInputError
from vision.io.frame_range import FrameRange

if TYPE_CHECKING:
    from vision.batch.manifest import Manifest

# With its name: what tells whether a file has changed.
_IDENTITY = ("size", "stamp")


def divide_videos(
    table: Any, base: str, chunk: int, *, note: Callable[[str], None], known: Manifest | None = None
) -> Any:
    """Return the items with several rows for each local video that can be divided, in order.

    Args:
        table: items (vision/batch/columns.py). base: before their names. chunk: frames of a part.
        note: gets a line for each video that killed or hung what read it.
        known: of a run with the same ``chunk``: what it says of videos that have not changed is taken.
    """
    import pyarrow.compute as pc

    videos = np.flatnonzero(pc.equal(table.column("kind"), "video").to_numpy())
    rows = table.select(["name", "address", *_IDENTITY]).take(videos).to_pylist()
    divided = _known_parts(known) if known is not None and rows else {}
    parts: dict[int, list[FrameRange]] = {}
    unknown: dict[int, tuple[str, str]] = {}
    for place, row in zip(videos.tolist(), rows, strict=True):
        path = decode_address(row["address"], row["name"], base)
        # A frame takes a byte at least; what is too small for several parts need not be opened.
        if is_url(path) or row["size"] < least_length(chunk):
            continue
        earlier = divided.get((row["name"], row["size"], row["stamp"]))
        if earlier is None:
            unknown[place] = path, row["name"]
        elif earlier:
            parts[place] = earlier
    divisions = _divide([path for path, _ in unknown.values()], chunk)
    for (place, (_, name)), division in zip(unknown.items(), divisions, strict=True):
        if division.harm:
            note(f"{name} is not divided: {division.harm}; look at it with another program")
        elif division.parts is not None:
            parts[place] = division.parts
    return _with_parts(table, dict(sorted(parts.items())))


def _known_parts(manifest: Manifest) -> dict[tuple[str, int, str], list[FrameRange]]:
    """Return the parts of each video by what identifies it, none for those that are whole."""
    import pyarrow.compute as pc

    found: dict[tuple[str, int, str], list[FrameRange]] = {}
    try:
        for block in manifest.blocks():
            videos = block.filter(pc.equal(block.column("kind"), "video")).select(["name", *_IDENTITY, *FRAME_COLUMNS])
            for row in videos.to_pylist():
                parts = found.setdefault((row["name"], row["size"], row["stamp"]), [])
                if row["frame_start"] is not None:
                    parts.append(FrameRange(*(row[name] for name in FRAME_COLUMNS)))
    except InvalidInputError:
        # A damaged list costs the time to read the videos again, no more.
        return {}
    return found


def _divide(paths: list[str], chunk: int) -> list[Division]:
    if not paths:
        return []
    with Dividers(len(paths), chunk) as dividers:
        return dividers.divide(paths)


def _with_parts(table: Any, parts: dict[int, list[FrameRange]]) -> Any:
    """Return a table with a row for each part in place of some rows; ``parts`` has their numbers, ascending."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not parts:
        return table
    counts = np.ones(table.num_rows, np.int64)
    counts[list(parts)] = [len(each) for each in parts.values()]
    found = [part for each in parts.values() for part in each]
    is_part = np.zeros(table.num_rows, np.bool_)
    is_part[list(parts)] = True
    mask = pa.array(np.repeat(is_part, counts))
    table = table.take(np.repeat(np.arange(table.num_rows), counts)).combine_chunks()
    for name, attribute in zip(FRAME_COLUMNS, FrameRange.__dataclass_fields__, strict=True):
        values = pa.array([getattr(part, attribute) for part in found], pa.int64())
        place = table.schema.get_field_index(name)
        nulls = pa.nulls(table.num_rows, pa.int64())
        table = table.set_column(place, table.schema.field(name), pc.replace_with_mask(nulls, mask, values))
    return table
