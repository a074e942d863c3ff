"""Lack of memory as an error of ours, and calls at fixed shapes; on CPU tensors."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from vision.errors import DeviceMemoryError, VisionError
from vision.runtime.device_graphs import StaticCalls
from vision.runtime.device_memory import PictureUploader, device_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has"), "CUDA out of memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED\nmore"), "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "CUBLAS_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_lack_of_memory_in_all_its_forms(error: Exception, told: str) -> None:
    with (
        pytest.raises(DeviceMemoryError, match="a batch of 4 needs room on the device") as caught,
        device_memory("a batch of 4"),
    ):
        raise error
    assert isinstance(caught.value, VisionError)
    assert told in str(caught.value.actual)
    assert caught.value.expected == "room for a batch of 4"


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, device_memory("a batch of 4"):
        raise error
    assert caught.value is error


def test_nothing_of_the_failed_work_is_held() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        large = torch.zeros(10)
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(DeviceMemoryError) as caught, device_memory("work"):
        work()
    gc.collect()
    assert held[0]() is None
    assert caught.value.__cause__ is None


def test_the_uploader_copies() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    view = image[::2, ::-1]
    view.flags.writeable = False
    picture = PictureUploader(CPU).upload(view)
    wanted = view.copy()
    image[:] = 0
    np.testing.assert_array_equal(picture.receive().numpy(), wanted)


# --- calls ---


def add(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return one + other


def buffers(size: int = 1) -> tuple[torch.Tensor, ...]:
    return torch.zeros(size), torch.ones(size)


def test_a_call_runs_on_what_its_buffers_hold() -> None:
    calls = StaticCalls(CPU)
    call = calls.call("key", lambda: (add, buffers()))
    for value in range(6):
        call.inputs[0].fill_(value)
        assert calls.run(call).item() == value + 1
    assert calls.graph_count == 0
    assert calls.call("key", lambda: pytest.fail("it is there")) is call


def test_the_least_recently_used_is_given_up() -> None:
    calls = StaticCalls(CPU, capacity=2)
    first = calls.call(1, lambda: (add, buffers()))
    second = calls.call(2, lambda: (add, buffers()))
    assert calls.call(1, lambda: (add, buffers())) is first
    calls.call(3, lambda: (add, buffers()))
    assert calls.call(1, lambda: (add, buffers())) is first
    assert calls.call(2, lambda: (add, buffers())) is not second
    assert len(calls) == 2


def test_buffers_are_bounded_in_bytes_too() -> None:
    calls = StaticCalls(CPU, max_bytes=100)
    for key in range(5):
        calls.call(key, lambda: (add, buffers(5)))
    assert len(calls) == 2
    large = calls.call("large", lambda: (add, buffers(1000)))
    assert len(calls) == 1
    assert calls.run(large).shape == (1000,)
    calls.clear()
    assert len(calls) == 0
