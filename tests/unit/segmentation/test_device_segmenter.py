"""The device segmenter on CPU tensors: what it shares with EngineSegmenter, odd requests, lack of memory, closing.

What needs CUDA is in tests/golden/test_device_segmenter_agrees.py.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.interface import IMAGENET_NORMALIZATION
from vision.errors import ConfigError, DeviceMemoryError, InvalidInputError, StateError
from vision.segmentation.device_segmenter import DeviceSegmenter, one_ahead
from vision.segmentation.readout import Reading
from vision.segmentation.segmenter import EngineSegmenter
from vision.types import Frame, SegmentationMap

NAMES = ("road", "car", "sky", "tree")
SIZES = [(96, 128), (300, 100), (48, 64), (128, 128), (96, 128), (200, 150), (96, 128), (64, 64)]


class ColourNetwork(nn.Module):
    """Tells classes by the colour of cells of eight pixels; no sum in it depends on the batch."""

    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        self.room = room
        self.batches: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(tuple(images.shape))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 PiB. GPU 0 has 3 bytes")
        red, green, blue = F.avg_pool2d(images, 8).unbind(1)
        return torch.stack([red, green, blue, 0.5 - red], 1)


class NumpyEngine:
    """The same network as EngineSegmenter takes it."""

    name = "stand-in"

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        return [ColourNetwork()(torch.from_numpy(batch)).numpy()]


def facts(**options: Any) -> dict[str, Any]:
    return {"class_names": NAMES, "normalization": IMAGENET_NORMALIZATION, "multiple": 64, "long_side": 128, **options}


def make(network: nn.Module | None = None, **options: Any) -> DeviceSegmenter:
    return DeviceSegmenter(network or ColourNetwork(), torch.device("cpu"), **facts(**options))


def picture(size_hw: tuple[int, int], seed: int = 0) -> Frame:
    """Return patches of colours, large enough to be seen at any scale."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    rows, columns = (np.arange(side) * 4 // side for side in size_hw)
    return Frame(patches[rows][:, columns])


def assert_same(found: SegmentationMap, wanted: SegmentationMap, *, but: float = 0.0) -> None:
    assert found.class_names == wanted.class_names
    assert found.labels.shape == wanted.labels.shape
    assert (found.labels != wanted.labels).mean() <= but


def test_it_gives_what_the_engine_segmenter_gives_in_any_company() -> None:
    frames = [picture(size_hw, seed) for seed, size_hw in enumerate(SIZES)]
    found = make(max_batch=8).segment(frames)
    reference = EngineSegmenter(NumpyEngine(), **facts())
    for own, wanted in zip(found, reference.segment(frames), strict=True):
        # A grey level may differ by one where a mean lies at a half.
        assert_same(own, wanted, but=5e-3)
    assert len({tuple(np.unique(own.labels)) for own in found}) > 1
    assert make().segment([]) == []


def test_pictures_that_keep_their_size_give_the_very_same() -> None:
    frames = [picture(size_hw, seed) for seed, size_hw in enumerate([(64, 64), (50, 128), (128, 37), (1, 1)])]
    for own, wanted in zip(
        make(long_side=0).segment(frames),
        EngineSegmenter(NumpyEngine(), **facts(long_side=0)).segment(frames),
        strict=True,
    ):
        assert_same(own, wanted)


def test_a_frame_does_not_depend_on_its_company() -> None:
    """Pictures of one size are put side by side in the batch; the caller must not notice."""
    network = ColourNetwork()
    segmenter = make(network)
    frames = [picture(size_hw, seed) for seed, size_hw in enumerate([(96, 128), (48, 64), (96, 128), (128, 128)] * 2)]
    together = segmenter.segment_prepared([segmenter.prepare(frame) for frame in frames])
    assert network.batches == [(8, 3, 128, 128)]
    for frame, found in zip(frames, together, strict=True):
        assert found.labels.shape == frame.size_hw
        assert_same(found, segmenter.segment([frame])[0])


def test_batches_are_no_larger_than_the_configuration_says() -> None:
    network = ColourNetwork()
    make(network, max_batch=2).segment([picture((64, 64), seed) for seed in range(5)])
    assert [shape[0] for shape in network.batches] == [2, 2, 1]


def test_a_batch_is_awaited_when_the_next_is_launched() -> None:
    order: list[str] = []

    def launched() -> Any:
        for name in "abc":
            order.append(f"launch {name}")
            yield name

    for name in one_ahead(launched()):
        order.append(f"await {name}")
    assert order == ["launch a", "launch b", "await a", "launch c", "await b", "await c"]
    assert list(one_ahead([])) == []


def test_classes_of_each_frame() -> None:
    segmenter, reference = make(), EngineSegmenter(NumpyEngine(), **facts())
    frame = picture((128, 128), 3)
    readings = [None, Reading(NAMES, kept=("sky", "car")), Reading(NAMES, kept=("tree",))]
    found = segmenter.segment_prepared([segmenter.prepare(frame, reading) for reading in readings])
    for own, reading in zip(found, readings, strict=True):
        assert_same(own, reference.segment_prepared([reference.prepare(frame, reading)])[0])
    assert [own.class_names for own in found] == [NAMES, ("other", "sky", "car"), ("other", "tree")]
    assert make(reading=readings[1]).class_names == ("other", "sky", "car")


