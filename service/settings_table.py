"""The table of settings in docs/service.md, made from the settings themselves.

    python -m service.settings_table

prints it; a test compares it with the page.
"""

from __future__ import annotations

import sys
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


if __name__ == "__main__":
    sys.stdout.write(settings_table())
