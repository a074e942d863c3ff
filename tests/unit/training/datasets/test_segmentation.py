"""Training samples: a mask moves as its picture does, and a sample depends on seed, epoch and index alone."""

import cv2
import numpy as np
import pytest
from PIL import Image

from vision.backbones.interface import IMAGENET_NORMALIZATION
from vision.training.augment import affine_matrix, draw_affine, warp_image
from vision.training.datasets.mask_layouts import MaskedPicture
from vision.training.datasets.masks import MaskFormat
from vision.training.datasets.segmentation import MaskedParts, warp_labels
from vision.training.segmenter_config import SegmenterTrainingConfig

COLOURS = np.array([(250, 10, 10), (10, 250, 10), (10, 10, 250)], np.uint8)
FORM = MaskFormat(("a", "b", "c"))


def blocks(height, width, side=12):
    """Labels in squares that are larger than what interpolation blurs."""
    rows, columns = np.mgrid[:height, :width] // side
    return ((rows + 2 * columns) % 3).astype(np.uint8)


@pytest.mark.parametrize("seed", range(6))
def test_a_mask_is_warped_as_its_picture(seed):
    labels = blocks(60, 84)
    rng = np.random.default_rng(seed)
    drawn = draw_affine(rng, (60, 84), output_hw=(64, 64), long_side=84, scale_range=(0.7, 2.0))
    matrix = affine_matrix(drawn, 84)
    picture = warp_image(COLOURS[labels], matrix, (64, 64), fill=(0, 0, 0))
    warped = warp_labels(labels, matrix, (64, 64), ignore=255)
    # Where a colour is pure the picture shows one class, and the mask must say the same.
    distance = np.abs(picture[:, :, None].astype(int) - COLOURS.astype(int)).max(axis=3)
    pure = distance.min(axis=2) <= 2
    assert pure.mean() > 0.3
    np.testing.assert_array_equal(warped[pure], distance.argmin(axis=2)[pure])
    outside = (picture == 0).all(axis=2)
    assert (warped[outside] == 255).all()


def test_the_border_between_classes_is_not_shifted():
    """Nearest sampling of the picture itself agrees with the mask at every pixel, mirrored or not."""
    labels = blocks(30, 40, side=7)
    for zoom, flip in ((1.0, False), (1.0, True), (2.0, False), (2.0, True), (1.37, True)):
        matrix = np.array([[-zoom if flip else zoom, 0, 40 * zoom if flip else 0], [0, zoom, 0]], np.float32)
        size_hw = round(30 * zoom), round(40 * zoom)
        # Class of the source pixel that the centre of each target pixel falls into.
        y, x = ((np.arange(side) + 0.5) / zoom for side in size_hw)
        x = 40 - x if flip else x
        wanted = labels[np.minimum(y, 29.99).astype(int)][:, np.clip(x, 0, 39.99).astype(int)]
        warped = warp_labels(labels, matrix, size_hw, ignore=255)
        assert (warped == wanted).mean() > 0.99
        if zoom != 1.37:
            np.testing.assert_array_equal(warped, wanted)


@pytest.fixture
def pairs(tmp_path):
    made = []
    for number in range(3):
        labels = np.roll(blocks(48, 64), number * 5, axis=1)
        Image.fromarray(COLOURS[labels]).save(tmp_path / f"{number}.bmp")
        Image.fromarray(labels).save(tmp_path / f"{number}.png")
        made.append(MaskedPicture(tmp_path / f"{number}.bmp", tmp_path / f"{number}.png"))
    return made


def parts(pairs, **changes):
    config = SegmenterTrainingConfig(data=pairs[0].image.parent, **{"crop_hw": (32, 64), **changes})
    return MaskedParts(pairs, FORM, IMAGENET_NORMALIZATION, config)


def test_samples_have_the_shape_and_kind_that_training_takes(pairs):
    image, labels = parts(pairs)[0]
    assert (tuple(image.shape), str(image.dtype)) == ((3, 32, 64), "torch.float32")
    assert (tuple(labels.shape), str(labels.dtype)) == ((32, 64), "torch.int64")
    assert set(labels.unique().tolist()) <= {0, 1, 2, 255}


def test_a_sample_depends_on_seed_epoch_and_index_alone(pairs):
    one, two = parts(pairs), parts(pairs)
    for item in (7, 2, 4):  # in another order than they were asked for below
        one[item]
    for item in (2, 4, 7):
        for left, right in zip(one[item], two[item], strict=True):
            assert left.equal(right)
    assert not one[1][0].equal(one[4][0])  # the same picture in the next epoch
    assert not one[1][0].equal(parts(pairs, seed=1)[1][0])


def test_without_augmentation_a_sample_is_the_picture(pairs):
    data = parts(pairs, crop_hw=(48, 64), scale_range=(1.0, 1.0), flip=False, colour=0.0, loss_stride=1)
    _, labels = data[5]
    np.testing.assert_array_equal(labels.numpy(), cv2.imread(str(pairs[2].mask), cv2.IMREAD_UNCHANGED))


def test_a_picture_smaller_than_the_sample_lies_in_ignored_pixels(pairs):
    _, labels = parts(pairs, crop_hw=(96, 128), scale_range=(1.0, 1.0))[0]
    assert (labels == 255).sum() == 96 * 128 - 48 * 64
