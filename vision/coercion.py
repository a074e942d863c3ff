"""One plain TOML or JSON value -> the type that a configuration field declares, or an error that says what is wrong."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from vision.errors import ConfigError, closest_hint


def coerce_value(value: Any, hint: Any, key: str) -> Any:
    """Return ``value`` as the type ``hint``; ``key`` names the field in errors.

    Only what loses nothing is converted: int to float, a whole float to int, list to tuple, one item or a
    comma-separated string to a list, string to Path, "none" to None where None is allowed; else raises ConfigError.

    >>> coerce_value(3, float, "detection.iou"), coerce_value("person,car", tuple[str, ...], "detection.classes")
    (3.0, ('person', 'car'))
    """
    if hint is Any or hint is object:
        return value
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _coerce_union(value, get_args(hint), key)
    if origin is Literal:
        return _coerce_choice(value, get_args(hint), key)
    if origin in (tuple, list, Sequence):
        return _coerce_sequence(value, hint, key)
    if (origin or hint) in (dict, Mapping):
        return _coerce_mapping(value, hint, key)
    return _coerce_scalar(value, hint, key)


def describe_hint(hint: Any) -> str:
    """Return the words for a type in an error message.

    >>> describe_hint(tuple[float, float]), describe_hint(int | None)
    ('a list of 2 (a number, a number)', 'an integer or "none"')
    """
    words = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "a string",
        Path: "a path",
        type(None): '"none"',
    }
    if hint in words:
        return words[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_hint(arg) for arg in args)
    if origin is Literal:
        return "one of " + ", ".join(repr(arg) for arg in args)
    if origin is tuple and args[-1:] != (...,):
        return f"a list of {len(args)} ({', '.join(describe_hint(arg) for arg in args)})"
    if origin in (tuple, list, Sequence):
        return f"a list, each {describe_hint(args[0])}"
    return "a table" if (origin or hint) in (dict, Mapping) else str(getattr(hint, "__name__", hint))


def _wrong_type(value: Any, hint: Any, key: str) -> ConfigError:
    expected = describe_hint(hint)
    return ConfigError(
        f"{key} must be {expected}, got {value!r}; correct the value", expected=expected, actual=repr(value)
    )


def _coerce_union(value: Any, options: tuple[Any, ...], key: str) -> Any:
    if type(None) in options and value in (None, "none"):
        return None
    # An exact type wins over a conversion, so that 3 stays an int in `float | int`.
    for option in sorted(options, key=lambda option: option is not type(value)):
        if option is type(None):
            continue
        try:
            return coerce_value(value, option, key)
        except ConfigError:
            continue
    raise _wrong_type(value, Union[options], key)  # noqa: UP007  # options are a runtime tuple


def _coerce_choice(value: Any, choices: tuple[Any, ...], key: str) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    hint = closest_hint(str(value), [str(choice) for choice in choices])
    listing = ", ".join(repr(choice) for choice in choices)
    raise ConfigError(
        f"{key} must be one of {listing}, got {value!r}{hint}; pick one", expected=listing, actual=repr(value)
    )


def _coerce_sequence(value: Any, hint: Any, key: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    items = _split(value, args[0])
    if origin is tuple and args[-1:] != (...,):
        if len(items) != len(args):
            raise _wrong_type(value, hint, key)
        return tuple(
            coerce_value(item, arg, f"{key}[{i}]") for i, (item, arg) in enumerate(zip(items, args, strict=True))
        )
    made = [coerce_value(item, args[0], f"{key}[{i}]") for i, item in enumerate(items)]
    return made if origin is list else tuple(made)


def _split(value: Any, item_hint: Any) -> list[Any]:
    """Return the items of a list, of a comma-separated string (``--set a=1,2``) or of one bare item."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str):
        return [value]
    pieces = [piece.strip() for piece in value.split(",") if piece.strip()]
    return [_number_or_text(piece) for piece in pieces] if item_hint in (int, float) else list(pieces)


def _number_or_text(text: str) -> Any:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _coerce_mapping(value: Any, hint: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong_type(value, hint, key)
    args = get_args(hint)
    item_hint = args[1] if args else Any
    return {name: coerce_value(item, item_hint, f"{key}.{name}") for name, item in value.items()}


def _coerce_scalar(value: Any, hint: Any, key: str) -> Any:
    # bool is an int in Python; `max_age = true` is a mistake all the same.
    if isinstance(value, bool):
        if hint is bool:
            return value
    elif hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif hint is float and isinstance(value, int):
        return float(value)
    elif hint is Path and isinstance(value, str):
        return Path(value).expanduser()
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    raise _wrong_type(value, hint, key)
