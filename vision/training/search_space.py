"""What a search may change: settings with the values they may take, read from texts such as ``lr=log:1e-4:1e-2``."""

from __future__ import annotations

import itertools
import json
import math
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from vision.coercion import coerce_value
from vision.config import parse_value
from vision.errors import ConfigError, closest_hint
from vision.training.config import TrainingConfig

ConfigT = TypeVar("ConfigT", bound=TrainingConfig)

# The search itself decides these.
NOT_SEARCHABLE = frozenset({"out", "resume", "devices", "strategy"})
NUMBER = r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?"
RANGE = re.compile(rf"(?P<log>log:)?(?P<low>{NUMBER}):(?P<high>{NUMBER})(?::(?P<points>[0-9]+))?")
Label = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting of a search.

    Attributes:
        key: name of the setting.
        values: the values of a choice, empty for a range.
        low, high: ends of a range, both included. log: even in the logarithm. whole: integers only.
        points: how many values a grid takes of a range; 0 when none were given.
    """

    key: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    points: int = 0

    @property
    def labels(self) -> tuple[Label, ...]:
        """The values of a choice as a database can keep them: lists as JSON text."""
        return tuple(_label(value) for value in self.values)

    def value_of(self, label: Label) -> Any:
        """Return the setting's value for a label of a choice or a number of a range."""
        return self.values[self.labels.index(label)] if self.values else label

    def grid(self) -> tuple[Label, ...]:
        """Return the values that a grid search tries; raises ConfigError for a range without a number of points."""
        if self.values:
            return self.labels
        if not self.points:
            raise ConfigError(
                f"a grid needs the number of points of a range, got {self.key} from {self.low:g} to {self.high:g}; "
                f"write {self.key}={'log:' if self.log else ''}{self.low:g}:{self.high:g}:5, or list the values"
            )
        shares = [index / max(1, self.points - 1) for index in range(self.points)]
        if self.log:
            spread = [self.low * (self.high / self.low) ** share for share in shares]
        else:
            spread = [self.low + (self.high - self.low) * share for share in shares]
        rounded = [round(value) if self.whole else float(f"{value:.6g}") for value in spread]
        return tuple(dict.fromkeys(rounded))


def read_parameter(text: str, config_type: type[TrainingConfig]) -> Parameter:
    """Return the parameter that ``text`` describes, its values of the type of the setting.

    ``KEY=LOW:HIGH``, ``KEY=log:LOW:HIGH`` (with ``:POINTS`` behind for a grid) or ``KEY=A,B,C``.

    Raises:
        ConfigError: the setting does not exist or cannot take such values.
    """
    key, separator, raw = (piece.strip() for piece in text.partition("="))
    hints = get_type_hints(config_type)
    if not separator or not raw:
        raise ConfigError(
            f"--param expects KEY=log:LOW:HIGH, KEY=LOW:HIGH or KEY=A,B,C, got {text!r}; write one of them"
        )
    if key not in hints or key in NOT_SEARCHABLE:
        known = [name for name in hints if name not in NOT_SEARCHABLE]
        raise ConfigError(
            f"--param must name a setting that can be searched, got {key!r}{closest_hint(key, known)}; "
            f"known: {', '.join(known)}"
        )
    found = RANGE.fullmatch(raw)
    numeric = _numeric_type(hints[key])
    if found and numeric:
        return _read_range(key, found, numeric)
    values = _read_list(raw)
    if found or len(values) < 2:
        raise ConfigError(f"{key} must be given two values or more, got {raw!r}; write {key}=A,B")
    return Parameter(key, tuple(coerce_value(value, hints[key], key) for value in values))


def check_space(config: TrainingConfig, parameters: Sequence[Parameter]) -> None:
    """Raise ConfigError when a value by itself is refused by the settings, or a key comes twice; nothing runs then."""
    keys = [parameter.key for parameter in parameters]
    if not keys or len(set(keys)) < len(keys):
        raise ConfigError(f"a search needs one --param or more, each setting once, got {', '.join(keys) or 'none'}")
    for parameter in parameters:
        ends: tuple[Any, ...] = (parameter.low, parameter.high)
        if parameter.whole:
            ends = tuple(int(end) for end in ends)
        for value in parameter.values or ends:
            changed(config, {parameter.key: value})


def changed(config: ConfigT, values: dict[str, Any]) -> ConfigT:
    """Return ``config`` with other values; raises ConfigError when they are refused."""
    return replace(config, **values)


def combinations(parameters: Sequence[Parameter]) -> Iterator[dict[str, Label]]:
    """Yield every combination of the parameters' grids, the last parameter changing fastest."""
    for labels in itertools.product(*(parameter.grid() for parameter in parameters)):
        yield dict(zip((parameter.key for parameter in parameters), labels, strict=True))


def describe_space(parameters: Sequence[Parameter]) -> dict[str, str]:
    """Return key -> text; two searches with equal texts may share a study."""
    return {
        p.key: json.dumps(p.labels) if p.values else f"{'log:' if p.log else ''}{p.low:g}:{p.high:g}"
        for p in parameters
    }


def _read_range(key: str, found: re.Match[str], numeric: type) -> Parameter:
    low, high, log = float(found["low"]), float(found["high"]), bool(found["log"])
    points = int(found["points"] or 0)
    if not low < high or (log and low <= 0) or not math.isfinite(high):
        raise ConfigError(
            f"{key} needs a range LOW:HIGH with LOW < HIGH{' and LOW > 0' if log else ''}, got {found[0]}; correct it"
        )
    whole = numeric is int
    if whole and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{key} is an integer, got the range {found[0]}; give whole ends")
    return Parameter(key, low=low, high=high, log=log, whole=whole, points=points)


def _numeric_type(hint: Any) -> type | None:
    """Return int or float when the setting is a number, None included, else None."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((option for option in options if option in (int, float)), None)


def _read_list(raw: str) -> list[Any]:
    """Return the items of ``a,b`` or ``[1,2],[3,4]``; what is no TOML list is split at the commas."""
    value = parse_value(f"[{raw}]")
    if isinstance(value, list):
        return value
    return [parse_value(piece.strip()) for piece in raw.split(",") if piece.strip()]


def _label(value: Any) -> Label:
    if isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, default=str)
