"""What the device path does on CUDA, in which order, on streams that write a diary and compute on the CPU.

This cannot show that a GPU computes the right numbers (tests/golden/test_device_agrees.py does, where there is one). It
shows that the branches for CUDA run, that each wait stands where it must, and that failures end as they should.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import Diary, install_fake_cuda
from torch import Tensor, nn

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.detection import device_engine
from vision.detection.anchors import AnchorConfig, make_anchors
from vision.detection.config import DetectorConfig
from vision.detection.device_detector import DeviceDetector
from vision.errors import DeviceMemoryError
from vision.runtime import device_graphs, device_memory
from vision.types import Frame

CUDA = torch.device("cuda", 0)


class Network(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        count = len(make_anchors(AnchorConfig(), (64, 64)).boxes)
        logits = torch.full((len(images), count, 1), -9.0)
        logits[:, 70, 0] = images.mean(dim=(1, 2, 3))
        return logits, torch.zeros((len(images), count, 4))


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Diary:
    monkeypatch.setattr(device_engine, "make_anchors", lambda config, size_hw, device: make_anchors(config, size_hw))
    return install_fake_cuda(monkeypatch, device_engine)


@pytest.fixture
def detector(diary: Diary) -> DeviceDetector:
    made = DeviceDetector(
        Network(),
        CUDA,
        anchors=AnchorConfig(),
        multiple=64,
        class_names=("person",),
        normalization=TENSORFLOW_NORMALIZATION,
        long_side=64,
        config=DetectorConfig(conf=0.1),
    )
    assert diary.take() == ["compute follows default"]  # the weights were put there by the default stream
    return made


def flat(value: int = 200) -> Frame:
    return Frame(np.full((64, 48, 3), value, np.uint8))


def test_one_batch(detector: DeviceDetector, diary: Diary) -> None:
    item = detector.prepare(flat())
    assert diary.take() == ["copy records"]
    batch = detector.launch([item])
    assert diary.take() == ["compute waits for copy", "kept for compute", "compute records"]
    (found,) = detector.collect(batch)
    assert diary.take() == ["host waits for compute"]
    assert len(found) == 1
    assert diary.current == "default"


def test_a_batch_needs_one_wait_however_many_pictures(detector: DeviceDetector, diary: Diary) -> None:
    inputs = [detector.prepare(flat(value)) for value in (150, 200, 250)]
    diary.take()
    assert len(detector.detect_prepared(inputs)) == 3
    assert [line for line in diary.take() if line.startswith("host")] == ["host waits for compute"]


def test_the_next_pictures_are_copied_while_the_device_computes(detector: DeviceDetector, diary: Diary) -> None:
    batch = detector.launch([detector.prepare(flat())])
    diary.take()
    detector.prepare(flat())
    assert diary.take() == ["copy records"]  # neither stream nor host waits for the other
    detector.collect(batch)


def test_a_pinned_buffer_is_used_again_after_its_copy(detector: DeviceDetector, diary: Diary) -> None:
    for _ in range(8):
        detector.prepare(flat())
    assert not any("host" in line for line in diary.take())
    detector.prepare(flat())
    assert diary.take() == ["host waits for copy", "copy records"]  # of the first of the ring, over long ago


def test_a_picture_larger_than_a_buffer_goes_without_one(diary: Diary) -> None:
    uploader = device_memory.PictureUploader(CUDA, largest_slot=100)
    image = np.arange(64 * 48 * 3).reshape(64, 48, 3).astype(np.uint8)
    picture = uploader.upload(image)
    np.testing.assert_array_equal(picture.pixels.numpy(), image)
    assert all(slot.buffer is None for slot in uploader._slots)


def test_a_shape_that_comes_often_becomes_a_graph(detector: DeviceDetector, diary: Diary) -> None:
    inputs = [detector.prepare(flat())]
    for _ in range(3):
        detector.detect_prepared(inputs)
    assert detector.engine.graph_count == 0
    diary.take()
    (found,) = detector.detect_prepared(inputs)
    assert diary.take()[2:] == [
        "side 0 follows compute",  # warm-up reads what compute has written
        "compute follows side 0",
        "side 0 recorded a graph",
        "compute replays",
        "compute records",
        "host waits for compute",
    ]
    assert detector.engine.graph_count == 1
    assert len(found) == 1
    detector.detect_prepared(inputs * 2)
    assert detector.engine.graph_count == 1  # another bucket is another shape


def test_graphs_of_new_shapes_are_recorded_with_pauses(diary: Diary) -> None:
    """Whoever sends the pictures chooses their shapes, and each recording holds up all others."""
    now = [100.0]
    calls = device_graphs.StaticCalls(CUDA, clock=lambda: now[0])

    def run(key: str, *, keep: bool = True, times: int = 5) -> None:
        for _ in range(times):
            calls.run(calls.call(key, lambda: (lambda x: x + 1, (torch.zeros(3),)), keep=keep))

    run("first")
    for key in "abc":
        run(key)
    assert calls.graph_count == 1
    now[0] += device_graphs.RECORD_EVERY_S
    for key in "abc":
        run(key)
    assert calls.graph_count == 2
    with calls.starting():
        for key in "xyz":
            run(key)
    assert calls.graph_count == 5
    now[0] += device_graphs.RECORD_EVERY_S
    run("once", keep=False, times=20)
    assert calls.graph_count == 5
    assert len(calls) == 7


def test_what_the_start_recorded_is_given_up_last(diary: Diary) -> None:
    calls = device_graphs.StaticCalls(CUDA, capacity=3)

    def make() -> Any:
        return lambda x: x + 1, (torch.zeros(3),)

    with calls.starting():
        own = [calls.call(key, make) for key in "ab"]
    for key in range(50):
        calls.call(key, make)
    assert [calls.call(key, make) for key in "ab"] == own
    assert len(calls) == 3
    with calls.starting():
        calls.call("c", make)
        calls.call("d", make)
    assert calls.call("a", make) is not own[0]  # the least recently used of its like


def test_a_graph_that_cannot_be_recorded_is_done_without(
    detector: DeviceDetector, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    diary.graph_error = RuntimeError("operation not permitted when stream is capturing")
    inputs = [detector.prepare(flat())]
    for _ in range(6):
        assert len(detector.detect_prepared(inputs)[0]) == 1
    assert caplog.text.count("recording a CUDA graph failed") == 1
    assert not detector.engine.uses_graphs


def test_no_memory_for_a_graph_is_a_lack_of_memory_once(detector: DeviceDetector, diary: Diary) -> None:
    diary.graph_error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    inputs = [detector.prepare(flat())]
    for _ in range(3):
        detector.detect_prepared(inputs)
    with pytest.raises(DeviceMemoryError, match="CUDA out of memory"):
        detector.detect_prepared(inputs)
    assert "cache emptied" in diary.take()
    assert len(detector.detect_prepared(inputs)[0]) == 1


def test_warm_up_records_every_bucket(detector: DeviceDetector, diary: Diary) -> None:
    detector.warm_up((64, 48), largest_batch=8)
    assert detector.engine.graph_count == 4


def test_a_graph_is_not_given_up_while_it_runs(diary: Diary) -> None:
    calls = device_graphs.StaticCalls(CUDA, capacity=1)
    call = calls.call("one", lambda: (lambda x: x + 1, (torch.zeros(3),)))
    for _ in range(4):
        calls.run(call)
    diary.take()
    calls.call("two", lambda: (lambda x: x, (torch.zeros(3),)))
    assert diary.take() == ["host waits for all", "graph given up"]
    assert len(calls) == 1
