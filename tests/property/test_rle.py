"""Compressed run lengths: there and back, and the same text and masks as COCO's own tools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vision.errors import InvalidInputError
from vision.geometry.rle import compress_counts, decode_mask, encode_mask, expand_counts

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


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="must sum to 2 x 3"):
        decode_mask({"size": [2, 3], "counts": expand_counts(compress_counts([4, 1]))})
