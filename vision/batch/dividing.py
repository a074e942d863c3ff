"""Items of which each local video that can be divided is several: one for each part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vision.batch.columns import FRAME_COLUMNS, decode_address
from vision.batch.dividers import Dividers, Division
from vision.batch.filesystems import is_url
from vision.batch.video_parts import least_length
from vision.io.frame_range import FrameRange


def divide_videos(table: Any, base: str, chunk: int, *, note: Callable[[str], None]) -> Any:
    """Return the items with several rows for each local video that can be divided, in order.

    Args:
        table: items (vision/batch/columns.py). base: before their names. chunk: frames of a part.
        note: gets a line for each video that killed or hung what read it.
    """
    import pyarrow.compute as pc

    videos = np.flatnonzero(pc.equal(table.column("kind"), "video").to_numpy())
    rows = table.select(["name", "address", "size"]).take(videos).to_pylist()
    paths = {}
    for place, row in zip(videos.tolist(), rows, strict=True):
        path = decode_address(row["address"], row["name"], base)
        # A frame takes a byte at least; what is too small for several parts need not be opened.
        if not is_url(path) and row["size"] >= least_length(chunk):
            paths[place] = path
    divisions = _divide(list(paths.values()), chunk)
    parts = {}
    for place, division in zip(paths, divisions, strict=True):
        if division.harm:
            name = rows[int(np.searchsorted(videos, place))]["name"]
            note(f"{name} is not divided: {division.harm}; look at it with another program")
        elif division.parts is not None:
            parts[place] = division.parts
    return _with_parts(table, parts)


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
