"""Models on a GPU as they are served: their batch size is measured, and the batches of some may overlap."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from service.batching import Batcher
from service.loading import BOXES, upright_boxes, warm_up
from service.models import ServedDetector, ServedEmbedder, ServedSegmenter
from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.detection.anchors import AnchorConfig, make_anchors
from vision.detection.config import DetectorConfig
from vision.detection.device_detector import DeviceDetector
from vision.errors import DeviceMemoryError
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.device_segmenter import DeviceSegmenter
from vision.types import Detections, Frame

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def served_with(detector: object) -> ServedDetector:
    served = ServedDetector.__new__(ServedDetector)
    served.detector = detector  # type: ignore[assignment]
    served.max_batch, served.engine = 1, "fake"
    return served


def served_segmenter(segmenter: DeviceSegmenter) -> ServedSegmenter:
    served = ServedSegmenter.__new__(ServedSegmenter)
    served.segmenter, served.class_names, served.max_batch = segmenter, segmenter.class_names, 1
    return served


class Counted:
    """A model without a path of its own that remembers its batches; it has memory for ``room`` inputs."""

    engine = "torch:cuda:0"

    def __init__(self, task: str, *, room: int = 1000, one_size: bool = False) -> None:
        self.task, self.room, self.one_size = task, room, one_size
        self.max_batch = 1
        self.batches: list[int] = []
        self.boxes: list[int] = []

    def prepare(self, frame: Frame, options: Any = None) -> Any:
        self.boxes.append(0 if options is None else len(options))
        return SimpleNamespace(shape_key="crops" if self.one_size else frame.size_hw)

    def run(self, inputs: list[Any]) -> list[Any]:
        assert len({item.shape_key for item in inputs}) == 1
        if len(inputs) > self.room:
            raise DeviceMemoryError("no room")
        self.batches.append(len(inputs))
        return inputs


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the sizes of the pictures that are run."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(ServedDetector, "prepare", lambda self, frame: frame)
    monkeypatch.setattr(ServedDetector, "run", lambda self, inputs: seen.extend(item.size_hw for item in inputs))
    return seen


def test_what_has_a_path_of_its_own_measures_itself(
    monkeypatch: pytest.MonkeyPatch, shapes: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(DeviceDetector, "start_up", lambda self: 16)
    served = served_with(DeviceDetector.__new__(DeviceDetector))
    warm_up(served, CUDA)
    assert served.max_batch == 16
    assert len(shapes) == 2


@pytest.mark.parametrize("task", ["detect", "segment", "classify", "embed"])
def test_all_others_are_measured_on_a_gpu(task: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    served = Counted(task)
    warm_up(served, CUDA)
    assert 1 <= served.max_batch <= 32
    assert max(served.batches) >= 4  # a single step without a gain does not end the search
    assert served.batches[-2:] == [1, 1]
    assert f"{task} with torch:cuda:0, pictures of 640 x 480: batches of at most" in caplog.text


@pytest.mark.parametrize("task", ["detect", "segment", "classify", "embed"])
def test_on_a_cpu_nothing_is_measured(task: str) -> None:
    served = Counted(task)
    warm_up(served, CPU)
    assert served.max_batch == 1
    assert served.batches == [1, 1]


def test_the_search_ends_where_memory_ends() -> None:
    served = Counted("classify", room=2)
    warm_up(served, CUDA)
    assert served.max_batch in (1, 2)
    with pytest.raises(DeviceMemoryError):
        warm_up(Counted("classify", room=0), CUDA)


def test_models_that_scale_all_pictures_to_one_size_are_measured_once() -> None:
    def tuned(**options: Any) -> int:
        served = Counted("classify", room=1, **options)
        warm_up(served, CUDA)
        return len(served.batches)

    assert tuned() - 2 == 2 * (tuned(one_size=True) - 2)


def test_an_input_of_an_embedder_is_a_frame_with_boxes() -> None:
    served = Counted("embed", one_size=True)
    warm_up(served, CUDA)
    assert set(served.boxes) == {BOXES}
    boxes = upright_boxes((480, 640))
    assert boxes.shape == (BOXES, 4)
    assert boxes.dtype == np.float32
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    assert (boxes <= [640, 480, 640, 480]).all()


def test_embedders_take_what_the_search_gives_them() -> None:
    embedder = SimpleNamespace(embed=lambda frame, boxes: np.zeros((len(boxes), 8), np.float32))
    served = ServedEmbedder.__new__(ServedEmbedder)
    served.embedder, served.engine, served.max_batch = embedder, "fake", 1  # type: ignore[assignment]
    warm_up(served, CUDA)
    assert 1 <= served.max_batch <= 32


def test_a_detector_without_an_engine_lacks_memory_as_all_others_do() -> None:
    def detect(frames: list[Frame]) -> list[Detections]:
        if len(frames) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 PiB")
        return [Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))]

    served = served_with(SimpleNamespace(detect=detect))
    served.splits, served.class_names, served.config = False, ("person",), DetectorConfig(conf=0.1, iou=0.5)
    items = [served.prepare(Frame(np.zeros((48, 64, 3), np.uint8)))] * 2
    with pytest.raises(DeviceMemoryError, match="a batch of 2 needs room on the device"):
        served.run(items)
    assert len(served.run(items[:1])) == 1


class Network(nn.Module):
    """Fires one anchor a picture; the score tells its brightness."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        count = len(make_anchors(AnchorConfig(), (64, 64)).boxes)
        logits = torch.full((len(images), count, 1), -9.0)
        logits[:, 70, 0] = images.mean(dim=(1, 2, 3))
        return logits, torch.zeros((len(images), count, 4))


