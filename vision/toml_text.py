"""Plain data -> TOML text, the inverse of ``tomllib``; the configuration and the model cards are written with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vision.errors import ConfigError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_LINE = 100


def format_toml(table: Mapping[str, object]) -> str:
    """Return ``table`` as TOML; ``tomllib.loads`` gives it back, tuples as lists and paths as strings.

    TOML has no null: a key whose value is None is left out.

    >>> print(format_toml({"name": "lite", "model": {"strides": [8, 16]}}), end="")
    name = "lite"
    <BLANKLINE>
    [model]
    strides = [8, 16]
    """
    return "\n".join(_table_lines(table, ())).lstrip("\n") + "\n"


def _table_lines(table: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    """Return the lines of a table: its own values first, since TOML gives all that follows a header to that header."""
    lines: list[str] = []
    later: list[str] = []
    for key, value in table.items():
        here = (*path, _format_key(key))
        if isinstance(value, Mapping):
            later += ["", f"[{'.'.join(here)}]", *_table_lines(value, here)]
        elif _is_table_list(value):
            for item in value:  # type: ignore[attr-defined]  # _is_table_list has seen a sequence
                later += ["", f"[[{'.'.join(here)}]]", *_table_lines(item, here)]
        elif value is not None:
            lines.append(f"{_format_key(key)} = {_format_value(value)}")
    return lines + later


def _is_table_list(value: object) -> bool:
    """Return whether ``value`` is a non-empty list of mappings, written as an array of tables."""
    return isinstance(value, Sequence) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _format_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _format_string(key)


def _format_string(text: str) -> str:
    # A JSON string is a TOML basic string, except that TOML wants DEL escaped as well.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str | Path):
        return _format_string(str(value))
    if isinstance(value, Mapping):
        pairs = ", ".join(
            f"{_format_key(key)} = {_format_value(item)}" for key, item in value.items() if item is not None
        )
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, Sequence):
        return _format_list([_format_value(item) for item in value])
    raise ConfigError(
        f"TOML holds booleans, numbers, strings, lists and tables, got {type(value).__name__}; convert the value first",
        actual=type(value).__name__,
    )


def _format_list(items: list[str]) -> str:
    """Return a list on one line, or one item a line when that would be too long to read (80 class names)."""
    line = f"[{', '.join(items)}]"
    if len(line) <= _LONGEST_LINE:
        return line
    return "[\n" + "".join(f"  {item},\n" for item in items) + "]"
