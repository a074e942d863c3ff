"""Masks: every kind that can be read, and every fault named with the file and the remedy."""

import numpy as np
import pytest
from PIL import Image

from vision.errors import InvalidInputError, LimitExceededError
from vision.io.images import ImageLimits
from vision.training.datasets.mask_layouts import MaskedPicture
from vision.training.datasets.masks import MaskFormat, check_masks, read_mask
from vision.training.datasets.palettes import CAMVID, find_palette, voc_colours

THREE = MaskFormat(("road", "car", "sky"))
LABELS = np.array([[0, 1, 2, 255], [2, 2, 0, 1], [0, 0, 1, 1]], np.uint8)


def save(path, image):
    image.save(path)
    return path


def grey(path, labels=LABELS):
    return save(path, Image.fromarray(np.asarray(labels)))


def with_palette(path, labels=LABELS):
    image = Image.fromarray(labels)
    image.putpalette([channel for colour in voc_colours(256) for channel in colour])
    assert image.mode == "P"
    return save(path, image)


def in_colours(path, labels=LABELS):
    return save(path, Image.fromarray(np.array(voc_colours(256), np.uint8)[labels]))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_grey_masks(tmp_path, suffix):
    path = tmp_path / f"m.{suffix}"
    if suffix == "webp":  # has no grey mode: three channels
        Image.fromarray(LABELS).save(path, lossless=True)
        with pytest.raises(InvalidInputError, match="must have one whole number a pixel"):
            read_mask(path, THREE)
        return
    np.testing.assert_array_equal(read_mask(grey(path), THREE), LABELS)


def test_sixteen_bits_and_one_bit(tmp_path):
    mask = read_mask(grey(tmp_path / "a.png", LABELS.astype(np.uint16)), THREE)
    np.testing.assert_array_equal(mask, LABELS)
    assert mask.dtype == np.uint8
    binary = LABELS == 1
    np.testing.assert_array_equal(read_mask(grey(tmp_path / "b.png", binary), THREE), binary)


def test_palette_masks_read_alike_as_numbers_and_as_colours(tmp_path):
    voc = find_palette("voc")
    form = MaskFormat(voc.names)
    by_number = read_mask(with_palette(tmp_path / "p.png"), form)
    by_colour = read_mask(tmp_path / "p.png", MaskFormat(voc.names, palette=voc))
    painted = read_mask(in_colours(tmp_path / "c.png"), MaskFormat(voc.names, palette=voc))
    for labels in (by_number, by_colour, painted):
        np.testing.assert_array_equal(labels, LABELS)


def test_coloured_masks_with_opacity(tmp_path):
    path = save(tmp_path / "m.png", Image.open(in_colours(tmp_path / "c.png")).convert("RGBA"))
    voc = find_palette("voc")
    np.testing.assert_array_equal(read_mask(path, MaskFormat(voc.names, palette=voc)), LABELS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_instead_of_numbers(tmp_path, mode):
    path = save(tmp_path / "m.png", Image.fromarray(LABELS).convert(mode))
    message = (
        rf"the mask .*m\.png must have one whole number a pixel .* got mode {mode}; name its colours: --set palette"
    )
    with pytest.raises(InvalidInputError, match=message) as error:
        read_mask(path, THREE)
    assert error.value.path == path


def test_fractions_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"one whole number a pixel .*got mode F"):
        read_mask(grey(tmp_path / "m.tif", LABELS.astype(np.float32)), THREE)


@pytest.mark.parametrize(
    ("labels", "form", "message"),
    [
        ([[0, 3], [7, 1]], THREE, r"must hold the classes 0 to 2 and 255 for none, got 3, 7; correct the mask, name"),
        ([[0, 255]], MaskFormat(("a", "b"), ignore=254), r"got 255; binary masks are 0 and 1"),
        ([list(range(20))], THREE, r"got 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.; correct"),
    ],
)
def test_values_that_are_no_class(tmp_path, labels, form, message):
    with pytest.raises(InvalidInputError, match=message):
        read_mask(grey(tmp_path / "m.png", np.array(labels, np.uint8)), form)


def test_large_values_of_sixteen_bits_do_not_wrap(tmp_path):
    with pytest.raises(InvalidInputError, match="got 257, 511; correct"):
        read_mask(grey(tmp_path / "m.png", np.array([[0, 257], [511, 1]], np.uint16)), THREE)


@pytest.mark.parametrize("palette", ["index", "voc", "camvid"])
def test_a_jpeg_is_refused_whatever_it_holds(tmp_path, palette):
    path = save(tmp_path / "m.jpg", Image.open(in_colours(tmp_path / "c.png")))
    with pytest.raises(InvalidInputError, match=r"m\.jpg must keep every value exactly, got a JPEG.*save masks as PNG"):
        read_mask(path, MaskFormat(THREE.class_names, palette=find_palette(palette)))


