"""What to count: lines and zones as the user wrote them in JSON, checked before anything runs (docs/analytics.md)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

import numpy as np
import orjson

from vision.analytics.geometry import ANCHORS, crossing_edges, polygon_area
from vision.coercion import coerce_value
from vision.errors import ConfigError, closest_hint

Point = tuple[float, float]
Units = Literal["pixels", "relative"]

_MARGIN_LIMIT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterSpec:
    """What lines and zones have in common.

    Attributes:
        name: shown in pictures, events and counts; unique in a file.
        classes: names or numbers of the classes that count; empty counts all.
        anchor: the point of a box that is followed, one of ``ANCHORS``; the middle of the lower edge is the feet.
        margin: distance from the line or the border, in box heights, within which a track keeps its side, in [0, 1].
            0.05 is the noise that the tracker's filter expects of a position.
        min_frames: observations in a row on the new side until a change of side is certain, >= 1.
    """

    name: str
    classes: tuple[str | int, ...] = ()
    anchor: str = "bottom_center"
    margin: float = 0.05
    min_frames: int = 2

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError("name must be a text, got an empty one; give each line and zone a name")
        if self.anchor not in ANCHORS:
            listing = ", ".join(ANCHORS)
            raise ConfigError(
                f"anchor must be one of {listing}, got {self.anchor!r}{closest_hint(self.anchor, ANCHORS)}; pick one",
                expected=listing,
                actual=self.anchor,
            )
        if not 0 <= self.margin <= _MARGIN_LIMIT:
            raise ConfigError(
                f"margin must be in [0, {_MARGIN_LIMIT:g}] box heights, got {self.margin:g}; 0.05 suits most videos"
            )
        if self.min_frames < 1:
            raise ConfigError(f"min_frames must be at least 1, got {self.min_frames}; 1 counts at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSpec(CounterSpec):
    """A line from ``start`` to ``end`` (x, y), "from" and "to" in the file.

    Seen from ``start`` towards ``end``, a crossing from the right hand to the left hand is ``in``: over a line drawn
    from left to right, that is upwards in the picture.
    """

    start: Point
    end: Point

    def __post_init__(self) -> None:
        super(LineSpec, self).__post_init__()
        _check_points("from and to", (self.start, self.end))
        if math.dist(self.start, self.end) == 0:
            raise ConfigError(f"from and to must be two points, got {list(self.start)} twice; move one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneSpec(CounterSpec):
    """A zone inside ``polygon``: at least three corners (x, y) in order around it; its border belongs to it."""

    polygon: tuple[Point, ...]

    def __post_init__(self) -> None:
        super(ZoneSpec, self).__post_init__()
        if len(self.polygon) < 3:
            raise ConfigError(f"polygon must have at least 3 corners, got {len(self.polygon)}; add corners")
        _check_points("polygon", self.polygon)
        corners = np.array(self.polygon, np.float64)
        crossing = crossing_edges(corners)
        if crossing is not None:
            raise ConfigError(
                f"polygon must not cross itself, but the edges after corners {crossing[0]} and {crossing[1]} (from 0) "
                "cross; order the corners around the zone"
            )
        if polygon_area(corners) == 0:
            raise ConfigError("polygon must enclose an area, got corners on one line; move one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSpec:
    """All lines and zones of a file.

    Attributes:
        lines: line counters.
        zones: zone counters.
        units: whether coordinates are pixels, or shares of the frame's width and height ("relative").
        max_gap: frames without an observation after which a track has left, >= 0; None takes the tracker's max_age.
    """

    lines: tuple[LineSpec, ...] = ()
    zones: tuple[ZoneSpec, ...] = ()
    units: Units = "pixels"
    max_gap: int | None = None

    def __post_init__(self) -> None:
        names = [counter.name for counter in (*self.lines, *self.zones)]
        if not names:
            raise ConfigError("lines and zones must hold at least one counter, found none; add a line or a zone")
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ConfigError(f"each line and zone must have a name of its own, got {doubled[0]!r} twice; rename one")
        if self.max_gap is not None and self.max_gap < 0:
            raise ConfigError(f"max_gap must be at least 0 frames, got {self.max_gap}; leave it out for the default")

    def in_pixels(self, size_hw: tuple[int, int] | None) -> CountSpec:
        """Return the same counters in pixels of a frame of ``size_hw``, or of unknown size (None).

        Raises:
            ConfigError: units are relative and the size is unknown, or a counter lies outside of the frame.
        """
        if size_hw is None:
            if self.units == "relative":
                raise ConfigError(
                    "relative coordinates need the size of the frame, which is unknown here; "
                    "give it (--size 1920x1080), or write pixels"
                )
            return self
        scale = (float(size_hw[1]), float(size_hw[0])) if self.units == "relative" else (1.0, 1.0)
        lines = tuple(
            replace(line, start=_scaled(line.start, scale), end=_scaled(line.end, scale)) for line in self.lines
        )
        zones = tuple(
            replace(zone, polygon=tuple(_scaled(corner, scale) for corner in zone.polygon)) for zone in self.zones
        )
        for line in lines:
            _check_inside(f"line {line.name!r}", (line.start, line.end), size_hw)
        for zone in zones:
            _check_inside(f"zone {zone.name!r}", zone.polygon, size_hw)
        return replace(self, lines=lines, zones=zones, units="pixels")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data that ``parse_spec`` reads back to an equal value."""
        plain: dict[str, Any] = {"units": self.units, "max_gap": self.max_gap}
        plain["lines"] = [_plain(line) for line in self.lines]
        plain["zones"] = [_plain(zone) for zone in self.zones]
        return plain


