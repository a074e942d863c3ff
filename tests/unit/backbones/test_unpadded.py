"""A backbone without padding gives what the padded one gives away from the border, and a crop gives what the whole
picture gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vision.backbones.registry import build_classifier
from vision.backbones.unpadded import ReceptiveField, receptive_field, unpadded
from vision.errors import InvalidInputError

# Field of the first two stages, at stride 8; padding in front of the first cell, in pixels.
FIELDS = {
    "tf_efficientnet_lite0": (67, 26),
    "mobilenet_v2": (59, 29),
    "resnet18": (99, 49),
}


@pytest.fixture(scope="module", params=list(FIELDS))
def stages(request: pytest.FixtureRequest) -> tuple[str, nn.Sequential]:
    """Return a backbone's first two stages in evaluation mode with statistics that are not those of the start."""
    torch.manual_seed(0)
    backbone = build_classifier(request.param, 2).backbone
    with torch.no_grad():
        backbone.train()(torch.randn(4, 3, 64, 64))
    return request.param, nn.Sequential(*list(backbone.stages)[:2]).eval()


def without_padding(module: nn.Module, *, a_trous: bool = False) -> nn.Module:
    return unpadded(module, a_trous=a_trous).eval()


def test_the_field_is_the_smallest_input_of_one_cell(stages: tuple[str, nn.Sequential]) -> None:
    name, padded = stages
    bare = without_padding(padded)
    field = receptive_field(bare)
    assert (field.size, field.stride) == (FIELDS[name][0], 8)
    with torch.inference_mode():
        assert bare(torch.zeros(1, 3, field.size, field.size + 8)).shape[2:] == (1, 2)
        assert bare(torch.zeros(1, 3, field.size + 7, field.size)).shape[2:] == (1, 1)


def test_the_inside_is_what_the_padded_network_computes(stages: tuple[str, nn.Sequential]) -> None:
    name, padded = stages
    size, padding = FIELDS[name]
    bare = without_padding(padded)
    image = torch.randn(1, 3, 192, 192)
    # The padded network's cell i sees pixels from 8 * i - padding on: shift, so that the grids meet.
    shift, skipped = -padding % 8, -(-padding // 8)
    with torch.inference_mode():
        expected = padded(image)
        found = bare(image[:, :, shift:, shift:])
    inside = (192 - shift - size) // 8 + 1
    assert found.shape[2:] == (inside, inside)
    expected = expected[:, :, skipped : skipped + inside, skipped : skipped + inside]
    # The padded network's own depths see its border; cells whose whole field is inside do not.
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_crop_gives_the_cell_of_the_whole_picture(stages: tuple[str, nn.Sequential]) -> None:
    _, padded = stages
    bare = without_padding(padded)
    size = receptive_field(bare).size
    image = torch.randn(1, 3, size + 24, size + 16)
    with torch.inference_mode():
        whole = bare(image)
        for row, column in ((0, 0), (3, 2), (1, 1)):
            crop = image[:, :, 8 * row : 8 * row + size, 8 * column : 8 * column + size]
            torch.testing.assert_close(whole[:, :, row, column], bare(crop)[:, :, 0, 0], rtol=0, atol=1e-5)


def test_a_trous_keeps_the_resolution_and_holds_the_strided_cells(stages: tuple[str, nn.Sequential]) -> None:
    """Every second cell of the dilated stage is the strided stage's: OverFeat's shifted subsampling, all shifts at
    once."""
    _, padded = stages
    strided, dilated = without_padding(padded[1]), without_padding(padded[1], a_trous=True)
    assert receptive_field(strided).stride == 2
    assert receptive_field(dilated) == ReceptiveField(receptive_field(strided).size, 1)
    channels = next(layer.in_channels for layer in padded[1].modules() if isinstance(layer, nn.Conv2d))
    features = torch.randn(1, channels, 30, 31)
    with torch.inference_mode():
        expected = strided(features)
        found = dilated(features)[:, :, ::2, ::2][:, :, : expected.shape[2], : expected.shape[3]]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_plain_layers_pool_and_normalise() -> None:
    chain = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1)
    )
    assert receptive_field(unpadded(chain)) == ReceptiveField(8, 2)
    dilated = unpadded(chain, a_trous=True)
    assert receptive_field(dilated) == ReceptiveField(8, 1)
    assert dilated(torch.zeros(1, 3, 10, 9)).shape == (1, 4, 3, 2)


def test_the_source_stays_as_it_is() -> None:
    source = nn.Conv2d(3, 4, 3, padding=1)
    copy = unpadded(source)
    assert isinstance(copy, nn.Conv2d)
    assert (source.padding, copy.padding) == ((1, 1), (0, 0))
    assert torch.equal(source.weight, copy.weight)
    assert copy.weight.data_ptr() != source.weight.data_ptr()


def test_layers_that_see_the_whole_picture_are_refused() -> None:
    stage = build_classifier("mobilenet_v3_small", 2).backbone.stages[0]
    with pytest.raises(InvalidInputError, match=r"found SqueezeExcitation; choose tf_efficientnet_lite0"):
        unpadded(stage)


def test_average_pooling_behind_a_removed_stride_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no dilated form"):
        unpadded(nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2)), a_trous=True)