def test_scores_are_for_the_engine() -> None:
    scores = Reading(NAMES, scores=True)
    with pytest.raises(ConfigError, match=r"classes alone, got scores as well; take runtime\.engine=torch"):
        make(reading=scores)
    with pytest.raises(ConfigError, match="classes alone"):
        make().prepare(picture((64, 64)), scores)


def test_another_size_stays_by_itself() -> None:
    """Nobody's size may cost all the others their recorded graphs."""
    network = ColourNetwork()
    segmenter, reference = make(network), EngineSegmenter(NumpyEngine(), **facts())
    frame = picture((96, 128))
    usual, odd = segmenter.prepare(frame), segmenter.prepare(frame, long_side=100)
    assert usual.letterbox.padded_hw == odd.letterbox.padded_hw == (128, 128)
    assert usual.shape_key != odd.shape_key
    assert segmenter.prepare(frame, long_side=128).shape_key == usual.shape_key
    for _ in range(6):
        (found,) = segmenter.segment_prepared([odd])
    assert_same(found, reference.segment_prepared([reference.prepare(frame, long_side=100)])[0], but=5e-3)
    assert len(segmenter.engine.calls) == 0  # no buffers are kept for it
    segmenter.segment_prepared([usual])
    assert len(segmenter.engine.calls) == 1


def test_answers_are_arrays_of_their_own() -> None:
    segmenter = make()
    maps = segmenter.segment_prepared([segmenter.prepare(picture((64, 64), seed)) for seed in range(3)])
    assert all(own.labels.base is None or own.labels.base.nbytes == own.labels.nbytes for own in maps)


def test_a_picture_may_change_once_it_is_prepared() -> None:
    segmenter, image = make(), picture((96, 128)).image.copy()
    waiting = segmenter.prepare(Frame(image))
    (before,) = segmenter.segment([Frame(image.copy())])
    image[:] = 0
    assert_same(segmenter.segment_prepared([waiting])[0], before)
    assert waiting.nbytes == 96 * 128 * 3


def test_two_batches_may_be_under_way() -> None:
    segmenter = make()
    launched = [segmenter.launch([segmenter.prepare(picture((96, 128), seed))]) for seed in range(3)]
    for seed, batch in reversed(list(enumerate(launched))):
        assert_same(segmenter.collect(batch)[0], segmenter.segment([picture((96, 128), seed)])[0])


def test_batches_larger_than_the_largest_bucket() -> None:
    network = ColourNetwork()
    segmenter = make(network)
    found = segmenter.segment_prepared([segmenter.prepare(picture((64, 64), seed)) for seed in range(37)])
    assert [shape[0] for shape in network.batches] == [32, 8]
    assert_same(found[36], segmenter.segment([picture((64, 64), 36)])[0])


def test_a_batch_has_one_shape() -> None:
    segmenter = make()
    inputs = [segmenter.prepare(picture(size_hw)) for size_hw in ((96, 128), (300, 100))]
    for wrong in ([], inputs):
        with pytest.raises(InvalidInputError, match="1 to 32 inputs of one shape_key"):
            segmenter.launch(wrong)


def test_a_closed_segmenter_says_so_and_holds_no_buffers() -> None:
    segmenter = make()
    item = segmenter.prepare(picture((96, 128)))
    segmenter.segment_prepared([item])
    engine = weakref.ref(segmenter.engine)
    segmenter.close()
    segmenter.close()
    assert engine() is None  # without the garbage collector, which never looks at what the start has made
    with pytest.raises(StateError, match="closed; load it again"):
        segmenter.segment_prepared([item])


# --- memory and batch size ---


def test_a_lack_of_memory_is_an_error_of_ours_and_passes() -> None:
    segmenter = make(ColourNetwork(room=4))
    inputs = [segmenter.prepare(picture((96, 128), seed)) for seed in range(8)]
    with pytest.raises(DeviceMemoryError, match=r"a batch of 8 needs room on the device, got: CUDA out of memory;"):
        segmenter.segment_prepared(inputs)
    found = [own for start in (0, 4) for own in segmenter.segment_prepared(inputs[start : start + 4])]
    for seed, own in enumerate(found):
        assert_same(own, make().segment([picture((96, 128), seed)])[0])


def test_buffers_of_other_shapes_are_given_up_first() -> None:
    network = ColourNetwork(room=4)
    segmenter = make(network)
    segmenter.segment([picture((96, 128))])
    network.batches.clear()
    with pytest.raises(DeviceMemoryError):
        segmenter.segment_prepared([segmenter.prepare(picture((96, 128)))] * 8)
    assert [shape[0] for shape in network.batches] == [8, 8]


def test_start_up_finds_the_largest_batch_there_is_room_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    segmenter = make(ColourNetwork(room=2))
    assert segmenter.autotune((96, 128), repeats=2).out_of_memory == 4
    assert segmenter.start_up([(96, 128), (300, 100)]) in (1, 2)
    assert "device:cpu, pictures of 128 x 96: batches of at most" in caplog.text
