"""A decoder in this process: a video that gives no picture ends with an error, in time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
from io_media import steady, write_clip

from vision.batch.decode_worker import Decoder, decode_budget
from vision.batch.items import Item
from vision.batch.messages import Decode, Finished, Need
from vision.io.images import DEFAULT_LIMITS
from vision.io.video import DecodeBudget


class Coordinator:
    """The other end of a decoder's socket: gives one order, and has gone when it is asked for more."""

    def __init__(self, order: Decode) -> None:
        self.orders = [order]
        self.heard: list[Any] = []

    def recv(self) -> Decode:
        if not self.orders:
            raise EOFError
        return self.orders.pop()

    def send(self, message: Any) -> None:
        self.heard.append(message)

    def poll(self) -> bool:
        return False


def decode(path: Path, budget: DecodeBudget) -> Any:
    """Return what a decoder says after it has begun with a video."""
    coordinator = Coordinator(Decode(0, Item(0, path.name, str(path), "video")))
    with pytest.raises(EOFError):
        Decoder(cast(Any, coordinator), cast(Any, None), DEFAULT_LIMITS, budget).serve()
    return coordinator.heard[1]


def test_a_video_that_gives_no_picture_for_long_is_given_up(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", steady(100), options={"x264-params": "keyint=10:scenecut=0", "bf": "0"})
    assert isinstance(decode(path, DecodeBudget(packets=40, seconds=60.0)), Need)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    data[start : start + size // 2] = bytes(size // 2)
    path.write_bytes(data)
    assert isinstance(decode(path, DecodeBudget(packets=100, seconds=60.0)), Need)
    for budget in (DecodeBudget(packets=40, seconds=60.0), DecodeBudget(packets=100, seconds=0.0)):
        told = decode(path, budget)
        assert isinstance(told, Finished)
        assert told.error is not None
        assert "clip.mp4" in told.error
        assert "\n" not in told.error


@pytest.mark.parametrize("timeout_s", [1e-9, 0.5, 60.0, 1e12, float("inf")])
def test_opening_and_the_first_picture_end_before_the_coordinator_loses_patience(timeout_s: float) -> None:
    budget = decode_budget(timeout_s)
    assert 0 < 2 * budget.seconds < timeout_s
    assert budget.packets >= 1
