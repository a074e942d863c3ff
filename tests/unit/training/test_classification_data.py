"""The augmentation of a classifier's pictures: reproducible, inside the picture, off when it is switched off."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vision.backbones.interface import HALF_RANGE_NORMALIZATION
from vision.classification.input import InputSpec, input_image
from vision.training.classifier_config import ClassifierTrainingConfig
from vision.training.datasets.classification import PlainPictures, TrainingPictures, augment, draw_part
from vision.training.datasets.label_checks import LabelledPicture

OFF = {"crop_range": (1.0, 1.0), "flip": False, "colour": 0.0}


def spec(resize="crop"):
    return InputSpec(size_hw=(16, 16), resize=resize, normalization=HALF_RANGE_NORMALIZATION)


def config(**changes):
    return ClassifierTrainingConfig(data=Path("x"), **changes)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(3)]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    return [LabelledPicture(path, (0,), float("nan")) for path in paths]


TARGETS = np.eye(3, dtype=np.float32)


def test_a_sample_depends_on_seed_epoch_and_index_alone(pictures):
    made = TrainingPictures(pictures, TARGETS, spec(), config(seed=3))
    first, again = made[4], TrainingPictures(pictures, TARGETS, spec(), config(seed=3))[4]
    assert torch.equal(first[0], again[0])
    assert first[1].tolist() == [0, 1, 0]
    assert not torch.equal(first[0], made[1][0])  # another epoch
    assert not torch.equal(first[0], TrainingPictures(pictures, TARGETS, spec(), config(seed=4))[4][0])


@pytest.mark.parametrize("resize", ["crop", "stretch", "letterbox"])
def test_without_augmentation_training_sees_what_inference_sees(pictures, resize):
    plain = PlainPictures(pictures, TARGETS, spec(resize))
    if resize == "crop":
        # A random cut of the largest square may lie anywhere; of a square picture there is but one.
        square = np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        region = augment(np.random.default_rng(0), square, spec(), config(**OFF))
        assert np.array_equal(region, square)
        return
    made = TrainingPictures(pictures, TARGETS, spec(resize), config(resize=resize, **OFF))
    for index in range(3):
        assert torch.equal(made[index][0], plain[index][0])


def test_flip_mirrors_half_of_the_samples():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :8] = 255
    settings = config(**{**OFF, "flip": True})
    mirrored = [augment(np.random.default_rng(seed), image, spec(), settings)[0, 0, 0] == 0 for seed in range(200)]
    assert 70 < sum(mirrored) < 130
    never = [augment(np.random.default_rng(seed), image, spec(), config(**OFF))[0, 0, 0] == 0 for seed in range(50)]
    assert not any(never)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 50), (50, 1), (40, 60), (600, 20)])
@pytest.mark.parametrize("share_range", [(0.08, 1.0), (0.5, 1.0), (1.0, 1.0)])
def test_parts_lie_inside_the_picture(size_hw, share_range):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows, columns = draw_part(rng, size_hw, aspect=1.0, share_range=share_range)
        assert 0 <= rows.start < rows.stop <= size_hw[0]
        assert 0 <= columns.start < columns.stop <= size_hw[1]


def test_parts_have_the_wanted_area_and_aspect():
    areas, aspects = [], []
    for seed in range(300):
        rows, columns = draw_part(np.random.default_rng(seed), (400, 400), aspect=1.0, share_range=(0.25, 0.75))
        height, width = rows.stop - rows.start, columns.stop - columns.start
        areas.append(height * width / 400**2)
        aspects.append(width / height)
    assert min(areas) > 0.24
    assert max(areas) < 0.76
    assert np.mean(areas) == pytest.approx(0.5, abs=0.03)
    assert min(aspects) >= 0.74
    assert max(aspects) <= 1.35


def test_whole_range_gives_the_whole_picture():
    rows, columns = draw_part(np.random.default_rng(0), (30, 40), aspect=40 / 30, share_range=(1.0, 1.0))
    assert (rows, columns) == (slice(0, 30), slice(0, 40))


def test_validation_pictures_are_those_of_inference(pictures):
    image = cv2.imread(str(pictures[1].path), cv2.IMREAD_COLOR_RGB)
    tensor, target = PlainPictures(pictures, TARGETS, spec())[1]
    assert np.array_equal(tensor.numpy(), input_image(image, spec()))
    assert target.tolist() == [0, 1, 0]