def test_overlapping_batches_give_what_the_detector_gives() -> None:
    detector = DeviceDetector(
        Network(),
        torch.device("cpu"),
        anchors=AnchorConfig(),
        multiple=64,
        class_names=("person",),
        normalization=TENSORFLOW_NORMALIZATION,
        long_side=64,
        config=DetectorConfig(conf=0.1),
    )
    frames = [Frame(np.full((64, 48, 3), 100 + number, np.uint8)) for number in range(60)]
    answers: dict[int, Any] = {}
    batcher = Batcher(detector.detect_prepared, max_batch=4, launcher=served_with(detector).launcher)
    for number, frame in enumerate(frames):
        batcher.submit(detector.prepare(frame), lambda served, error, number=number: answers.update({number: served}))
    batcher.close()
    for number, frame in enumerate(frames):
        np.testing.assert_allclose(answers[number].value.scores, detector.detect([frame])[0].scores, atol=1e-6)
    assert len({answers[number].value.scores[0] for number in range(60)}) == 60
    assert max(answers[number].batch for number in range(60)) <= 4


class Brightness(nn.Module):
    """Tells three classes by how light a cell of eight pixels is."""

    def forward(self, images: Tensor) -> Tensor:
        light = images[:, 0, ::8, ::8]
        return torch.stack([-light, torch.full_like(light, 0.2), light], 1)


def test_a_segmenter_on_the_device_is_served_with_overlapping_batches() -> None:
    segmenter = DeviceSegmenter(
        Brightness(),
        CPU,
        class_names=("dark", "grey", "light"),
        normalization=TENSORFLOW_NORMALIZATION,
        multiple=64,
        long_side=64,
    )
    served = served_segmenter(segmenter)
    assert served.launcher is segmenter
    frames = [Frame(np.full((64, 48, 3), shade, np.uint8)) for shade in (10, 127, 250) * 10]
    options = SegmenterConfig(classes=("light",), long_side=100)
    answers: dict[int, Any] = {}
    batcher = Batcher(served.run, max_batch=4, launcher=served.launcher)
    for number, frame in enumerate(frames):
        item = served.prepare(frame, options if number % 2 else None)
        batcher.submit(item, lambda answer, error, number=number: answers.update({number: answer}))
    batcher.close()
    for number in range(len(frames)):
        found, shade = answers[number].value, number % 3
        assert found.labels.shape == (64, 48)
        assert found.class_names == (("other", "light") if number % 2 else segmenter.class_names)
        middle = found.labels[8:40, 8:24]
        assert (middle == (shade == 2 if number % 2 else shade)).all()
        assert answers[number].batch <= 4
    served.close()
