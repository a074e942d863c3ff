"""The device detector on CPU tensors: grouping, thresholds a frame, lack of memory; what needs CUDA is in
tests/golden/test_device_agrees.py."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.detection import device_decode
from vision.detection.anchors import AnchorConfig, make_anchors
from vision.detection.config import DetectorConfig
from vision.detection.detector import AnchorDetector, PreparedDetector
from vision.detection.device_decode import Effort
from vision.detection.device_detector import DeviceDetector
from vision.errors import ConfigError, DeviceMemoryError, InvalidInputError
from vision.runtime.device_batches import place_network
from vision.types import Detections, Frame

NAMES = ("person", "bicycle", "car")


class BrightnessNetwork(nn.Module):
    """Fires one anchor of each class for each picture; the score tells the mean of the picture."""

    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        self.room = room
        self.batches: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.batches.append(tuple(images.shape))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 PiB. GPU 0 has 3 bytes")
        counts = make_anchors(AnchorConfig(), tuple(images.shape[2:])).counts
        # No two alike: which of two equal scores comes first is nobody's promise.
        logits = torch.linspace(-30, -20, sum(counts) * len(NAMES)).reshape(1, -1, len(NAMES)).repeat(len(images), 1, 1)
        for label in range(len(NAMES)):
            logits[:, sum(counts[:2]) + label, label] = images.mean(dim=(1, 2, 3)) - 0.1 * label
        return logits, torch.zeros((len(images), sum(counts), 4))


class NumpyEngine:
    """The same network as AnchorDetector takes it."""

    name = "stand-in"

    def __init__(self) -> None:
        self.network = BrightnessNetwork()

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        return [output.numpy() for output in self.network(torch.from_numpy(batch))]


def facts(**config: Any) -> dict[str, Any]:
    return {
        "anchors": AnchorConfig(),
        "multiple": 64,
        "class_names": NAMES,
        "normalization": TENSORFLOW_NORMALIZATION,
        "long_side": 128,
        "config": DetectorConfig(**{"conf": 0.01, **config}),
    }


def make_detector(network: nn.Module | None = None, **config: Any) -> DeviceDetector:
    return DeviceDetector(network or BrightnessNetwork(), torch.device("cpu"), **facts(**config))


def picture(size_hw: tuple[int, int], seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    return Frame((rng.integers(0, 256, (*size_hw, 3)) * rng.uniform(0.2, 1)).astype(np.uint8))


def assert_close(found: Detections, wanted: Detections) -> None:
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-4)


SIZES = [(96, 128), (300, 100), (48, 64), (128, 128), (96, 128), (200, 150), (96, 128), (64, 64)]


def test_it_is_a_detector_whose_work_splits() -> None:
    detector = make_detector()
    assert isinstance(detector, PreparedDetector)
    assert detector.engine.name == "device:cpu"
    assert detector.detect([]) == []


def test_it_finds_what_the_anchor_detector_finds_in_any_company() -> None:
    frames = [picture(size_hw, seed) for seed, size_hw in enumerate(SIZES)]
    network = BrightnessNetwork()
    found = make_detector(network).detect(frames)
    for own, wanted in zip(found, AnchorDetector(NumpyEngine(), **facts()).detect(frames), strict=True):
        assert_close(own, wanted)
    assert sum(len(own) for own in found) >= 2 * len(frames)
    # One batch a shape of network input (seven of them pad to a square), rounded up to the next bucket.
    assert sorted(shape[0] for shape in network.batches) == [1, 8]


def test_the_answers_keep_the_order_of_the_inputs() -> None:
    """Pictures of one size are put side by side in the batch; the caller must not notice."""
    detector = make_detector()
    frames = [picture(size_hw, seed) for seed, size_hw in enumerate([(96, 128), (48, 64), (96, 128), (128, 128)] * 2)]
    together = detector.detect_prepared([detector.prepare(frame) for frame in frames])
    for frame, found in zip(frames, together, strict=True):
        assert_close(found, detector.detect([frame])[0])
        assert (found.boxes <= np.tile(frame.size_hw[::-1], 2)).all()


def test_thresholds_of_each_frame() -> None:
    detector, reference = make_detector(), AnchorDetector(NumpyEngine(), **facts())
    frame = picture((96, 128))
    configs = [
        DetectorConfig(conf=0.01, max_det=1),
        DetectorConfig(conf=0.01, classes=("car", "bicycle")),
        DetectorConfig(conf=1.0),
        DetectorConfig(conf=0.01, iou=0.01, class_agnostic=True),
    ]
    found = detector.detect_prepared([detector.prepare(frame, config) for config in configs])
    for own, config in zip(found, configs, strict=True):
        assert_close(own, reference.detect_prepared([reference.prepare(frame, config)])[0])
    assert [len(own) for own in found] == [1, 2, 0, 1]


def test_long_side_of_the_frame_then_of_the_configuration_then_of_the_model() -> None:
    def shape_of(detector: DeviceDetector, config: DetectorConfig | None = None) -> object:
        return detector.prepare(picture((96, 128)), config).letterbox.padded_hw

    assert shape_of(make_detector()) == (128, 128)
    assert shape_of(make_detector(long_side=256)) == (192, 256)
    assert shape_of(make_detector(long_side=256), DetectorConfig(long_side=512)) == (384, 512)
    assert shape_of(make_detector(long_side=256), DetectorConfig()) == (128, 128)


def test_an_unknown_class_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'person'"):
        make_detector().prepare(picture((64, 64)), DetectorConfig(classes=("persn",)))
    with pytest.raises(ConfigError, match="did you mean 'person'"):
        make_detector(classes=("persn",))


def test_a_picture_may_change_once_it_is_prepared() -> None:
    detector, image = make_detector(), picture((96, 128)).image.copy()
    waiting = detector.prepare(Frame(image))
    (before,) = detector.detect([Frame(image.copy())])
    image[:] = 0
    assert_close(detector.detect_prepared([waiting])[0], before)


def test_what_waits_says_how_much_it_holds() -> None:
    assert make_detector().prepare(picture((96, 128))).nbytes == 96 * 128 * 3


def test_batches_larger_than_the_largest_bucket() -> None:
    network = BrightnessNetwork()
    detector = make_detector(network)
    inputs = [detector.prepare(picture((64, 64), seed)) for seed in range(37)]
    found = detector.detect_prepared(inputs)
    assert [shape[0] for shape in network.batches] == [32, 8]
    assert_close(found[36], detector.detect([picture((64, 64), 36)])[0])


def test_a_batch_has_one_shape() -> None:
    detector = make_detector()
    inputs = [detector.prepare(picture(size_hw)) for size_hw in ((96, 128), (300, 100))]
    for wrong in ([], inputs):
        with pytest.raises(InvalidInputError, match="1 to 32 inputs of one shape_key"):
            detector.launch(wrong)


def test_two_batches_may_be_under_way() -> None:
    detector = make_detector()
    inputs = [[detector.prepare(picture((96, 128), seed))] for seed in range(3)]
    launched = [detector.launch(batch) for batch in inputs]
    for seed, batch in reversed(list(enumerate(launched))):
        assert_close(detector.collect(batch)[0], detector.detect([picture((96, 128), seed)])[0])


def test_more_candidates_than_expected_are_all_seen() -> None:
    network = BrightnessNetwork()
    detector = make_detector(network, conf=0.0, pre_nms=700)
    reference = AnchorDetector(NumpyEngine(), **facts(conf=0.0, pre_nms=700))
    frame = picture((96, 128))
    (found,) = detector.detect([frame])
    assert [shape[0] for shape in network.batches] == [1, 1]  # again with more room
    assert_close(found, reference.detect([frame])[0])
    for _ in range(3):
        detector.detect([frame])
    network.batches.clear()
    (again,) = detector.detect([frame])
    assert len(network.batches) == 1  # and at once when that goes on
    assert_close(again, found)


@pytest.mark.parametrize(
    "options", [{"conf": 0.0}, {"conf": 0.01}, {"conf": 0.4, "long_side": 256}], ids=["all scores", "low", "size"]
)
def test_odd_requests_stay_by_themselves(options: dict[str, Any]) -> None:
    """Nobody's thresholds may cost all the others their recorded graphs."""
    network = BrightnessNetwork()
    detector = make_detector(network, conf=0.4)
    reference = AnchorDetector(NumpyEngine(), **facts(conf=0.4))
    frame, config = picture((96, 128)), DetectorConfig(**options)
    usual, odd = detector.prepare(frame), detector.prepare(frame, config)
    assert usual.shape_key != odd.shape_key
    for _ in range(6):
        (found,) = detector.detect_prepared([odd])
    assert_close(found, reference.detect_prepared([reference.prepare(frame, config)])[0])
    assert len(detector.engine._batches.calls) == 0  # no buffers are kept for it
    network.batches.clear()
    detector.detect_prepared([usual])
    assert len(network.batches) == 1
    assert detector._effort.current == Effort(256)