# A field's name in the file where Python cannot have it.
_FILE_NAMES = {"start": "from", "end": "to"}
_CounterT = TypeVar("_CounterT", LineSpec, ZoneSpec)


def read_spec(path: str | Path) -> CountSpec:
    """Return the lines and zones of a JSON file.

    Raises:
        ConfigError: the file cannot be read or is no JSON, a key is unknown, or a value has the wrong type or range;
            the message begins with the file and the key.
    """
    path = Path(path)
    try:
        return parse_spec(orjson.loads(path.read_bytes()))
    except OSError as exc:
        raise ConfigError(
            f"{path} must be a JSON file of lines and zones, reading it failed: {exc.strerror}; check the path",
            path=path,
        ) from exc
    except orjson.JSONDecodeError as exc:
        raise ConfigError(f"{path} must be JSON, got: {exc}; correct that place", path=path) from exc
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc}", expected=exc.expected, actual=exc.actual, path=path) from exc


def parse_spec(plain: object) -> CountSpec:
    """Return the lines and zones of plain JSON data; raises ConfigError that names the key."""
    table = _as_object(plain, "the file", ("lines", "zones", "units", "max_gap"))
    return CountSpec(
        lines=_parse_counters(table.get("lines", []), LineSpec, "lines"),
        zones=_parse_counters(table.get("zones", []), ZoneSpec, "zones"),
        units=coerce_value(table.get("units", "pixels"), Units, "units"),
        max_gap=coerce_value(table.get("max_gap"), int | None, "max_gap"),
    )


def _parse_counters(plain: object, cls: type[_CounterT], place: str) -> tuple[_CounterT, ...]:
    if not isinstance(plain, list):
        raise ConfigError(f"{place} must be a list of objects, got {_brief(plain)}; write [...] around them")
    return tuple(_parse_counter(item, cls, f"{place}[{index}]") for index, item in enumerate(plain))


def _parse_counter(plain: object, cls: type[_CounterT], place: str) -> _CounterT:
    hints = get_type_hints(cls)
    fields = {_FILE_NAMES.get(item.name, item.name): item for item in dataclasses.fields(cls)}
    table = _as_object(plain, place, tuple(fields))
    missing = [key for key, item in fields.items() if item.default is dataclasses.MISSING and key not in table]
    if missing:
        raise ConfigError(
            f"{place} must have {', '.join(missing)}, found {', '.join(table) or 'nothing'}; add what is missing"
        )
    values = {fields[key].name: coerce_value(table[key], hints[fields[key].name], f"{place}.{key}") for key in table}
    try:
        return cls(**values)
    except ConfigError as exc:
        raise ConfigError(f"{place}.{exc}", expected=exc.expected, actual=exc.actual) from exc


def _as_object(plain: object, place: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(plain, dict):
        raise ConfigError(f"{place} must be an object with {', '.join(known)}, got {_brief(plain)}; write {{...}}")
    for key in plain:
        if key not in known:
            raise ConfigError(
                f"{place} has the unknown key {key!r}{closest_hint(key, known)}; known here: {', '.join(known)}",
                expected=f"one of {', '.join(known)}",
                actual=key,
            )
    return plain


def _brief(plain: object) -> str:
    text = repr(plain)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _plain(counter: LineSpec | ZoneSpec) -> dict[str, Any]:
    return {_FILE_NAMES.get(name, name): value for name, value in dataclasses.asdict(counter).items()}


def _scaled(point: Point, scale: Point) -> Point:
    return point[0] * scale[0], point[1] * scale[1]


def _check_points(place: str, points: Sequence[Point]) -> None:
    if not all(math.isfinite(value) for point in points for value in point):
        raise ConfigError(f"{place} must hold finite numbers, got {[list(point) for point in points]}; correct them")


def _check_inside(who: str, points: Sequence[Point], size_hw: tuple[int, int]) -> None:
    """Raise when the bounding box of the points misses the frame: the file was written for another size."""
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    height, width = size_hw
    if max(xs) < 0 or max(ys) < 0 or min(xs) > width or min(ys) > height:
        raise ConfigError(
            f"{who} must touch the frame of {width}x{height} pixels, it lies at "
            f"{min(xs):g}..{max(xs):g}, {min(ys):g}..{max(ys):g}; "
            'write coordinates for this size, or shares of it with "units": "relative"'
        )
