"""The device detector gives the detections of the reference engine: on CPU tensors always, on CUDA where there is one.

On CUDA it also waits for the device once a batch, outlives a lack of memory, and replays graphs.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from vision.build import build_detector
from vision.card import ModelCard
from vision.detection.config import DetectorConfig
from vision.detection.detector import load_anchor_detector
from vision.detection.device_detector import DeviceDetector, load_device_detector
from vision.errors import DeviceMemoryError, ModelNotFoundError
from vision.geometry.iou import pairwise_iou
from vision.runtime.config import Precision, RuntimeConfig
from vision.store import find_model
from vision.types import Detections, Frame

# Boxes in pixels and scores, by what the network computes in. Single precision differs in the last step of a grey level
# here and there; on CUDA its convolutions run in TF32, with the mantissa of fp16. bf16 has three bits less: measured
# on twenty pictures, boxes move by up to 5 pixels, which is why it is not the choice on CUDA.
TOLERANCES: dict[str, tuple[float, float]] = {"cpu": (0.5, 2e-3), "fp32": (0.5, 4e-3), "fp16": (1.0, 1e-2)}
# A detection within the score's tolerance of the threshold may be there or not.
CONF = 0.15
SIZES = [(240, 320), (320, 180), (97, 301), (720, 1280), (64, 64), (512, 512), (240, 320), (300, 400)]

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; this machine has none")


@pytest.fixture(scope="module")
def card() -> ModelCard:
    try:
        found = find_model("person-lite0", kind="detector")
    except ModelNotFoundError:
        pytest.skip("needs the default weights person-lite0 in the model store")
    if not found.weights_path.is_file():
        pytest.skip(f"needs the weights file of {found.name}, which is not beside its card")
    return found


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def street(size_hw: tuple[int, int], seed: int) -> Frame:
    """Return a smooth background with upright figures, in some of which the detector sees people."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    image = np.stack([120 + 60 * np.sin((x + shift) / width * 5) + 40 * y / height for shift in (0, 40, 80)], axis=2)
    for _ in range(5):
        tall = rng.integers(height // 4, height // 2 + 1)
        top, left = rng.integers(0, height - tall + 1), rng.integers(0, max(width - tall // 3, 1))
        wide = max(tall // 4, 1)
        skin, coat, legs = (rng.integers(0, 256, 3) for _ in range(3))
        image[top : top + tall, left : left + wide] = coat
        image[top + tall // 2 : top + tall, left : left + wide] = legs
        image[top : top + tall // 6, left + wide // 4 : left + 3 * wide // 4] = skin
    return Frame(np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8))


def assert_agree(found: Detections, wanted: Detections, tolerance: str) -> None:
    """Assert that all detections but those on the threshold have a partner within the tolerances."""
    boxes, score = TOLERANCES[tolerance]
    rows, columns = linear_sum_assignment(-pairwise_iou(found.boxes, wanted.boxes))
    near = np.abs(found.boxes[rows] - wanted.boxes[columns]).max(axis=1, initial=0) <= boxes
    rows, columns = rows[near], columns[near]
    np.testing.assert_allclose(found.scores[rows], wanted.scores[columns], rtol=0, atol=score)
    for own, partners in ((found, rows), (wanted, columns)):
        alone = np.delete(own.scores, partners)
        assert (alone <= CONF + score).all(), f"no partner for the scores {alone}"


FRAMES = [street(size_hw, seed) for seed, size_hw in enumerate(SIZES)]


def reference(card: ModelCard, device: str, config: DetectorConfig) -> list[Detections]:
    """Return what the reference engine finds, which preprocesses and decodes on the CPU."""
    detector = load_anchor_detector(card, config, RuntimeConfig(device=device, engine="torch", threads=1))
    return [detector.detect([frame])[0] for frame in FRAMES]


def test_cpu_tensors_agree_with_the_reference(card: ModelCard) -> None:
    config = DetectorConfig(conf=CONF, iou=0.5, long_side=384)
    detector = load_device_detector(card, config, RuntimeConfig(device="cpu"))
    wanted = reference(card, "cpu", config)
    assert sum(len(own) for own in wanted) >= 5
    for own, expected in zip(detector.detect(FRAMES), wanted, strict=True):
        assert_agree(own, expected, "cpu")


def test_the_build_chooses_it_on_cuda_alone(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    config, auto = DetectorConfig(model=card.name), RuntimeConfig()
    monkeypatch.setattr("vision.detection.registry.load_device_detector", lambda *_: asked.append("device"))
    monkeypatch.setattr("vision.detection.registry.load_anchor_detector", lambda *_: asked.append("engine"))
    monkeypatch.setattr("vision.detection.registry.resolve_device", lambda _: torch.device("cuda", 0))
    build_detector(config, auto)
    build_detector(config, RuntimeConfig(engine="torch"))
    monkeypatch.setattr("vision.detection.registry.resolve_device", lambda _: torch.device("cpu"))
    build_detector(config, auto)
    assert asked == ["device", "engine", "engine"]


# --- CUDA ---


def cuda_detector(card: ModelCard, precision: Precision = "fp32") -> DeviceDetector:
    return load_device_detector(
        card, DetectorConfig(conf=CONF, iou=0.5), RuntimeConfig(device="cuda", precision=precision)
    )


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_cuda_agrees_with_the_cpu(card: ModelCard, precision: Precision) -> None:
    wanted = reference(card, "cpu", DetectorConfig(conf=CONF, iou=0.5))
    detector = cuda_detector(card, precision)
    for _ in range(5):  # from eager runs to graphs
        for own, expected in zip(detector.detect(FRAMES), wanted, strict=True):
            assert_agree(own, expected, precision)
    assert detector.engine.graph_count > 0


@pytest.mark.gpu
@needs_cuda
def test_a_replayed_graph_gives_what_an_eager_run_gives(card: ModelCard) -> None:
    detector = cuda_detector(card)
    inputs = [[detector.prepare(street((480, 640), seed))] * size for seed, size in enumerate((1, 3, 8, 2))]
    eager = [detector.detect_prepared(batch) for batch in inputs]
    for _ in range(6):
        # Launched all at once, so that each replay follows another before its results are read.
        with detector.engine.starting():  # without pauses between recordings
            launched = [detector.launch(batch) for batch in inputs]
        for batch, wanted in zip(launched, eager, strict=True):
            for own, expected in zip(detector.collect(batch), wanted, strict=True):
                assert_agree(own, expected, "fp32")
    assert detector.engine.graph_count == 4


@pytest.mark.gpu
@needs_cuda
def test_a_batch_is_launched_without_waiting_for_the_device(card: ModelCard) -> None:
    detector = cuda_detector(card)
    detector.warm_up((480, 640), largest_batch=4)
    inputs = [detector.prepare(street((480, 640), seed)) for seed in range(3)]
    detector.detect_prepared(inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = detector.launch(inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # What is left is the wait of `collect` for the event after the copy of the results.
    assert batch.results.finished is not None
    assert len(detector.collect(batch)) == 3


@pytest.mark.gpu
@needs_cuda
def test_a_lack_of_device_memory_passes(card: ModelCard) -> None:
    detector = cuda_detector(card)
    frame = street((480, 640), 1)
    before = detector.detect([frame])
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 2**28) / total))
    try:
        huge = DetectorConfig(conf=CONF, long_side=4096)
        inputs = [detector.prepare(frame, huge)] * 32
        with pytest.raises(DeviceMemoryError, match="needs room on the device"):
            detector.detect_prepared(inputs)
        for own, expected in zip(detector.detect([frame]), before, strict=True):
            assert_agree(own, expected, "fp32")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.gpu
@needs_cuda
def test_uploads_from_many_threads_keep_their_pictures(card: ModelCard) -> None:
    detector = cuda_detector(card)
    frames = [Frame(np.full((90 + index % 7, 120, 3), index, np.uint8)) for index in range(200)]
    with ThreadPoolExecutor(8) as pool:
        inputs = list(pool.map(detector.prepare, frames))
    for frame, item in zip(frames, inputs, strict=True):
        np.testing.assert_array_equal(item.picture.receive().cpu().numpy(), frame.image)


@pytest.mark.gpu
@needs_cuda
def test_autotune_on_the_device(card: ModelCard) -> None:
    tuning = cuda_detector(card, "fp16").autotune((480, 640))
    assert tuning.cap >= 2
    assert tuning.tried[-1].images_per_s > tuning.tried[0].images_per_s