def test_low_scores_are_usual_where_the_detector_is_set_to_them() -> None:
    detector = make_detector(conf=0.001)
    assert not detector.prepare(picture((96, 128)), DetectorConfig(conf=0.001)).is_odd
    assert not detector.prepare(picture((96, 128)), DetectorConfig(conf=0.3, long_side=128)).is_odd
    assert detector.prepare(picture((96, 128)), DetectorConfig(conf=0.0001)).is_odd


@pytest.mark.parametrize("size_hw", [(1, 3000), (3000, 1), (2, 65535), (1, 1)])
def test_pictures_of_odd_forms(size_hw: tuple[int, int]) -> None:
    detector, reference = make_detector(), AnchorDetector(NumpyEngine(), **facts())
    frame = picture(size_hw)
    assert_close(detector.detect([frame])[0], reference.detect([frame])[0])


def test_a_closed_detector_holds_no_buffers() -> None:
    detector = make_detector()
    detector.detect([picture((96, 128))])
    engine = weakref.ref(detector.engine)
    detector.close()
    del detector
    assert engine() is None  # without the garbage collector, which never looks at what the start has made


def test_suppression_that_takes_more_rounds_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    efforts: list[Effort] = []
    original = device_decode.suppress

    def unsettled(*args: Any, rounds: int) -> tuple[Tensor, Tensor]:
        efforts.append(Effort(args[0].shape[1], rounds))
        kept, settled = original(*args, rounds=rounds)
        return kept, settled & (rounds > 16)

    monkeypatch.setattr(device_decode, "suppress", unsettled)
    (found,) = make_detector().detect([picture((96, 128))])
    assert len(found) == 3
    assert efforts == [Effort(256, 16), Effort(256, 256)]


