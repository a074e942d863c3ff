"""Hashes that find equal and nearly equal pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision.io.images import decode_image, read_image
from vision.training.check import duplicates
from vision.training.check.duplicates import (
    count_bits,
    difference_hash,
    group_equal,
    join_pairs,
    near_pairs,
    thumbnail,
)


def smooth(seed: int) -> np.ndarray:
    cells = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(cells).resize((160, 120), Image.Resampling.BICUBIC))


def save_anew(image: np.ndarray, scale: float, quality: int) -> np.ndarray:
    picture = Image.fromarray(image)
    file = io.BytesIO()
    picture.resize((round(picture.width * scale), round(picture.height * scale))).save(file, "JPEG", quality=quality)
    return decode_image(file.getvalue())


def test_pictures_saved_anew_are_found_and_others_not() -> None:
    images = [smooth(seed) for seed in range(40)]
    images += [save_anew(images[3], 0.5, 60), save_anew(images[7], 1.5, 40)]
    pairs = list(near_pairs([difference_hash(image) for image in images], [thumbnail(image) for image in images]))
    assert pairs == [(3, 40), (7, 41)]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [smooth(seed % 9) for seed in range(25)]
    hashes, small = [difference_hash(image) for image in images], [thumbnail(image) for image in images]
    whole = set(near_pairs(hashes, small))
    monkeypatch.setattr(duplicates, "_BLOCK", 4)
    assert set(near_pairs(hashes, small)) == whole
    assert len(join_pairs(list(whole), 25)) == 9


def test_flat_pictures_of_other_colours_are_not_alike() -> None:
    images = [np.full((40, 60, 3), level, np.uint8) for level in (10, 12, 200)]
    pairs = near_pairs([difference_hash(image) for image in images], [thumbnail(image) for image in images])
    assert list(pairs) == [(0, 1)]


def test_no_pictures() -> None:
    assert list(near_pairs([], [])) == []
    assert group_equal([]) == []


def test_bits_are_counted_without_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.random.default_rng(0).integers(0, 2**64 - 1, (5, 7), dtype=np.uint64)
    expected = [[int(word).bit_count() for word in row] for row in words]
    assert count_bits(words).tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert count_bits(words).tolist() == expected


@pytest.mark.data
def test_thresholds_hold_on_photographs(data_dir: Path) -> None:
    paths = sorted((data_dir / "coco-person" / "val").iterdir())[:60]
    images = [read_image(path).image for path in paths]
    images += [save_anew(image, 0.5, 60) for image in images[:20]]
    pairs = list(near_pairs([difference_hash(image) for image in images], [thumbnail(image) for image in images]))
    assert pairs == [(index, 60 + index) for index in range(20)]
