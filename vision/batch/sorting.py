"""Items in order: short names, sorted, and each address once."""

from __future__ import annotations

import os
from typing import Any

from vision.batch.columns import decode_address, encode_text


def shorten_names(table: Any, low: str, high: str, folder: str) -> tuple[Any, str]:
    """Return a table of whole addresses with names from a common folder, and that folder.

    Args:
        table: items named by their addresses.
        low, high: the first and the last address in plain order.
        folder: to start from if all lie below it; else it is the deepest one that they share.
    """
    import pyarrow.compute as pc

    # What the first and the last in order share, all between them share.
    shared = os.path.commonprefix([low, high])  # noqa: RUF071 - cut at a slash below; URLs are no paths
    base = folder if shared.startswith(folder) else shared[: shared.rfind("/") + 1]
    if encode_text(base) != base:
        return table, ""
    names = pc.utf8_slice_codeunits(table.column("name"), start=len(base))
    return table.set_column(0, table.schema.field("name"), names), base


def sort_items(table: Any, base: str) -> tuple[Any, int]:
    """Return the items in order of name, each address once, and how many were left out.

    Different files of one name get told apart: a member of a tar by its place, others by their whole address.
    """
    table = _sorted(table)
    same_name = _as_before(table, ("name",))
    if not same_name.any():
        return table, 0
    repeated = _as_before(table, ("name", "offset", "length", "address"))
    if repeated.any():
        import pyarrow as pa

        table = table.filter(pa.array(~repeated))
    duplicates = int(repeated.sum())
    same_name = _as_before(table, ("name",))
    return (_tell_apart(table, same_name, base) if same_name.any() else table), duplicates


def _sorted(table: Any) -> Any:
    import pyarrow.compute as pc

    keys = [(name, "ascending") for name in ("name", "offset", "address")]
    return table.take(pc.sort_indices(table, sort_keys=keys)).combine_chunks()


def _as_before(table: Any, columns: tuple[str, ...]) -> Any:
    """Return for each row whether it is as the row before it in some columns."""
    import numpy as np
    import pyarrow.compute as pc

    same = np.ones(table.num_rows, np.bool_)
    same[0] = False
    for name in columns:
        column = table.column(name)
        if name == "address":
            column = pc.fill_null(column, "")
        same[1:] &= pc.equal(column.slice(1), column.slice(0, len(column) - 1)).to_numpy()
    return same


def _tell_apart(table: Any, same_name: Any, base: str) -> Any:
    """Return the table, sorted again, with new names for rows whose name others have too."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    shared = same_name.copy()
    shared[:-1] |= same_name[1:]
    names, addresses = [], []
    for row in table.select(["name", "address", "offset", "length"]).take(np.flatnonzero(shared)).to_pylist():
        address = encode_text(decode_address(row["address"], row["name"], base))
        names.append(address if row["length"] < 0 else f"{row['name']}@{row['offset']}")
        addresses.append(address)
    mask = pa.array(shared)
    for place, (column, values) in enumerate((("name", names), ("address", addresses))):
        field = table.schema.field(column)
        old = table.column(column).combine_chunks()
        table = table.set_column(place, field, pc.replace_with_mask(old, mask, pa.array(values, field.type)))
    return _sorted(table)
