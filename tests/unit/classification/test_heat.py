"""Heat maps: windows where the geometry says, the classifier's own probabilities, a drawing that shows the place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision.backbones.registry import build_classifier
from vision.classification.classifier import LoadedNetwork, start_engine
from vision.classification.config import ClassifierConfig
from vision.classification.heat import HeatAnnotator, HeatMapper, WindowGrid, build_heat_mapper, draw_heat, heat_label
from vision.classification.input import InputSpec
from vision.classification.readout import Readout
from vision.errors import ConfigError, InvalidInputError
from vision.runtime.config import RuntimeConfig
from vision.types import Classification, Frame, FrameResult

TORCH = RuntimeConfig(device="cpu", engine="torch", threads=1)
NAMES = ("ant", "bee", "cat")
MULTICLASS = Readout(task="multiclass", class_names=NAMES)


def load(name: str = "lenet5_rgb", readout: Readout = MULTICLASS) -> LoadedNetwork:
    torch.manual_seed(0)
    network = build_classifier(name, readout.outputs).eval()
    spec = InputSpec(size_hw=network.native_hw, resize="stretch", normalization=network.backbone.normalization)
    return LoadedNetwork(network, spec, readout, "0" * 64)


def picture(size_hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def mapper_at(long_side: int, **settings: object) -> HeatMapper:
    return build_heat_mapper(load(), ClassifierConfig(heat_long_side=long_side, **settings), TORCH)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_each_window_has_the_probabilities_of_its_crop(engine: str) -> None:
    """LeNet pads nothing, so a window is the crop exactly."""
    runtime = RuntimeConfig(device="cpu", engine=engine, threads=1)
    loaded, image = load(), picture((40, 48))
    windows = build_heat_mapper(loaded, ClassifierConfig(heat_long_side=48), runtime).windows(image)
    assert windows.shape == (3, 3, 5)
    classifier = start_engine(loaded, ClassifierConfig(top=0), runtime)
    crops = [Frame(image[y : y + 32, x : x + 32]) for y in (0, 4, 8) for x in (0, 4, 8, 12, 16)]
    np.testing.assert_allclose(windows.reshape(3, -1).T, classifier.outputs(crops), atol=1e-5)


def test_values_stand_at_the_centres_of_their_windows() -> None:
    grid = WindowGrid((32, 32), 16, 128)
    box = grid.letterbox((256, 256))
    cells = np.zeros((7, 7), np.float32)
    cells[2, 5] = 1
    heat = grid.spread(cells, box)
    assert heat.shape == (256, 256)
    y, x = np.argwhere(heat == heat.max()).mean(axis=0) + 0.5
    # Scaled to a half, the window begins at (80, 32) and is centred on (96, 48): on (192, 96) of the picture.
    assert (x, y) == pytest.approx((192, 96), abs=1)
    np.testing.assert_allclose(grid.spread(np.full((7, 7), 0.3, np.float32), box), 0.3, atol=1e-6)


def test_the_border_has_the_values_of_the_outermost_windows() -> None:
    grid = WindowGrid((32, 32), 16, 64)
    heat = grid.spread(np.float32([[0, 0, 1]] * 3), grid.letterbox((64, 64)))
    assert (heat[:, 48:] == 1).all()
    assert (heat[:, :32] == 0).all()


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 400), (400, 5), (31, 33), (90, 47)])
def test_pictures_of_any_shape_hold_a_window(size_hw: tuple[int, int]) -> None:
    mapper = mapper_at(48)
    assert min(mapper.windows(picture(size_hw)).shape) >= 1
    heat = mapper.heat(picture(size_hw), 1)
    assert heat.shape == size_hw
    assert ((heat >= 0) & (heat <= 1)).all()


def test_smaller_windows_where_the_network_pools_everything() -> None:
    loaded = load("mobilenet_v3_small")
    image = picture((96, 128))
    shapes = [
        build_heat_mapper(loaded, ClassifierConfig(heat_window=side, heat_long_side=128), TORCH).windows(image).shape
        for side in (32, 64, 96)
    ]
    assert shapes == [(3, 3, 4), (3, 2, 3), (3, 1, 2)]


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("lenet5_rgb", 16, r"a window that lenet5_rgb can classify, got 16 x 16 pixels"),
        ("mobilenet_v3_small", 50, r"a multiple of the stride 32, got 50"),
    ],
)
def test_a_window_that_cannot_be_is_refused(name: str, side: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_heat_mapper(load(name), ClassifierConfig(heat_window=side), TORCH)


def test_classes_are_names_of_the_model() -> None:
    assert heat_label(ClassifierConfig(heat_class="bee"), MULTICLASS) == 1
    assert heat_label(ClassifierConfig(), MULTICLASS) is None
    with pytest.raises(ConfigError, match=r"got 'be' .did you mean 'bee'"):
        heat_label(ClassifierConfig(heat_class="be"), MULTICLASS)
    with pytest.raises(ConfigError, match="measures a value"):
        heat_label(ClassifierConfig(), Readout(task="regression"))


@pytest.mark.parametrize("settings", [{"heat_long_side": 8}, {"heat_window": -1}])
def test_settings_out_of_range(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="640 and 0 are the defaults"):
        ClassifierConfig(**settings)


def test_hot_parts_glow_and_cold_parts_fade() -> None:
    heat = np.zeros((40, 40), np.float32)
    heat[:, 20:] = 0.2
    image = np.full((40, 40, 3), 100, np.uint8)
    drawn = draw_heat(image, heat)
    assert (drawn[:, :20] < 60).all()
    assert (drawn[:, 20:, 0] > 150).all()
    assert (draw_heat(image, np.zeros((40, 40), np.float32)) < 60).all()
    assert (image == 100).all()


def test_the_annotator_shows_the_named_class_or_the_best() -> None:
    mapper, frame = mapper_at(64), Frame(picture((64, 64)))
    best = FrameResult(0, classification=Classification(np.array([2]), np.float32([0.6]), ("cat",), assigned=1))
    chosen = HeatAnnotator(mapper).draw(frame, best)
    np.testing.assert_array_equal(chosen, HeatAnnotator(mapper, 2).draw(frame, FrameResult(0)))
    assert (chosen != HeatAnnotator(mapper, 0).draw(frame, best)).any()
    with pytest.raises(InvalidInputError, match="needs a class"):
        HeatAnnotator(mapper).draw(frame, FrameResult(0))
