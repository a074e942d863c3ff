"""Compressed run lengths: there and back, and the same text and masks as COCO's own tools."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vision.errors import InvalidInputError
from vision.geometry.rle import compress_counts, decode_label_map, decode_mask, encode_mask, expand_counts

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(st.lists(st.integers(0, 2**31 - 1), max_size=50))
def test_counts_come_back(counts: list[int]) -> None:
    assert expand_counts(compress_counts(counts)) == counts


@given(MASKS)
def test_cocos_tools_write_the_same_and_read_ours(mask: np.ndarray) -> None:
    tools = pytest.importorskip("faster_coco_eval.core.mask", reason="needs faster-coco-eval (the extra eval)")
    runs = encode_mask(mask)
    ours = {"size": runs["size"], "counts": compress_counts(runs["counts"])}
    theirs = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = theirs["counts"] if isinstance(theirs["counts"], str) else theirs["counts"].decode()
    assert (ours["size"], ours["counts"]) == (list(theirs["size"]), text)
    np.testing.assert_array_equal(tools.decode(ours), mask)
    assert int(tools.area(ours)) == mask.sum()
    np.testing.assert_array_equal(decode_mask({**ours, "counts": expand_counts(text)}), mask)


@pytest.mark.parametrize(("text", "words"), [("61X", "cut short"), ("6 1", "characters"), ("\u4eba", "characters")])
def test_damaged_text_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        expand_counts(text)


def test_a_number_without_end_is_refused_at_once() -> None:
    start = time.perf_counter()
    with pytest.raises(InvalidInputError, match="below 2\\*\\*60"):
        expand_counts("o" * 1_000_000)
    assert time.perf_counter() - start < 1


FORGED_LENGTHS = [
    ([2**62] * 4 + [6], "got 4611686018427387904 in one"),
    ([2**63, 6], "list of integers"),
    ([2**70], "list of integers"),
    ([1.5, 4.5], "list of integers"),
    (["6"], "list of integers"),
    ([True] * 6, "list of integers"),
    ([[6]], "list of integers"),
    ([[6], 1], "list of integers"),
    ("6", "list of integers"),
    ([7, -1], "got 7 in one"),
    ([], "got 0"),
]


@pytest.mark.parametrize(("lengths", "words"), FORGED_LENGTHS)
def test_forged_lengths_are_refused(lengths: list[int], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        decode_mask({"size": [2, 3], "counts": lengths})
    with pytest.raises(InvalidInputError, match=words):
        decode_label_map({"size_hw": [2, 3], "dtype": "uint8", "values": [0] * len(lengths), "lengths": lengths})


@pytest.mark.parametrize(
    "size", [[2**31, 2**31], [60000, 60000], [-2, -3], [0, -1], [2], [1, 2, 3], [1.0, 6.0], "23", None, 6]
)
def test_forged_sizes_are_refused(size: object) -> None:
    with pytest.raises(InvalidInputError, match="a height and a width"):
        decode_mask({"size": size, "counts": [6]})
    with pytest.raises(InvalidInputError, match="a height and a width"):
        decode_label_map({"size_hw": size, "dtype": "uint8", "values": [0], "lengths": [6]})


def test_pictures_without_pixels_come_back() -> None:
    for size in ([0, 0], [0, 5], [5, 0]):
        assert decode_mask({"size": size, "counts": []}).shape == tuple(size)
        assert decode_mask({"size": size, "counts": [0]}).shape == tuple(size)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [("uint8", [1, 2]), ("uint8", [300]), ("uint8", [-1]), ("uint8", ["a"]), ("U9", ["a"]), ("object", [{}]),
     ("float64", [1]), ("nothing", [1]), (7, [1]), ("uint8", [[1]])],
)  # fmt: skip
def test_forged_values_are_refused(dtype: object, values: list[object]) -> None:
    with pytest.raises(InvalidInputError, match="run values must be"):
        decode_label_map({"size_hw": [2, 3], "dtype": dtype, "values": values, "lengths": [6]})


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="must sum to 2 x 3"):
        decode_mask({"size": [2, 3], "counts": expand_counts(compress_counts([4, 1]))})
