"""The choice of a batch size, on a device whose times are made up."""

from __future__ import annotations

import pytest

from vision.errors import DeviceMemoryError
from vision.runtime.device_tuning import bucket_of, tune_batch


class Device:
    """A device that takes ``overhead + batch * each`` seconds, and has room for ``room`` pictures."""

    def __init__(self, overhead: float, each: float, room: int = 1000) -> None:
        self.overhead, self.each, self.room = overhead, each, room
        self.now = 0.0
        self.batches: list[int] = []

    def run(self, batch: int) -> None:
        if batch > self.room:
            raise DeviceMemoryError("full")
        self.batches.append(batch)
        self.now += self.overhead + batch * self.each

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("overhead", "each", "cap"),
    [
        (0.0, 1e-3, 1),  # no gain at all: a CPU
        (1e-3, 1e-3, 16),
        (1e-2, 1e-4, 32),
    ],
)
def test_the_smallest_batch_that_is_nearly_the_fastest(overhead: float, each: float, cap: int) -> None:
    device = Device(overhead, each)
    tuning = tune_batch(device.run, clock=device.clock)
    assert tuning.cap == cap
    assert tuning.out_of_memory == 0
    assert [row.batch for row in tuning.tried] == sorted({*device.batches})
    for row in tuning.tried:
        assert row.median_ms == pytest.approx((overhead + row.batch * each) * 1e3)
        assert row.images_per_s == pytest.approx(row.batch / (overhead + row.batch * each))


def test_it_stops_where_throughput_stops_growing() -> None:
    device = Device(0.0, 1e-3)
    tune_batch(device.run, clock=device.clock)
    assert max(device.batches) == 4


def test_it_stops_where_memory_ends() -> None:
    device = Device(1.0, 1e-3, room=8)
    tuning = tune_batch(device.run, clock=device.clock)
    assert (tuning.cap, tuning.out_of_memory) == (8, 16)


def test_not_even_one_picture_fits() -> None:
    device = Device(1.0, 1.0, room=0)
    with pytest.raises(DeviceMemoryError):
        tune_batch(device.run, clock=device.clock)


def test_the_last_bucket_serves_what_is_larger() -> None:
    assert [bucket_of(count) for count in (1, 2, 3, 5, 9, 17, 32, 33)] == [1, 2, 4, 8, 16, 32, 32, 32]
