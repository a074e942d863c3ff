"""What the device segmenter does on CUDA, in which order, on streams that write a diary and compute on the CPU.

See tests/unit/detection/test_device_cuda_flow.py for what this can show and what it cannot.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_cuda import Diary, install_fake_cuda
from torch import Tensor, nn

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.errors import DeviceMemoryError
from vision.segmentation import device_maps
from vision.segmentation.device_segmenter import DeviceSegmenter
from vision.types import Frame


class Network(nn.Module):
    """Gives dark pictures class 0 and light ones class 1."""

    def forward(self, images: Tensor) -> Tensor:
        light = images[:, :1, ::8, ::8]
        return torch.cat([-light, light], 1)


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Diary:
    return install_fake_cuda(monkeypatch, device_maps)


@pytest.fixture
def segmenter(diary: Diary) -> DeviceSegmenter:
    made = DeviceSegmenter(
        Network(),
        torch.device("cuda", 0),
        class_names=("dark", "light"),
        normalization=TENSORFLOW_NORMALIZATION,
        multiple=64,
        long_side=64,
    )
    assert diary.take() == ["compute follows default"]  # the weights were put there by the default stream
    return made


def flat(value: int = 200, size_hw: tuple[int, int] = (64, 48)) -> Frame:
    return Frame(np.full((*size_hw, 3), value, np.uint8))


def test_one_batch(segmenter: DeviceSegmenter, diary: Diary) -> None:
    item = segmenter.prepare(flat())
    assert diary.take() == ["copy records"]
    batch = segmenter.launch([item])
    assert diary.take() == ["compute waits for copy", "kept for compute", "compute records"]
    (found,) = segmenter.collect(batch)
    assert diary.take() == ["host waits for compute"]
    assert (found.labels == 1).all()
    assert diary.current == "default"


def test_a_batch_needs_one_wait_whatever_its_pictures(segmenter: DeviceSegmenter, diary: Diary) -> None:
    frames = [flat(20, (64, 64)), flat(200, (128, 100)), flat(30, (640, 480)), flat(220, (33, 64))]
    inputs = [segmenter.prepare(frame) for frame in frames]
    diary.take()
    found = segmenter.segment_prepared(inputs)
    assert [line for line in diary.take() if line.startswith("host")] == ["host waits for compute"]
    for frame, own, label in zip(frames, found, (0, 1, 0, 1), strict=True):
        assert own.labels.shape == frame.size_hw
        assert (own.labels == label).mean() > 0.9  # but for the padding's edge


def test_frames_are_launched_one_batch_ahead(segmenter: DeviceSegmenter, diary: Diary) -> None:
    segmenter.max_batch = 1
    assert len(segmenter.segment([flat(), flat(), flat()])) == 3
    steps = [line for line in diary.take() if line in ("compute records", "host waits for compute")]
    launch, wait = "compute records", "host waits for compute"
    assert steps == [launch, launch, wait, launch, wait, wait]


def test_a_shape_that_comes_often_becomes_a_graph_whatever_the_sizes(segmenter: DeviceSegmenter, diary: Diary) -> None:
    """The network's part is recorded; enlarging its logits to the size of each picture is not."""
    for size_hw in ((64, 48), (64, 50), (128, 96)):
        segmenter.segment_prepared([segmenter.prepare(flat(size_hw=size_hw))])
    assert segmenter.engine.graph_count == 0
    item = segmenter.prepare(flat(size_hw=(64, 40)))
    diary.take()
    (found,) = segmenter.segment_prepared([item])
    assert diary.take()[2:] == [
        "side 0 follows compute",
        "compute follows side 0",
        "side 0 recorded a graph",
        "compute replays",
        "compute records",
        "host waits for compute",
    ]
    assert segmenter.engine.graph_count == 1
    assert found.labels.shape == (64, 40)
    odd = segmenter.prepare(flat(), long_side=60)
    for _ in range(6):
        segmenter.segment_prepared([odd])
    assert segmenter.engine.graph_count == 1


def test_no_memory_for_a_graph_is_a_lack_of_memory_once(segmenter: DeviceSegmenter, diary: Diary) -> None:
    diary.graph_error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    inputs = [segmenter.prepare(flat())]
    for _ in range(3):
        segmenter.segment_prepared(inputs)
    with pytest.raises(DeviceMemoryError, match="CUDA out of memory"):
        segmenter.segment_prepared(inputs)
    assert "cache emptied" in diary.take()
    assert (segmenter.segment_prepared(inputs)[0].labels == 1).all()


def test_the_start_records_graphs_and_the_end_gives_them_up(segmenter: DeviceSegmenter, diary: Diary) -> None:
    segmenter.autotune((64, 48), buckets=(1, 2, 4), repeats=2)
    assert segmenter.engine.graph_count == 3
    diary.take()
    segmenter.close()
    assert diary.take().count("graph given up") == 3
