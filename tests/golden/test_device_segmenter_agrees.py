"""The device segmenter gives the classes of the reference engine: on CPU tensors always, on CUDA where there is one.

On CUDA it also waits for the device once a batch, outlives a lack of memory, and replays graphs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from vision.build import build_segmenter
from vision.card import ModelCard
from vision.errors import DeviceMemoryError, ModelNotFoundError
from vision.io.images import decode_image
from vision.runtime.config import Precision, RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.device_segmenter import DeviceSegmenter, load_device_segmenter
from vision.segmentation.segmenter import load_fcn
from vision.store import find_model
from vision.types import Frame, SegmentationMap

IMAGES = Path(__file__).parents[2] / "docs" / "images"
# Share of pixels that may have another class, by what the network computes in. Measured on the eight pictures: on CPU
# tensors 0.00002 of all and 0.00023 of the worst; with autocast on the CPU up to 0.0025 in fp16 and 0.033 in bf16.
# On CUDA, fp32 means TF32 convolutions, with the mantissa of fp16.
OTHERS: dict[str, float] = {"cpu": 0.001, "fp32": 0.005, "fp16": 0.005}

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; this machine has none")


@pytest.fixture(scope="module")
def card() -> ModelCard:
    try:
        found = find_model("street-fcn8s", kind="segmenter")
    except ModelNotFoundError:
        pytest.skip("needs the default weights street-fcn8s in the model store")
    if not found.weights_path.is_file():
        pytest.skip(f"needs the weights file of {found.name}, which is not beside its card")
    return found


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    paths = sorted(IMAGES.glob("*.jpg"))
    if not paths:
        pytest.skip("needs the pictures docs/images of a checkout")
    return [Frame(decode_image(path.read_bytes())) for path in paths]


@pytest.fixture(scope="module")
def wanted(card: ModelCard, frames: list[Frame]) -> list[SegmentationMap]:
    """Return what the reference engine says, which resizes and reads logits on the CPU."""
    with closing(load_fcn(card, SegmenterConfig(), RuntimeConfig(device="cpu", engine="torch", threads=1))) as engine:
        return [engine.segment([frame])[0] for frame in frames]


@pytest.fixture(autouse=True, scope="module")
def few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_agree(found: list[SegmentationMap], wanted: list[SegmentationMap], tolerance: str) -> None:
    """Assert that all but a few pixels of each picture have the class that is wanted."""
    for own, expected in zip(found, wanted, strict=True):
        assert own.labels.shape == expected.labels.shape
        assert (own.labels != expected.labels).mean() <= OTHERS[tolerance]


def test_cpu_tensors_agree_with_the_reference(
    card: ModelCard, frames: list[Frame], wanted: list[SegmentationMap]
) -> None:
    with closing(load_device_segmenter(card, SegmenterConfig(), RuntimeConfig(device="cpu"))) as segmenter:
        assert_agree(segmenter.segment(frames), wanted, "cpu")
    assert sum(len(np.unique(own.labels)) for own in wanted) > 3 * len(wanted)


def test_the_build_chooses_it_on_cuda_where_classes_are_enough(
    card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    registry, auto = "vision.segmentation.registry", RuntimeConfig()
    monkeypatch.setattr(f"{registry}.load_device_segmenter", lambda *_: asked.append("device"))
    monkeypatch.setattr(f"{registry}.load_fcn", lambda *_: asked.append("engine"))
    monkeypatch.setattr(f"{registry}.resolve_device", lambda _: torch.device("cuda", 0))
    build_segmenter(SegmenterConfig(model=card.name, classes=("road",), long_side=256), auto)
    build_segmenter(SegmenterConfig(model=card.name, scores=True), auto)
    build_segmenter(SegmenterConfig(model=card.name), RuntimeConfig(engine="torch"))
    monkeypatch.setattr(f"{registry}.resolve_device", lambda _: torch.device("cpu"))
    build_segmenter(SegmenterConfig(model=card.name), auto)
    assert asked == ["device", "engine", "engine", "engine"]


# --- CUDA ---


def cuda_segmenter(card: ModelCard, precision: Precision = "fp32") -> DeviceSegmenter:
    return load_device_segmenter(card, SegmenterConfig(), RuntimeConfig(device="cuda", precision=precision))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_cuda_agrees_with_the_cpu(
    card: ModelCard, frames: list[Frame], wanted: list[SegmentationMap], precision: Precision
) -> None:
    with closing(cuda_segmenter(card, precision)) as segmenter, segmenter.engine.starting():
        for _ in range(5):  # from eager runs to graphs
            assert_agree(segmenter.segment(frames), wanted, precision)
        assert segmenter.engine.graph_count > 0


@pytest.mark.gpu
@needs_cuda
def test_replayed_graphs_that_follow_each_other_keep_their_results(card: ModelCard, frames: list[Frame]) -> None:
    segmenter = cuda_segmenter(card)
    inputs = [[segmenter.prepare(frame)] * size for frame, size in zip(frames, (1, 3, 8, 2), strict=False)]
    eager = [segmenter.segment_prepared(batch) for batch in inputs]
    for _ in range(6):
        with segmenter.engine.starting():  # without pauses between recordings
            launched = [segmenter.launch(batch) for batch in inputs]
        for batch, expected in zip(launched, eager, strict=True):
            assert_agree(segmenter.collect(batch), expected, "cpu")
    assert segmenter.engine.graph_count == 4


@pytest.mark.gpu
@needs_cuda
def test_a_batch_is_launched_without_waiting_for_the_device(card: ModelCard, frames: list[Frame]) -> None:
    segmenter = cuda_segmenter(card)
    inputs = [segmenter.prepare(frames[0])] * 3
    with segmenter.engine.starting():
        for _ in range(5):
            segmenter.segment_prepared(inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = segmenter.launch(inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # What is left is the wait of `collect` for the event after the copy of the classes.
    assert batch.labels.finished is not None
    assert len(segmenter.collect(batch)) == 3


@pytest.mark.gpu
@needs_cuda
def test_a_lack_of_device_memory_passes(card: ModelCard, frames: list[Frame]) -> None:
    segmenter = cuda_segmenter(card)
    before = segmenter.segment(frames[:1])
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 2**28) / total))
    try:
        inputs = [segmenter.prepare(frames[0], long_side=4096)] * 32
        with pytest.raises(DeviceMemoryError, match="needs room on the device"):
            segmenter.segment_prepared(inputs)
        assert_agree(segmenter.segment(frames[:1]), before, "cpu")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