def of_street(size_hw=(48, 64)):
    """Return a mask in CamVid's colours: blocks of different classes."""
    colours = np.array([colour for group in CAMVID.values() for colour in group.values()], np.uint8)
    blocks = np.random.default_rng(0).integers(0, len(colours), (size_hw[0] // 8, size_hw[1] // 8))
    return Image.fromarray(colours[blocks.repeat(8, axis=0).repeat(8, axis=1)])


@pytest.mark.parametrize("animated", [False, True])
def test_a_lossy_webp_is_refused_and_a_lossless_one_is_read(tmp_path, animated):
    form = MaskFormat(tuple(CAMVID), palette=find_palette("camvid"))
    more = {"save_all": True, "append_images": [of_street().rotate(180)]} if animated else {}
    of_street().save(tmp_path / "png.png")
    of_street().save(tmp_path / "exact.webp", lossless=True, exact=True, **more)
    of_street().save(tmp_path / "lossy.webp", quality=90, **more)
    expected = read_mask(tmp_path / "png.png", form)
    np.testing.assert_array_equal(read_mask(tmp_path / "exact.webp", form), expected)
    with pytest.raises(InvalidInputError, match=r"lossy\.webp must keep every value exactly, got a lossy WebP.*as PNG"):
        read_mask(tmp_path / "lossy.webp", form)


def test_a_tiff_with_jpeg_compression_is_refused(tmp_path):
    path = tmp_path / "m.tif"
    of_street().save(path, compression="jpeg")
    with pytest.raises(InvalidInputError, match="got a TIFF with JPEG compression"):
        read_mask(path, MaskFormat(tuple(CAMVID), palette=find_palette("camvid")))


def test_a_jpeg_turned_into_a_png_is_known_by_its_colours(tmp_path):
    form = MaskFormat(tuple(CAMVID), palette=find_palette("camvid"))
    of_street().save(tmp_path / "m.jpg")
    Image.open(tmp_path / "m.jpg").save(tmp_path / "m.png")
    with pytest.raises(
        InvalidInputError, match=r"m\.png must have .* at most 32 others, got \d{3,} others, first .*PNG"
    ):
        read_mask(tmp_path / "m.png", form)
    stray = np.array(of_street())
    stray[0, :5] = np.arange(15).reshape(5, 3)  # a few are forgiven, as hand-drawn masks have them
    Image.fromarray(stray).save(tmp_path / "stray.png")
    assert (read_mask(tmp_path / "stray.png", form)[0, :5] == 255).all()


def test_formats_of_pictures_alone_are_opened(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray(LABELS).save(path, format="EPS")
    with pytest.raises(InvalidInputError, match=r"m\.png cannot be read: it must be a PNG, .*begin with b'%!PS-Ado'"):
        read_mask(path, THREE)


@pytest.mark.parametrize(
    ("limits", "found"),
    [(ImageLimits(max_pixels=11), r"got 4 x 3 in \d+ bytes"), (ImageLimits(max_bytes=60), "got 4 x 3 in more bytes")],
)
def test_a_mask_beyond_the_limits_is_refused_before_it_is_decoded(tmp_path, limits, found):
    with pytest.raises(LimitExceededError, match=rf"{found}; scale picture and mask down"):
        read_mask(grey(tmp_path / "m.png"), THREE, limits=limits)


def test_a_mask_of_another_size_is_not_decoded(tmp_path, monkeypatch):
    one = pair(tmp_path, "a", size_hw=(5, 9))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(InvalidInputError, match="must have the size of its picture, 9 x 5, got 4 x 3"):
        check_masks([one], THREE)


def test_a_colour_that_is_no_class(tmp_path):
    path = save(tmp_path / "m.png", Image.fromarray(np.full((2, 2, 3), 77, np.uint8)))
    with pytest.raises(InvalidInputError, match=r"got \(77, 77, 77\); add it to the palette \(under the name ignore"):
        read_mask(path, MaskFormat(("a", "b"), palette=find_palette("voc")))


@pytest.mark.parametrize("kept", [0, 20, 0.6])
def test_a_damaged_mask(tmp_path, kept):
    path = grey(tmp_path / "m.png", np.random.default_rng(0).integers(0, 3, (40, 40), dtype=np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(InvalidInputError, match=r"the mask .*m\.png cannot be read: .*; mend or remove it"):
        read_mask(path, THREE)


def pair(folder, name, labels=LABELS, size_hw=None):
    image = Image.fromarray(np.zeros((*(size_hw or np.shape(labels)), 3), np.uint8))
    return MaskedPicture(
        save(folder / f"{name}.bmp", image), grey(folder / f"{name}.png", np.asarray(labels, np.uint8))
    )


def test_checking_counts_the_pixels(tmp_path):
    counts = check_masks([pair(tmp_path, "a"), pair(tmp_path, "b")], THREE)
    assert counts[[0, 1, 2, 255]].tolist() == [8, 8, 6, 2]
    assert counts.sum() == 24


def test_a_mask_of_another_size(tmp_path):
    with pytest.raises(InvalidInputError, match=r"b\.png must have the size of its picture, 9 x 5, got 4 x 3; save it"):
        check_masks([pair(tmp_path, "a"), pair(tmp_path, "b", size_hw=(5, 9))], THREE)


def test_a_mask_that_was_not_turned_with_its_picture(tmp_path):
    mask = grey(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(InvalidInputError, match="got 4 x 3; turn it as the picture's EXIF says"):
        check_masks([MaskedPicture(tmp_path / "a.jpg", mask)], THREE)


def test_a_mask_of_ignored_pixels_alone(tmp_path):
    with pytest.raises(InvalidInputError, match=r"a\.png must have a pixel of some class, got 255 everywhere; take"):
        check_masks([pair(tmp_path, "a", np.full((3, 4), 255))], THREE)


def test_a_picture_that_cannot_be_read(tmp_path):
    one = pair(tmp_path, "a")
    one.image.write_bytes(b"BM nothing")
    with pytest.raises(InvalidInputError, match=r"the picture .*a\.bmp cannot be read: .*mend or remove it"):
        check_masks([one], THREE)


def test_the_first_fault_is_raised_and_the_others_are_logged(tmp_path, caplog):
    pairs = [pair(tmp_path, "a"), *(pair(tmp_path, name, np.full((3, 4), 9)) for name in "bcd")]
    with pytest.raises(InvalidInputError, match=r"b\.png .*\(2 more cannot be used either\)") as error:
        check_masks(pairs, THREE)
    assert error.value.path == pairs[1].mask
    assert "c.png" in caplog.text
    assert "d.png" in caplog.text
