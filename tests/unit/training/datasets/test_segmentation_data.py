"""A segmenter's data before the first step: parts, names of the classes, and data from which nothing can be learnt."""

import numpy as np
import pytest
from PIL import Image

from vision.errors import InvalidInputError
from vision.training.datasets.palettes import CAMVID, VOC_NAMES, voc_colours
from vision.training.datasets.segmentation_data import load_segmentation_data

LABELS = np.array([[0, 1, 2, 255], [2, 2, 0, 1]], np.uint8)


def write(root, names, labels=LABELS):
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((*labels.shape[:2], 3), np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(labels).save(root / "masks" / f"{name}.png")
    return root


def stems(pairs):
    return [pair.image.stem for pair in pairs]


def test_held_out_by_name(tmp_path):
    data = load_segmentation_data(write(tmp_path, "abcdefgh"), classes=("x", "y", "z"), val_fraction=0.3)
    assert sorted(stems(data.train) + stems(data.val)) == list("abcdefgh")
    assert data.val
    again = load_segmentation_data(tmp_path, classes=("x", "y", "z"), val_fraction=0.3)
    assert (again.train, again.val) == (data.train, data.val)
    assert data.counts.tolist() == [2 * len(data.train)] * 2 + [3 * len(data.train)]


def test_val_data_beside_data_with_both_parts(tmp_path):
    write(tmp_path / "one" / "train", "ab")
    write(tmp_path / "one" / "val", "c")
    other = write(tmp_path / "two", "d")
    data = load_segmentation_data(tmp_path / "one", other, classes=("x", "y", "z"))
    assert (stems(data.train), stems(data.val)) == (["a", "b", "c"], ["d"])


def test_a_picture_is_never_in_both_parts(tmp_path, caplog):
    write(tmp_path / "train", "ab")
    write(tmp_path / "val", "c")
    data = load_segmentation_data(tmp_path, tmp_path, classes=("x", "y", "z"))
    assert (stems(data.train), stems(data.val)) == (["a", "b"], ["c"])
    assert "1 pictures of" in caplog.text
    with pytest.raises(InvalidInputError, match=r"val_data must hold other pictures than data.*leave val_data out"):
        load_segmentation_data(tmp_path / "train", tmp_path / "train", classes=("x", "y", "z"))


def test_names_of_the_file_of_voc_and_numbers(tmp_path, caplog):
    write(tmp_path / "plain", "ab")
    assert load_segmentation_data(tmp_path / "plain").format.class_names == ("class 0", "class 1", "class 2")
    assert "nobody says what the 3 mask values mean" in caplog.text
    (tmp_path / "plain" / "classes.txt").write_text("\ufeffröad\n\ncar\nsky\n", encoding="utf-8")
    assert load_segmentation_data(tmp_path / "plain").format.class_names == ("röad", "car", "sky")
    voc = tmp_path / "voc"
    write(voc, "ab")
    (voc / "images").rename(voc / "JPEGImages")
    (voc / "masks").rename(voc / "SegmentationClass")
    for name in "ab":
        path = voc / "JPEGImages" / f"{name}.png"
        Image.open(path).save(path.with_suffix(".jpg"))
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    (voc / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nb\n")
    assert load_segmentation_data(voc).format.class_names == VOC_NAMES
    assert load_segmentation_data(voc, palette="voc").format.class_names == VOC_NAMES


def test_camvid_colours_and_a_palette_file(tmp_path):
    colours = np.array([next(iter(group.values())) for group in CAMVID.values()], np.uint8)
    write(tmp_path / "camvid", "ab", colours[np.array([[0, 3], [8, 8]])])
    data = load_segmentation_data(tmp_path / "camvid", palette="camvid")
    assert data.format.class_names == tuple(CAMVID)
    assert np.flatnonzero(data.counts).tolist() == [0, 3, 8]
    file = tmp_path / "colours.csv"
    file.write_text("land,0,0,0\nwater,128,0,0\n")
    write(tmp_path / "own", "ab", np.array(voc_colours(2), np.uint8)[LABELS % 2])
    own = load_segmentation_data(tmp_path / "own", palette=str(file))
    assert own.format.class_names == ("land", "water")
    with pytest.raises(InvalidInputError, match="a name for each of the 2 classes of the palette, got 3; leave"):
        load_segmentation_data(tmp_path / "own", palette=str(file), classes=("a", "b", "c"))


@pytest.mark.parametrize("classes", [(), ("nothing", "thing")])
def test_binary_masks_of_0_and_255_are_noticed(tmp_path, classes):
    write(tmp_path, "ab", np.array([[0, 255], [255, 0]], np.uint8))
    with pytest.raises(InvalidInputError, match="binary masks are 0 and 1, not 0 and 255"):
        load_segmentation_data(tmp_path, classes=classes)


def test_one_class_everywhere_is_refused_and_absent_ones_are_named(tmp_path, caplog):
    write(tmp_path / "one", "ab", np.ones((2, 2), np.uint8))
    with pytest.raises(InvalidInputError, match="must show at least two classes, got y alone"):
        load_segmentation_data(tmp_path / "one", classes=("x", "y"))
    load_segmentation_data(write(tmp_path / "two", "ab"), classes=("x", "y", "z", "rare", "never"))
    assert "no training mask has the classes rare, never" in caplog.text


def test_a_class_that_is_ignored_is_none_that_is_learnt(tmp_path, caplog):
    write(tmp_path / "one", "ab", np.array([[0, 1], [1, 1]], np.uint8))
    with pytest.raises(InvalidInputError, match=r"at least two classes, got a alone; \d pixels are 0 and ignored"):
        load_segmentation_data(tmp_path / "one", classes=("void", "a"), ignore=0)
    write(tmp_path / "two", "abcd", np.array([[0, 1], [2, 1]], np.uint8))
    data = load_segmentation_data(tmp_path / "two", classes=("void", "a", "b"), ignore=0, val_fraction=0.5)
    assert data.counts.tolist() == [0, 2 * len(data.train), len(data.train)]
    assert "no training mask" not in caplog.text


def test_names_that_cannot_be_used(tmp_path):
    write(tmp_path, "ab")
    file = tmp_path / "classes.txt"
    for text, message in (
        ("a\nb\na\n", "different names, got a twice; correct"),
        ("a\n", r"2 to 256 classes apart, got 1 \(a\); name them in"),
        ("\n".join(map(str, range(300))), "2 to 256 classes apart, got 300"),
    ):
        file.write_text(text)
        with pytest.raises(InvalidInputError, match=message):
            load_segmentation_data(tmp_path)
    file.write_bytes(b"stra\xdfe\n")
    with pytest.raises(InvalidInputError, match=r"classes\.txt must be UTF-8 text, one class a line: .*save it so"):
        load_segmentation_data(tmp_path)


def test_a_validation_picture_damaged_inside_is_found_before_the_run(tmp_path):
    write(tmp_path / "train", "ab")
    write(tmp_path / "val", "c", np.random.default_rng(0).integers(0, 3, (40, 40), dtype=np.uint8))
    path = tmp_path / "val" / "images" / "c.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InvalidInputError, match=r"c\.png"):
        load_segmentation_data(tmp_path, classes=("x", "y", "z"))
