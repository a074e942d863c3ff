"""Colours of masks: the public palettes, one from a file, and what is wrong with such a file."""

import numpy as np
import pytest

from vision.errors import ConfigError, InvalidInputError
from vision.training.datasets.palettes import (
    CAMVID,
    CAMVID_VOID,
    MOST_OTHERS,
    VOC_NAMES,
    VOC_VOID,
    find_palette,
    labels_of_colours,
    voc_colours,
)

IGNORE = 255


def test_voc_colours():
    palette = find_palette("voc")
    assert palette.names == VOC_NAMES
    # aeroplane, person and the last of 256, as the development kit has them
    assert (palette.colours[1], palette.colours[15]) == (((128, 0, 0),), ((192, 128, 128),))
    assert palette.ignored == (VOC_VOID,)
    assert voc_colours(256)[255] == (224, 224, 192)
    assert len(set(voc_colours(256))) == 256


def test_index_has_no_palette():
    assert find_palette("index") is None


def test_labels_of_voc_colours():
    picture = np.array([[(0, 0, 0), (128, 0, 0)], [(224, 224, 192), (192, 128, 128)]], np.uint8)
    labels, foreign = labels_of_colours(picture, find_palette("voc"), IGNORE)
    assert labels.tolist() == [[0, 1], [IGNORE, 15]]
    assert labels.dtype == np.uint8
    assert foreign == []


def test_colours_that_nobody_names_are_ignored_and_returned():
    picture = np.array([[CAMVID["car"]["Car"], (9, 2, 3)], [(1, 2, 3), CAMVID["sky"]["Sky"]]], np.uint8)
    labels, foreign = labels_of_colours(picture, find_palette("camvid"), IGNORE)
    assert (labels.tolist(), foreign) == ([[8, IGNORE], [IGNORE, 0]], [(1, 2, 3), (9, 2, 3)])
    assert (find_palette("camvid").most_others, find_palette("voc").most_others) == (MOST_OTHERS, 0)


def test_camvids_32_classes_are_grouped_as_for_segnet():
    colours = [colour for group in CAMVID.values() for colour in group.values()]
    assert len(CAMVID) == 11
    assert len({*colours, CAMVID_VOID}) == 32
    # What drives on the road is a car, its paint is road, and a wall is building; Void alone is ignored.
    shown = [CAMVID["car"]["Truck_Bus"], (128, 0, 192), (64, 192, 0), (192, 128, 64), (0, 64, 64), CAMVID_VOID]
    labels, foreign = labels_of_colours(np.array([shown], np.uint8), find_palette("camvid"), IGNORE)
    names = [*CAMVID]
    assert [names[label] for label in labels[0, :-1]] == ["car", "road", "building", "pedestrian", "sign"]
    assert labels[0, -1] == IGNORE
    assert foreign == []


def test_labels_of_colours_agree_with_a_plain_loop():
    rng = np.random.default_rng(0)
    palette = find_palette("camvid")
    owned = [(label, colour) for label, several in enumerate(palette.colours) for colour in several]
    owned += [(200, (9, 9, 9)), (200, (0, 0, 0))]
    wanted = rng.integers(0, len(owned), (17, 23))
    labels, foreign = labels_of_colours(np.array([colour for _, colour in owned], np.uint8)[wanted], palette, 200)
    np.testing.assert_array_equal(labels, np.array([label for label, _ in owned])[wanted])
    assert foreign == [(9, 9, 9)]


def test_a_palette_file(tmp_path):
    path = tmp_path / "colours.csv"
    path.write_text("\ufeff# name,red,green,blue\nroad, 10, 20, 30\n\nsky,0,0,255\n", encoding="utf-8")
    palette = find_palette(str(path))
    assert palette.names == ("road", "sky")
    assert palette.colours == (((10, 20, 30),), ((0, 0, 255),))
    assert palette.ignored == ()
    assert not palette.others


def test_a_palette_file_with_several_colours_of_a_class_and_ignored_ones(tmp_path):
    path = tmp_path / "colours.csv"
    path.write_text("road,1,2,3\nignore,0,0,0\nsky,4,5,6\nroad,7,8,9\nignore,9,9,9\n")
    palette = find_palette(str(path))
    assert palette.names == ("road", "sky")
    assert palette.colours == (((1, 2, 3), (7, 8, 9)), ((4, 5, 6),))
    labels, foreign = labels_of_colours(
        np.array([[(7, 8, 9), (0, 0, 0), (4, 5, 6), (9, 9, 9), (1, 2, 3)]], np.uint8), palette, IGNORE
    )
    assert labels.tolist() == [[0, IGNORE, 1, IGNORE, 0]]
    assert foreign == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("road,1,2\n", r"line 1 must be name,red,green,blue, got 'road,1,2'; correct it"),
        ("a,1,2,3\nb,1,x,3\n", r"line 2 must be name,red,green,blue, got 'b,1,x,3'; correct it"),
        ("a,1,2,256\n", r"line 1 must have a name and channels in \[0, 255\], got 'a,1,2,256'; correct it"),
        (",1,2,3\n", r"line 1 must have a name"),
        ("a,1,2,3\n\nb,1,2,3\n", r"must stand in one line, line 3 repeats that of line 1: b,1,2,3; remove one of them"),
        ("a,1,2,3\nignore,1,2,3\n", r"line 2 repeats that of line 1: ignore,1,2,3; remove"),
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
