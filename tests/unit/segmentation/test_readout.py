"""From logits to maps: the enlargement of FCN itself, ties, kept classes, probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision.errors import ConfigError
from vision.geometry.letterbox import Letterbox
from vision.segmentation.readout import Reading, full_logits, labels_at_source, labels_of, probabilities_of
from vision.segmentation.upsampling import Upsampling

NAMES = ("road", "car", "sky")


def logits(size_hw: tuple[int, int], classes: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*size_hw, classes)).astype(np.float32)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_the_enlargement_is_that_of_the_network(stride: int) -> None:
    """A fixed transposed convolution gives the same logits away from the border, and the same classes everywhere."""
    coarse = logits((6, 9)).transpose(2, 0, 1).copy()
    size_hw = (6 * stride, 9 * stride)
    ours = full_logits(coarse, Letterbox(size_hw, size_hw, size_hw))
    network = Upsampling(3, stride)(torch.from_numpy(coarse)[None])[0].permute(1, 2, 0).numpy()
    assert ours.shape == (*size_hw, 3)
    inner = (slice(stride, -stride), slice(stride, -stride))
    np.testing.assert_allclose(ours[inner], network[inner], atol=1e-5)
    # Where two classes are as good as equal, rounding may choose either.
    best = np.sort(network, axis=2)
    clear = best[:, :, -1] - best[:, :, -2] > 1e-4
    np.testing.assert_array_equal(labels_of(ours)[clear], network.argmax(axis=2)[clear])


@pytest.mark.parametrize("source_hw", [(1, 1), (1, 300), (37, 5), (97, 131), (64, 96)])
@pytest.mark.parametrize("long_side", [0, 64])
def test_logits_have_the_size_of_the_picture(source_hw: tuple[int, int], long_side: int) -> None:
    letterbox = Letterbox.fit(source_hw, long_side=long_side or max(source_hw), multiple=32)
    height, width = letterbox.padded_hw
    full = full_logits(np.zeros((2, height // 8, width // 8), np.float32), letterbox)
    assert (full.shape, full.dtype) == ((*source_hw, 2), np.float32)


def test_logits_at_the_pictures_size_stay_as_they_are() -> None:
    values = logits((32, 64))
    same = full_logits(values.transpose(2, 0, 1), Letterbox((32, 64), (32, 64), (32, 64)))
    np.testing.assert_array_equal(same, values)


def test_padding_is_cut_off() -> None:
    values = np.zeros((2, 64, 64), np.float32)
    values[1, 40:] = values[1, :, 50:] = 9
    full = full_logits(values, Letterbox((40, 50), (40, 50), (64, 64)))
    assert not full[:, :, 1].any()


@pytest.mark.parametrize("source_hw", [(1, 1), (1, 50), (4, 1), (33, 47), (128, 128), (200, 311)])
def test_classes_one_by_one_are_those_of_all_logits(source_hw: tuple[int, int]) -> None:
    letterbox = Letterbox.fit(source_hw, long_side=128, multiple=64)
    height, width = (side // 8 for side in letterbox.padded_hw)
    coarse = np.random.default_rng(0).normal(size=(256, height, width)).astype(np.float32)
    labels = labels_at_source(coarse, letterbox)
    assert labels.shape == source_hw
    assert labels.dtype == np.uint8
    expected = full_logits(coarse, letterbox).argmax(axis=2)
    # Rounding may differ where two classes are equal but for the last bit.
    assert (labels == expected).mean() > 0.999
    reading = Reading([str(index) for index in range(256)], kept=("7", "3"))
    np.testing.assert_array_equal(reading.read_coarse(coarse, letterbox).labels == 1, labels == 7)


def test_the_first_of_equals_wins() -> None:
    tied = np.zeros((1, 4, 3), np.float32)
    tied[0, 1, 1:] = 1
    tied[0, 2, 2] = 1
    tied[0, 3, 0] = -1
    assert labels_of(tied).tolist() == [[0, 1, 2, 1]]
    np.testing.assert_array_equal(labels_of(logits((9, 7), 21)), logits((9, 7), 21).argmax(axis=2))


def test_probabilities_are_those_of_the_softmax() -> None:
    values = 30 * logits((5, 6), 4)
    expected = torch.from_numpy(values).softmax(dim=2).amax(dim=2).numpy()
    np.testing.assert_allclose(probabilities_of(values), expected, atol=1e-6)


def test_kept_classes_get_new_numbers_in_their_order() -> None:
    values = logits((8, 8))
    everything = Reading(NAMES).read(values)
    some = Reading(NAMES, kept=("sky", "road"), scores=True)
    found = some.read(values)
    assert found.class_names == some.output_names == ("other", "sky", "road")
    np.testing.assert_array_equal(found.labels, np.array([2, 0, 1])[everything.labels])
    assert everything.scores is None
    shares = torch.from_numpy(values).softmax(dim=2).numpy()
    named = found.labels > 0
    assert named.any()
    assert not named.all()
    np.testing.assert_array_equal(found.scores[named], probabilities_of(values)[named])
    np.testing.assert_allclose(found.scores[~named], shares[:, :, 1][~named], rtol=1e-5)


def test_the_probability_of_other_is_that_of_all_its_classes() -> None:
    values = logits((8, 8))
    found = Reading(NAMES, kept=("sky",), scores=True).read(values)
    other = found.labels == 0
    shares = torch.from_numpy(values).softmax(dim=2).numpy()
    np.testing.assert_allclose(found.scores[other], 1 - shares[:, :, 2][other], rtol=1e-5)
    assert (found.scores[other] > probabilities_of(values)[other]).all()
    everything = Reading(NAMES, kept=NAMES, scores=True).read(values)
    np.testing.assert_array_equal(everything.scores, probabilities_of(values))


@pytest.mark.parametrize(
    ("kept", "words"), [(("rood",), "did you mean 'road'.*knows road, car, sky"), (("car", "car"), "must differ")]
)
def test_classes_that_cannot_be_kept(kept: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Reading(NAMES, kept=kept)
