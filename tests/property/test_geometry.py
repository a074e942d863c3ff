"""Laws of boxes, overlaps, letterboxes and run lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vision.errors import InvalidInputError
from vision.geometry.boxes import (
    box_area,
    clip_boxes,
    cxcyah_to_xyxy,
    cxcywh_to_xyxy,
    xywh_to_xyxy,
    xyxy_to_cxcyah,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)
from vision.geometry.iou import pairwise_intersection, pairwise_iou
from vision.geometry.letterbox import Letterbox
from vision.geometry.rle import decode_label_map, decode_mask, encode_label_map, encode_mask

COORDINATE = st.floats(-1e4, 1e4, width=32)


@st.composite
def boxes(draw: st.DrawFn, *, min_rows: int = 0, max_rows: int = 6, min_side: float = 0.0) -> np.ndarray:
    """Draw float32 [N, 4] xyxy boxes."""
    n = draw(st.integers(min_rows, max_rows))
    corner = draw(npst.arrays(np.float32, (n, 2), elements=COORDINATE))
    size = draw(npst.arrays(np.float32, (n, 2), elements=st.floats(float(np.float32(min_side)), 5e3, width=32)))
    return np.concatenate([corner, corner + size], axis=1)


SIZE_HW = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@given(boxes(), boxes())
def test_iou_is_symmetric_and_in_unit_range(a: np.ndarray, b: np.ndarray) -> None:
    iou = pairwise_iou(a, b)
    assert iou.shape == (len(a), len(b))
    np.testing.assert_allclose(iou, pairwise_iou(b, a).T, atol=1e-12)
    assert ((iou >= 0) & (iou <= 1)).all()


@given(boxes(min_rows=1, min_side=0.01))
def test_iou_of_a_box_with_itself_is_one(a: np.ndarray) -> None:
    solid = a[box_area(a) > 0]
    np.testing.assert_allclose(np.diag(pairwise_iou(solid, solid)), 1)


@given(boxes(min_rows=1), boxes(min_rows=1))
def test_iou_is_zero_where_an_area_is_zero(a: np.ndarray, b: np.ndarray) -> None:
    flat = a.copy()
    flat[:, 2] = flat[:, 0]
    assert (pairwise_iou(flat, b) == 0).all()


@given(boxes(min_rows=1, min_side=1), st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_iou_does_not_change_when_both_move(a: np.ndarray, dx: int, dy: int) -> None:
    wide = a.astype(np.float64)
    moved = wide + np.array([dx, dy, dx, dy])
    np.testing.assert_allclose(pairwise_iou(moved, moved), pairwise_iou(wide, wide), atol=1e-6)


@given(boxes(), boxes())
def test_the_intersection_is_at_most_the_smaller_area(a: np.ndarray, b: np.ndarray) -> None:
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    smaller = np.minimum(box_area(wide_a)[:, None], box_area(wide_b)[None, :])
    assert (pairwise_intersection(wide_a, wide_b) <= smaller * (1 + 1e-9) + 1e-9).all()


@pytest.mark.parametrize(
    ("to", "back", "min_side"),
    [
        (xyxy_to_xywh, xywh_to_xyxy, 0.0),
        (xyxy_to_cxcywh, cxcywh_to_xyxy, 0.0),
        (xyxy_to_cxcyah, cxcyah_to_xyxy, 1.0),
    ],
)
@given(data=st.data())
def test_conversions_return(to: object, back: object, min_side: float, data: st.DataObject) -> None:
    drawn = data.draw(boxes(min_side=min_side)).astype(np.float64)
    before = drawn.copy()
    np.testing.assert_allclose(back(to(drawn)), drawn, atol=1e-6)
    np.testing.assert_array_equal(drawn, before)


@given(boxes(), SIZE_HW)
def test_clipped_boxes_lie_in_the_frame_and_stay_so(a: np.ndarray, size_hw: tuple[int, int]) -> None:
    clipped = clip_boxes(a, size_hw)
    assert (clipped >= 0).all()
    assert (clipped[:, [0, 2]] <= size_hw[1]).all()
    assert (clipped[:, [1, 3]] <= size_hw[0]).all()
    assert (clipped[:, :2] <= clipped[:, 2:]).all()
    np.testing.assert_array_equal(clip_boxes(clipped, size_hw), clipped)


@given(SIZE_HW, st.integers(1, 2048), st.sampled_from([1, 8, 32, 64]), st.data())
def test_letterbox_returns_boxes(size_hw: tuple[int, int], long_side: int, multiple: int, data: st.DataObject) -> None:
    letterbox = Letterbox.fit(size_hw, long_side=long_side, multiple=multiple)
    inside = clip_boxes(data.draw(boxes()).astype(np.float64), size_hw)
    network = letterbox.to_network(inside)
    np.testing.assert_allclose(letterbox.to_source(network), inside, atol=1e-6)
    assert (network[:, [0, 2]] <= letterbox.scaled_hw[1] * (1 + 1e-9)).all()
    assert (network[:, [1, 3]] <= letterbox.scaled_hw[0] * (1 + 1e-9)).all()


@given(SIZE_HW, st.integers(1, 2048), st.sampled_from([1, 8, 32, 64]))
def test_letterbox_sizes(size_hw: tuple[int, int], long_side: int, multiple: int) -> None:
    letterbox = Letterbox.fit(size_hw, long_side=long_side, multiple=multiple)
    assert max(letterbox.scaled_hw) == long_side
    for scaled, padded in zip(letterbox.scaled_hw, letterbox.padded_hw, strict=True):
        assert padded % multiple == 0
        assert 0 <= padded - scaled < multiple


@given(SIZE_HW, SIZE_HW, st.data())
def test_stretch_maps_corner_to_corner(
    size_hw: tuple[int, int], target_hw: tuple[int, int], data: st.DataObject
) -> None:
    letterbox = Letterbox.stretch(size_hw, target_hw)
    whole = np.array([[0.0, 0.0, size_hw[1], size_hw[0]]])
    np.testing.assert_allclose(letterbox.to_network(whole), [[0, 0, target_hw[1], target_hw[0]]])
    drawn = data.draw(boxes()).astype(np.float64)
    np.testing.assert_allclose(letterbox.to_source(letterbox.to_network(drawn), clip=False), drawn, atol=1e-6)


@pytest.mark.parametrize("bad", [((0, 5), 32, 32), ((5, 5), 0, 32), ((5, 5), 32, 0)])
def test_letterbox_refuses_empty_sizes(bad: tuple[tuple[int, int], int, int]) -> None:
    with pytest.raises(InvalidInputError, match=">= 1"):
        Letterbox.fit(bad[0], long_side=bad[1], multiple=bad[2])


SHAPES = st.tuples(st.integers(0, 12), st.integers(0, 12))


@given(SHAPES.flatmap(lambda shape: npst.arrays(np.bool_, shape)))
def test_masks_return_from_run_lengths(mask: np.ndarray) -> None:
    rle = encode_mask(mask)
    np.testing.assert_array_equal(decode_mask(rle), mask)
    assert sum(rle["counts"]) == mask.size
    # COCO counts begin with zeros, so every second one counts the mask's pixels.
    assert sum(rle["counts"][1::2]) == mask.sum()


@given(SHAPES.flatmap(lambda shape: npst.arrays(np.bool_, shape)))
def test_masks_have_the_run_lengths_of_coco(mask: np.ndarray) -> None:
    counts, value, run = [], False, 0
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != value:
            counts.append(run)
            value, run = pixel, 0
        run += 1
    assume(mask.size > 0)
    assert encode_mask(mask)["counts"] == [*counts, run]


@given(st.sampled_from([np.uint8, np.int64]).flatmap(lambda d: SHAPES.flatmap(lambda s: npst.arrays(d, s))))
def test_label_maps_return_from_run_lengths(labels: np.ndarray) -> None:
    restored = decode_label_map(encode_label_map(labels))
    assert restored.dtype == labels.dtype
    np.testing.assert_array_equal(restored, labels)


@pytest.mark.parametrize("lengths", [[3], [5], [-1, 5], [10**12]])
def test_forged_run_lengths_are_refused(lengths: list[int]) -> None:
    values = list(range(len(lengths)))
    with pytest.raises(InvalidInputError, match="run lengths must sum"):
        decode_label_map({"size_hw": [2, 2], "dtype": "uint8", "values": values, "lengths": lengths})
    with pytest.raises(InvalidInputError, match="run lengths must sum"):
        decode_mask({"size": [2, 2], "counts": lengths})
