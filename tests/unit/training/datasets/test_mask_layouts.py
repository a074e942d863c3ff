"""Where pictures and masks lie: every layout, and what is wrong with a folder named with the file and the remedy."""

import numpy as np
import pytest
from PIL import Image

from vision.errors import InvalidInputError
from vision.training.datasets.mask_layouts import find_parts, pairs_of


def picture(path, size_hw=(6, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size_hw, 3), np.uint8)).save(path)
    return path


def folder_of(root, *stems, mask_suffix=".png"):
    for stem in stems:
        picture(root / "images" / f"{stem}.jpg")
        picture(root / "masks" / f"{stem}{mask_suffix}")
    return root


def names(pairs):
    return [(pair.image.name, pair.mask.name) for pair in pairs]


def test_images_and_masks_are_paired_by_name(tmp_path):
    train, val = find_parts(folder_of(tmp_path, "b", "a.1", mask_suffix=".bmp"))
    assert names(train) == [("a.1.jpg", "a.1.bmp"), ("b.jpg", "b.bmp")]
    assert val == ()


def test_train_and_val(tmp_path):
    folder_of(tmp_path / "train", "a")
    assert find_parts(tmp_path)[1] == ()
    folder_of(tmp_path / "val", "b")
    train, val = find_parts(tmp_path)
    assert (names(train), names(val)) == ([("a.jpg", "a.png")], [("b.jpg", "b.png")])


def voc(root, train="a\nb\na\n", val="c\n"):
    for stem in "abc":
        picture(root / "JPEGImages" / f"{stem}.jpg")
        picture(root / "SegmentationClass" / f"{stem}.png")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for part, text in (("train", train), ("val", val)):
        if text is not None:
            (lists / f"{part}.txt").write_text(text)
    return root


def test_voc_takes_its_lists(tmp_path):
    train, val = find_parts(voc(tmp_path))
    assert (names(train), names(val)) == ([("a.jpg", "a.png"), ("b.jpg", "b.png")], [("c.jpg", "c.png")])


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": None}, r"train\.txt, found no such file; write"),
        ({"train": "\n"}, r"train\.txt must name pictures, one a line, found none; add"),
        ({"val": "d"}, r"val\.txt names d, but there is no .*d\.jpg; put it there"),
        (
            {"train": "a\n../../b\n"},
            r"train\.txt must name pictures in JPEGImages/ .*got '\.\./\.\./b'; correct that line",
        ),
        ({"val": "/etc/a"}, r"val\.txt must name pictures in JPEGImages/ .*got '/etc/a'; correct that line"),
    ],
)
def test_voc_lists_that_cannot_be_used(tmp_path, lists, message):
    with pytest.raises(InvalidInputError, match=message):
        find_parts(voc(tmp_path, **lists))


def test_a_voc_list_that_is_no_utf8(tmp_path):
    path = voc(tmp_path) / "ImageSets" / "Segmentation" / "train.txt"
    path.write_bytes(b"stra\xdfe\n")
    with pytest.raises(InvalidInputError, match=r"train\.txt must be UTF-8 text of picture names.*save it so") as error:
        find_parts(tmp_path)
    assert error.value.path == path
    path.write_text("\ufeffa\n", encoding="utf-8")
    assert names(find_parts(tmp_path)[0]) == [("a.jpg", "a.png")]


def test_voc_without_a_val_list_has_no_val_part(tmp_path):
    assert find_parts(voc(tmp_path, val=None))[1] == ()


def test_no_folder_and_no_layout(tmp_path):
    with pytest.raises(InvalidInputError, match=r"found no folder .*nowhere; correct the path"):
        find_parts(tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match=r"must hold images/ and masks/.*found nothing; give the folder above"):
        find_parts(tmp_path)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InvalidInputError, match="found pictures; give"):
        find_parts(tmp_path)


def test_a_missing_masks_folder_and_an_empty_images_folder(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(InvalidInputError, match=r"masks must lie in .*masks, beside images, found no such folder; put"):
        pairs_of(tmp_path)
    (tmp_path / "masks").mkdir()
    (tmp_path / "images" / "notes.txt").write_text("no picture")
    with pytest.raises(InvalidInputError, match=r"images must hold pictures, found none; put some there"):
        pairs_of(tmp_path)


def test_a_picture_without_its_mask_is_named(tmp_path):
    folder_of(tmp_path, "a", "b", "c")
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(InvalidInputError, match=r"1 of 3 have none, first .*b\.jpg; put b\.png into") as error:
        pairs_of(tmp_path)
    assert error.value.path == tmp_path / "images" / "b.jpg"


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_two_files_of_one_name_are_refused(tmp_path, folder):
    folder_of(tmp_path, "a", "b")
    picture(tmp_path / folder / "a.webp")
    with pytest.raises(InvalidInputError, match=rf"found a\.\w+ and a\.webp in .*{folder}; rename one of them"):
        pairs_of(tmp_path)


def test_masks_without_a_picture_and_hidden_files_do_not_matter(tmp_path, caplog):
    folder_of(tmp_path, "a")
    picture(tmp_path / "masks" / "z.png")
    (tmp_path / "images" / "._a.jpg").write_bytes(b"\0")
    assert names(pairs_of(tmp_path)) == [("a.jpg", "a.png")]
    assert "1 masks in" in caplog.text
