"""The table of settings in docs/service.md, made from the settings themselves.

    python -m service.settings_table [docs/service.md]

prints it, or puts it into the page in place of the one there; a test compares both.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from service.settings import PREFIX, Settings

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def settings_table() -> str:
    """Return one row a setting: variable, default, meaning."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {default_text(name, field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


def default_text(name: str, field: FieldInfo) -> str:
    """Return the default for people; what is made at the start depends on the machine and is named in words."""
    if field.default_factory is not None:
        return "the user's data folder"
    value: Any = field.default
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and name.endswith("_bytes"):
        size, unit = next((each for each in _UNITS if value % each[0] == 0), (1, "bytes"))
        return f"`{value}` ({value // size} {unit})"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def write_table(page: Path) -> None:
    """Replace the table in the page; raises ValueError where there is none."""
    text, count = re.subn(
        r"^\| variable \| default \| meaning \|\n(\|.*\n)+",
        lambda _: settings_table(),
        page.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    if count != 1:
        raise ValueError(f"{page} must hold one table of settings, found {count}; add its first two lines")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_table(Path(sys.argv[1]))
    else:
        sys.stdout.write(settings_table())
