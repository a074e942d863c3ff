"""A picture of any shape fills the input as the spec says, and the card gives the spec back."""

import numpy as np
import pytest

from vision.backbones.interface import HALF_RANGE_NORMALIZATION
from vision.classification.input import InputSpec, centre_crop, input_image
from vision.errors import ConfigError


def spec(resize="crop", size_hw=(8, 8), crop_share=1.0):
    return InputSpec(size_hw=size_hw, resize=resize, crop_share=crop_share, normalization=HALF_RANGE_NORMALIZATION)


def pixels(tensor):
    return np.round(tensor[0] * 127.5 + 127.5).astype(int)


def striped(height, width):
    """Return a picture whose left half is black and whose right half is white."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 255
    return image


@pytest.mark.parametrize("resize", ["crop", "stretch", "letterbox"])
@pytest.mark.parametrize("size_hw", [(8, 8), (1, 1), (5, 40), (300, 2), (7, 9)])
def test_any_picture_fills_the_input(resize, size_hw):
    tensor = input_image(np.full((*size_hw, 3), 255, np.uint8), spec(resize))
    assert tensor.shape == (3, 8, 8)
    assert tensor.dtype == np.float32
    assert np.isfinite(tensor).all()


def test_crop_shows_the_middle():
    image = np.zeros((8, 24, 3), np.uint8)
    image[:, 8:16] = 255
    assert (pixels(input_image(image, spec("crop"))) == 255).all()


def test_crop_share_takes_less_of_the_middle():
    image = np.zeros((16, 16, 3), np.uint8)
    image[4:12, 4:12] = 255
    assert (pixels(input_image(image, spec("crop", crop_share=0.5))) == 255).all()
    assert pixels(input_image(image, spec("crop")))[0, 0] == 0


def test_stretch_shows_the_whole():
    assert pixels(input_image(striped(8, 32), spec("stretch")))[3].tolist() == [0] * 4 + [255] * 4


def test_letterbox_keeps_the_aspect_and_fills_with_the_mean():
    values = input_image(striped(8, 16), spec("letterbox"))
    assert pixels(values)[0].tolist() == [0] * 4 + [255] * 4
    assert (values[:, 4:] == 0).all()


def test_centre_crop_follows_the_aspect_of_the_input():
    image = np.zeros((100, 100, 3), np.uint8)
    assert centre_crop(image, (64, 32)).shape == (100, 50, 3)
    assert centre_crop(image, (32, 64)).shape == (50, 100, 3)


@pytest.mark.parametrize("resize", ["crop", "stretch", "letterbox"])
def test_card_gives_the_spec_back(resize):
    given = spec(resize, (32, 64), 0.875 if resize == "crop" else 1.0)
    assert InputSpec.from_card(given.to_card()) == given


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resize": "squash"}, "resize must be one of"),
        ({"crop_share": 0.0}, "crop_share"),
        ({"size_hw": (0, 8)}, "size_hw"),
    ],
)
def test_wrong_specs_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        spec(**change)
