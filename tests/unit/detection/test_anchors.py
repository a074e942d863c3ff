"""Anchors by hand, and the box coding as its own inverse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vision.detection.anchors import (
    MAX_SIZE_DELTA,
    AnchorConfig,
    anchor_config_from,
    decode_boxes,
    encode_boxes,
    make_anchors,
)
from vision.errors import ConfigError


def test_counts_follow_the_levels() -> None:
    anchors = make_anchors(AnchorConfig(ratios=(1.0, 2.0)), (128, 192))
    assert anchors.counts == (16 * 24 * 2, 8 * 12 * 2, 4 * 6 * 2, 2 * 3 * 2)
    assert anchors.boxes.shape == (sum(anchors.counts), 4)
    assert anchors.boxes.dtype == torch.float32


def test_a_shape_by_hand() -> None:
    """Stride 8, scale 4: area 32 x 32; ratio 4 makes it 16 wide and 64 high around the centre of its cell."""
    anchors = make_anchors(AnchorConfig(strides=(8,), scale=4.0, ratios=(1.0, 4.0)), (16, 24))
    torch.testing.assert_close(anchors.boxes[0], torch.tensor([4.0 - 16, 4 - 16, 4 + 16, 4 + 16]))
    torch.testing.assert_close(anchors.boxes[1], torch.tensor([4.0 - 8, 4 - 32, 4 + 8, 4 + 32]))
    # Rows, then columns, then shapes: the fourth cell is the first of the second row.
    torch.testing.assert_close(anchors.boxes[2 * 3], torch.tensor([4.0 - 16, 12 - 16, 4 + 16, 12 + 16]))


@pytest.mark.parametrize("stride", [8, 16, 32, 64])
def test_centres_are_the_centres_of_the_cells(stride: int) -> None:
    boxes = make_anchors(AnchorConfig(strides=(stride,)), (128, 192)).boxes
    centres = ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist()
    expected = [
        [(column + 0.5) * stride, (row + 0.5) * stride]
        for row in range(128 // stride)
        for column in range(192 // stride)
    ]
    torch.testing.assert_close(torch.tensor(centres), torch.tensor(expected))
    torch.testing.assert_close(
        (boxes[:, 2:] - boxes[:, :2]).prod(dim=1), torch.full((len(boxes),), (4.0 * stride) ** 2)
    )


def test_zero_deltas_are_the_anchors() -> None:
    anchors = make_anchors(AnchorConfig(), (64, 64)).boxes
    torch.testing.assert_close(decode_boxes(torch.zeros_like(anchors), anchors), anchors)
    assert encode_boxes(anchors, anchors).abs().max() < 1e-6


def test_deltas_by_hand() -> None:
    anchor, box = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 5, 25, 15]])
    expected = torch.tensor([[(15 - 5) / 10, 0.0, math.log(2), math.log(0.5)]])
    torch.testing.assert_close(encode_boxes(box, anchor), expected)


def test_a_wild_size_delta_stays_finite() -> None:
    anchor = torch.tensor([[0.0, 0, 10, 10]])
    box = decode_boxes(torch.tensor([[0.0, 0, 1000, MAX_SIZE_DELTA]]), anchor)
    torch.testing.assert_close((box[0, 2:] - box[0, :2]) / 10, torch.full((2,), 62.5))


coordinates = st.floats(-500, 500, width=32)
sides = st.floats(1, 300, width=32)
boxes = st.tuples(coordinates, coordinates, sides, sides).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
pairs = st.lists(st.tuples(boxes, boxes), min_size=1, max_size=8)


@given(pairs)
def test_decode_is_the_inverse_of_encode(rows: list[tuple[list[float], list[float]]]) -> None:
    box, anchor = (torch.tensor([row[side] for row in rows], dtype=torch.float64) for side in (0, 1))
    size = (box[:, 2:] - box[:, :2]) / (anchor[:, 2:] - anchor[:, :2])
    within = (size.log() <= MAX_SIZE_DELTA).all(dim=1)
    torch.testing.assert_close(
        decode_boxes(encode_boxes(box, anchor), anchor)[within], box[within], atol=1e-6, rtol=1e-9
    )


def test_config_round_trips_through_a_card() -> None:
    config = AnchorConfig(strides=(16, 32), scale=3.0, ratios=(0.5, 2.0))
    assert anchor_config_from({"strides": [16, 32], "scale": 3, "ratios": [0.5, 2]}) == config


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strides": ()}, "must ascend"),
        ({"strides": (16, 8)}, r"must ascend without repeats, got \(16, 8\)"),
        ({"strides": (8, 8)}, "must ascend"),
        ({"scale": 0.0}, "must be > 0"),
        ({"ratios": ()}, "must be > 0"),
        ({"ratios": (1.0, -2.0)}, "must be > 0"),
    ],
)
def test_config_ranges(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AnchorConfig(**fields)  # type: ignore[arg-type]