# --- memory ---


def test_a_lack_of_memory_is_an_error_of_ours_and_passes() -> None:
    detector = make_detector(BrightnessNetwork(room=4))
    inputs = [detector.prepare(picture((96, 128), seed)) for seed in range(8)]
    with pytest.raises(DeviceMemoryError, match=r"a batch of 8 needs room on the device, got: CUDA out of memory;"):
        detector.detect_prepared(inputs)
    found = [own for start in (0, 4) for own in detector.detect_prepared(inputs[start : start + 4])]
    for seed, own in enumerate(found):
        assert_close(own, make_detector().detect([picture((96, 128), seed)])[0])


def test_buffers_of_other_shapes_are_given_up_first() -> None:
    network = BrightnessNetwork(room=4)
    detector = make_detector(network)
    detector.detect([picture((96, 128))])
    network.batches.clear()
    with pytest.raises(DeviceMemoryError):
        detector.detect_prepared([detector.prepare(picture((96, 128)))] * 8)
    assert [shape[0] for shape in network.batches] == [8, 8]


def test_other_errors_of_the_network_pass_through() -> None:
    class Broken(BrightnessNetwork):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        make_detector(Broken()).detect([picture((96, 128))])


def test_autotune_finds_the_largest_batch_there_is_room_for() -> None:
    tuning = make_detector(BrightnessNetwork(room=2)).autotune((96, 128), repeats=2)
    assert tuning.out_of_memory == 4
    assert tuning.cap in (1, 2)


def test_start_up_takes_the_cap_that_suits_all_sizes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    cap = make_detector(BrightnessNetwork(room=2)).start_up([(96, 128), (300, 100)])
    assert cap in (1, 2)
    assert "device:cpu, pictures of 128 x 96: batches of at most" in caplog.text


def test_warm_up_runs_every_bucket() -> None:
    network = BrightnessNetwork()
    make_detector(network).warm_up((96, 128), largest_batch=8)
    assert [shape[0] for shape in network.batches] == [1, 2, 4, 8]


def test_only_the_weights_that_autocast_converts_are_converted() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    placed = place_network(network, torch.device("cpu"), torch.bfloat16)
    assert {name: value.dtype for name, value in placed.named_parameters()} == {
        "0.weight": torch.bfloat16, "0.bias": torch.bfloat16, "1.weight": torch.float32, "1.bias": torch.float32
    }  # fmt: skip
    assert not any(value.requires_grad for value in placed.parameters())
