from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from walks import line, zone

from vision.analytics.spec import CountSpec, LineSpec, parse_spec, read_spec
from vision.errors import ConfigError


def test_a_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "line.json"
    path.write_text(json.dumps({"lines": [line(classes=["person", 2])], "zones": [zone(anchor="center")]}))
    spec = read_spec(path)
    assert spec.lines == (LineSpec(name="door", start=(0, 100), end=(200, 100), classes=("person", 2)),)
    assert (spec.zones[0].anchor, spec.zones[0].min_frames, spec.units, spec.max_gap) == ("center", 2, "pixels", None)
    assert parse_spec(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ([], ["the file must be an object", "got []"]),
        ({}, ["at least one counter", "found none"]),
        ({"lines": [line()], "zone": []}, ["unknown key 'zone'", "did you mean 'zones'"]),
        ({"lines": {"name": "a"}}, ["lines must be a list"]),
        ({"lines": ["door"]}, ["lines[0] must be an object", "'door'"]),
        ({"lines": [{"name": "door", "from": [0, 0]}]}, ["lines[0] must have to", "found name, from"]),
        ({"lines": [line(colour="red")]}, ["lines[0]", "unknown key 'colour'"]),
        ({"lines": [line(start=(0, 0, 0))]}, ["lines[0].from must be a list of 2"]),
        ({"lines": [line(start=("a", 0))]}, ["lines[0].from", "'a'"]),
        ({"lines": [line(start=(200, 100))]}, ["lines[0]", "must be two points"]),
        ({"lines": [line(anchor="feet")]}, ["lines[0].anchor must be one of", "'feet'"]),
        ({"lines": [line(anchor="bottom_centre")]}, ["did you mean 'bottom_center'"]),
        ({"lines": [line(margin=-0.1)]}, ["lines[0].margin must be in [0, 1]", "-0.1"]),
        ({"lines": [line(min_frames=0)]}, ["lines[0].min_frames must be at least 1", "got 0"]),
        ({"lines": [line(name=" ")]}, ["lines[0].name"]),
        ({"lines": [line(), line()]}, ["a name of its own", "'door' twice"]),
        ({"lines": [line("a")], "zones": [zone("a")]}, ["'a' twice"]),
        ({"lines": [line()], "units": "percent"}, ["units must be one of 'pixels', 'relative'"]),
        ({"lines": [line()], "max_gap": -1}, ["max_gap must be at least 0"]),
        ({"zones": [zone(polygon=[(0, 0), (1, 1)])]}, ["zones[0].polygon must have at least 3 corners", "got 2"]),
        ({"zones": [zone(polygon=[(0, 0), (5, 5), (9, 9)])]}, ["must enclose an area"]),
        ({"zones": [zone(polygon=[(0, 0), (9, 9), (9, 0), (0, 9)])]}, ["must not cross itself", "corners 0 and 2"]),
        ({"zones": [zone(polygon=[(0, 0), (9, True), (9, 0)])]}, ["zones[0].polygon[1]", "True"]),
    ],
    ids=lambda value: None if isinstance(value, list) else json.dumps(value)[:40],
)
def test_errors_name_the_key(plain: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_spec(plain)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["must be a JSON file", "No such file"]),
        (b"{lines: []}", ["must be JSON", "line 1"]),
        (b'{"lines": [{"name": "a", "from": [0, NaN], "to": [1, 1]}]}', ["must be JSON"]),
        (b"\xff\xfe", ["must be JSON"]),
        (b'{"lines": 3}', ["lines must be a list"]),
    ],
)
def test_errors_begin_with_the_file(content: bytes | None, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "line.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_spec(path)
    assert caught.value.path == path
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_relative_coordinates_are_shares_of_width_and_height() -> None:
    spec = parse_spec({"units": "relative", "lines": [line(start=(0, 0.5), end=(1, 0.25))]})
    placed = spec.in_pixels((200, 400))
    assert (placed.lines[0].start, placed.lines[0].end, placed.units) == ((0, 100), (400, 50), "pixels")
    assert placed.in_pixels((200, 400)) == placed
    with pytest.raises(ConfigError, match="--size 1920x1080"):
        spec.in_pixels(None)


@pytest.mark.parametrize("spec", [{"lines": [line(start=(0, 500), end=(9, 500))]}, {"zones": [zone()]}])
def test_counters_of_another_frame_size_are_refused(spec: dict[str, Any]) -> None:
    made = parse_spec(spec)
    assert isinstance(made.in_pixels(None), CountSpec)
    if made.lines:
        with pytest.raises(ConfigError, match="line 'door' must touch the frame of 640x480"):
            made.in_pixels((480, 640))
    else:
        assert made.in_pixels((480, 640)) == made
