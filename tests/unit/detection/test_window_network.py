"""The sliding-window network: its windows, its outputs, and that a crop gives what the picture gives there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vision.detection.window_network import (
    WindowArchitecture,
    WindowGeometry,
    WindowNetwork,
    build_window_classifier,
    joint_logits,
)
from vision.errors import ConfigError

GEOMETRY = WindowGeometry((27, 23), 4, ((12.0, 12.0), (18.0, 8.0)))


def test_outputs_have_a_row_for_each_window_and_aspect(window_network: WindowNetwork) -> None:
    assert window_network.geometry.crop_hw == (27, 23)
    classes, objectness, deltas = window_network(torch.zeros(2, 3, 27 + 4 * 3 + 3, 23 + 4 * 4))
    assert classes.shape == (2, 4 * 5 * 2, 3)
    assert objectness.shape == (2, 4 * 5 * 2)
    assert deltas.shape == (2, 4 * 5 * 2, 4)


def test_each_crop_gives_the_rows_of_its_window(window_network: WindowNetwork) -> None:
    image = torch.randn(1, 3, 39, 35)
    whole = window_network(image)
    assert whole[1].std() > 0.1
    for row in range(4):
        for column in range(4):
            crop = image[:, :, 4 * row : 4 * row + 27, 4 * column : 4 * column + 23]
            first = 2 * (4 * row + column)
            for all_windows, one in zip(whole, window_network(crop), strict=True):
                torch.testing.assert_close(all_windows[:, first : first + 2], one, rtol=0, atol=1e-5)


def test_the_classifier_of_crops_has_the_same_weights_and_outputs() -> None:
    torch.manual_seed(0)
    architecture = WindowArchitecture(stride=4, depth=1, cells_hw=(2, 1), hidden=6, aspects=(1.0,))
    classifier = build_window_classifier(architecture, 2).eval()
    torch.manual_seed(0)
    network = WindowNetwork(architecture, 2).eval()
    crops = torch.randn(3, 3, *classifier.native_hw)
    with torch.inference_mode():
        classes, objectness, deltas = network(crops)
        expected = classifier(crops)  # [3, 2 + 1 + 4]
    found = torch.cat([classes[:, 0], objectness, deltas[:, 0]], dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_nominal_boxes_are_centred_on_their_windows() -> None:
    boxes = GEOMETRY.nominal_boxes((2, 3))
    assert boxes.shape == (2 * 3 * 2, 4)
    assert boxes[0].tolist() == [11.5 - 6, 13.5 - 6, 11.5 + 6, 13.5 + 6]
    assert boxes[1].tolist() == [11.5 - 4, 13.5 - 9, 11.5 + 4, 13.5 + 9]
    assert (boxes[2] - boxes[0]).tolist() == [4, 0, 4, 0]  # next column
    assert (boxes[6] - boxes[0]).tolist() == [0, 4, 0, 4]  # next row


@pytest.mark.parametrize(
    ("size_hw", "grid_hw"), [((27, 23), (1, 1)), ((26, 100), (0, 20)), ((31, 26), (2, 1)), ((30, 27), (1, 2))]
)
def test_windows_inside_a_picture(size_hw: tuple[int, int], grid_hw: tuple[int, int]) -> None:
    assert GEOMETRY.grid_hw(size_hw) == grid_hw


def test_the_sides_of_nominal_boxes_keep_area_and_aspect() -> None:
    sides = WindowArchitecture(size=20.0, aspects=(0.5, 2.5)).sides_hw
    for (height, width), aspect in zip(sides, (0.5, 2.5), strict=True):
        assert height * width == pytest.approx(400)
        assert height / width == pytest.approx(aspect)


def test_an_architecture_goes_through_a_card_and_back() -> None:
    architecture = WindowArchitecture(depth=1, aspects=(2.0,), cells_hw=(4, 2))
    table = {"family": "window", **architecture.to_dict()}
    assert isinstance(table["aspects"], list)
    assert WindowArchitecture.from_table(table) == architecture


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stride": 5}, r"window stride must be of tf_efficientnet_lite0's \(4, 8, 16, 32\), got 5"),
        ({"depth": 9}, r"at most the 6 blocks .* behind stride 8, got 9"),
        ({"hidden": 0}, "hidden and cells_hw >= 1"),
        ({"aspects": ()}, r"aspects must be > 0"),
        ({"size": -1.0}, "got -1.0"),
    ],
)
def test_impossible_architectures_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        WindowNetwork(dataclasses.replace(WindowArchitecture(), **values), 1)  # type: ignore[arg-type]


@given(st.lists(st.floats(-12, 12), min_size=2, max_size=4), st.floats(-12, 12))
def test_joint_logits_are_the_product_of_both_probabilities(classes: list[float], objectness: float) -> None:
    class_logits = torch.tensor(classes, dtype=torch.float64)
    found = joint_logits(class_logits, torch.tensor(objectness, dtype=torch.float64)).sigmoid()
    expected = 1 / (1 + np.exp(-objectness)) * class_logits.softmax(dim=0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_one_class_leaves_the_objectness_as_it_is() -> None:
    objectness = torch.tensor([[-60.0, 0.0, 60.0]])
    assert torch.equal(joint_logits(torch.randn(1, 3, 1), objectness)[..., 0], objectness)
