"""Inputs of a request as pictures and boxes."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from service.oip.limits import DEFAULT_LIMITS, OipError, OipLimits
from service.oip.pictures import read_pictures
from service.oip.tensors import Tensor

FILES = [b"first", b"second"]
PIXELS = Tensor.of("pixels", "UINT8", np.zeros((2, 5, 4, 3)))
IMAGE = Tensor.of_strings("image", [2], FILES)


def image(shape: list[int], files: list[bytes]) -> Tensor:
    return Tensor.of_strings("image", shape, files)


def boxes(rows: list[list[float]], datatype: str = "FP32") -> Tensor:
    return Tensor.of("boxes", datatype, np.array(rows).reshape(len(rows), -1))


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_encoded_pictures(shape: list[int]) -> None:
    assert list(read_pictures([image(shape, FILES)], DEFAULT_LIMITS).pictures) == FILES


def test_json_carries_base64() -> None:
    texts = tuple(base64.b64encode(part) for part in FILES)
    tensor = Tensor("image", "BYTES", (2,), texts, from_json=True)
    assert list(read_pictures([tensor], DEFAULT_LIMITS).pictures) == FILES
    for text in (b"no base64!", "ÿØ".encode(), b"abc"):
        with pytest.raises(OipError, match="base64"):
            read_pictures([Tensor("image", "BYTES", (1,), (text,), from_json=True)], DEFAULT_LIMITS)


def test_raw_pictures_are_views() -> None:
    found = read_pictures([PIXELS], DEFAULT_LIMITS).pictures
    assert [getattr(picture, "shape", None) for picture in found] == [(5, 4, 3)] * 2
    assert np.shares_memory(np.asarray(found[1]), PIXELS.array)
    single = Tensor.of("pixels", "UINT8", np.zeros((5, 4, 3)))
    assert len(read_pictures([single], DEFAULT_LIMITS).pictures) == 1


def test_boxes_of_one_picture() -> None:
    found = read_pictures(
        [image([1], FILES[:1]), boxes([[0, 0, 2, 3], [1, 1, 1, 1]])], DEFAULT_LIMITS, takes_boxes=True
    )
    assert found.boxes is not None
    assert (found.boxes.shape, found.boxes.dtype) == ((2, 4), np.float32)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([Tensor.of_strings("images", [1], [b"x"])], "did you mean 'image'"),
        ([IMAGE, PIXELS], "both"),
        ([boxes([[0, 0, 1, 1]])], "neither"),
        ([image([0], [])], "1 to 64 pictures, got 0"),
        ([image([65], [b""] * 65)], "got 65"),
        ([image([], [b"x"])], "shape"),
        ([image([1, 2], FILES)], "shape"),
        ([image([2, 1, 1], FILES)], "shape"),
        ([Tensor.of("image", "UINT8", np.zeros((4, 4, 3)))], "raw RGB goes into pixels"),
        ([Tensor.of_strings("pixels", [1], [b"x"])], "encoded files go into image"),
        ([Tensor.of("pixels", "FP32", np.zeros((4, 4, 3)))], "UINT8"),
        ([Tensor.of("pixels", "UINT8", np.zeros((4, 4)))], "colours last"),
        ([Tensor.of("pixels", "UINT8", np.zeros((3, 4, 4)))], "colours last"),
        ([Tensor.of("pixels", "UINT8", np.zeros((1, 4, 4, 4)))], "colours last"),
        ([Tensor.of("pixels", "UINT8", np.zeros((0, 4, 3)))], "one pixel"),
        ([Tensor.of("pixels", "UINT8", np.zeros((0, 4, 4, 3)))], "got 0"),
        ([IMAGE, boxes([[0, 0, 1, 1]])], "one picture, got 2"),
        ([image([1], [b"x"]), boxes([[0, 0, 1]])], r"FP32 \[N, 4\]"),
        ([image([1], [b"x"]), boxes([[0, 0, 1, 1]], "FP64")], "FP64"),
        ([image([1], [b"x"]), boxes([[0, 0, np.nan, 1]])], "finite"),
        ([image([1], [b"x"]), Tensor.of("boxes", "FP32", np.zeros((0, 4)))], "1 to 1000, got 0"),
        ([image([1], [b"x"]), Tensor.of("boxes", "FP32", np.zeros((1001, 4)))], "got 1001"),
        ([image([1], [b"x"]), boxes([[2, 0, 1, 1]])], "x1 <= x2"),
    ],
)
def test_inputs_that_are_no_pictures(inputs: list[Tensor], says: str) -> None:
    with pytest.raises(OipError, match=says):
        read_pictures(inputs, DEFAULT_LIMITS, takes_boxes=True)


def test_only_embedders_take_boxes() -> None:
    with pytest.raises(OipError, match="got 'boxes'"):
        read_pictures([IMAGE, boxes([[0, 0, 1, 1]])], DEFAULT_LIMITS)


def test_the_limit_of_pictures_is_the_servers() -> None:
    with pytest.raises(OipError, match="1 to 1 pictures"):
        read_pictures([IMAGE], OipLimits(max_pictures=1))
