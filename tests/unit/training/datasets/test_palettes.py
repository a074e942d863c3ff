"""Colours of masks: the public palettes, one from a file, and what is wrong with such a file."""

import numpy as np
import pytest

from vision.errors import ConfigError, InvalidInputError
from vision.training.datasets.palettes import CAMVID, VOC_NAMES, find_palette, labels_of_colours, voc_colours

IGNORE = 255


def test_voc_colours():
    palette = find_palette("voc")
    assert palette.names == VOC_NAMES
    # aeroplane, person and the last of 256, as the development kit has them
    assert (palette.colours[1], palette.colours[15]) == ((128, 0, 0), (192, 128, 128))
    assert voc_colours(256)[255] == (224, 224, 192)
    assert len(set(voc_colours(256))) == 256


def test_index_has_no_palette():
    assert find_palette("index") is None


def test_labels_of_voc_colours():
    picture = np.array([[(0, 0, 0), (128, 0, 0)], [(224, 224, 192), (192, 128, 128)]], np.uint8)
    labels, foreign = labels_of_colours(picture, find_palette("voc"), IGNORE)
    assert labels.tolist() == [[0, 1], [IGNORE, 15]]
    assert labels.dtype == np.uint8
    assert foreign is None


def test_other_colours_are_an_error_in_voc_and_ignored_in_camvid():
    picture = np.array([[CAMVID["car"], (1, 2, 3)], [(0, 0, 0), CAMVID["sky"]]], np.uint8)
    labels, foreign = labels_of_colours(picture, find_palette("camvid"), IGNORE)
    assert (labels.tolist(), foreign) == ([[8, IGNORE], [IGNORE, 0]], None)
    assert labels_of_colours(picture, find_palette("voc"), IGNORE)[1] == (1, 2, 3)


def test_labels_of_colours_agree_with_a_plain_loop():
    rng = np.random.default_rng(0)
    palette = find_palette("camvid")
    colours = np.array([*palette.colours, (9, 9, 9), (0, 0, 0)], np.uint8)
    wanted = rng.integers(0, len(colours), (17, 23))
    labels, _ = labels_of_colours(colours[wanted], palette, 200)
    np.testing.assert_array_equal(labels, np.where(wanted < len(palette.colours), wanted, 200))


def test_a_palette_file(tmp_path):
    path = tmp_path / "colours.csv"
    path.write_text("\ufeff# name,red,green,blue\nroad, 10, 20, 30\n\nsky,0,0,255\n", encoding="utf-8")
    palette = find_palette(str(path))
    assert palette.names == ("road", "sky")
    assert palette.colours == ((10, 20, 30), (0, 0, 255))
    assert not palette.others


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("road,1,2\n", r"line 1 must be name,red,green,blue, got 'road,1,2'; correct it"),
        ("a,1,2,3\nb,1,x,3\n", r"line 2 must be name,red,green,blue, got 'b,1,x,3'; correct it"),
        ("a,1,2,256\n", r"line 1 must have a name and channels in \[0, 255\], got 'a,1,2,256'; correct it"),
        (",1,2,3\n", r"line 1 must have a name"),
        ("a,1,2,3\na,3,2,1\n", r"line 2 repeats a name or a colour: a,3,2,1; give each class its own"),
        ("a,1,2,3\nb,1,2,3\n", r"line 2 repeats a name or a colour: b,1,2,3; give"),
    ],
)
def test_a_wrong_palette_file_names_the_line(tmp_path, text, message):
    path = tmp_path / "colours.csv"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        find_palette(str(path))


def test_no_palette_of_that_name_and_a_file_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"must be index, voc, camvid or a file .* got 'cityscapes'; masks with one"):
        find_palette("cityscapes")
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\xff\xfe\0")
    with pytest.raises(InvalidInputError, match=r"must be text of lines name,red,green,blue: .*; palette takes"):
        find_palette(str(path))
