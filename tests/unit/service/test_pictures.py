"""Answers as pictures: which form is chosen, and that masks keep their numbers."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request

from service.errors import NotAcceptableError
from service.pictures import Form, accepted_form, encode, mask_png
from vision.types import SegmentationMap

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"


def form(accept: str | None) -> Form:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    return accepted_form(Request({"type": "http", "headers": headers}))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, Form.JSON),
        ("*/*", Form.JSON),
        ("application/json", Form.JSON),
        ("application/*", Form.JSON),
        ("application/json; charset=utf-8", Form.JSON),
        ("image/png", Form.PNG),
        ("IMAGE/PNG", Form.PNG),
        ("image/jpeg", Form.JPEG),
        ("image/*", Form.JPEG),
        ("image/png, application/json", Form.JSON),
        ("image/png, */*", Form.PNG),
        ("application/json;q=0.1, image/png", Form.PNG),
        ("application/json;q=0, */*", Form.JPEG),
        ("image/png;q=0.2, image/jpeg;q=0.3", Form.JPEG),
        ("image/webp, image/png;q=0.1", Form.PNG),
        ("image/*, image/jpeg;q=0", Form.PNG),
        (CHROME, Form.JSON),
        ("application/jsonp, image/png", Form.PNG),
    ],
)
def test_client_gets_the_form_it_likes_best(accept: str | None, expected: Form) -> None:
    assert form(accept) is expected


@pytest.mark.parametrize(
    "accept", ["text/html", "image/webp", "image/png;q=0", "", ",;,", "application/jsonp", "image/png;q=x", "a" * 9000]
)
def test_what_we_cannot_make_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match="application/json, image/jpeg, image/png") as refused:
        form(accept)
    assert len(str(refused.value)) < 300


def test_mask_keeps_its_numbers_and_has_a_palette() -> None:
    labels = np.arange(24, dtype=np.uint8).reshape(4, 6) % 3
    image = Image.open(io.BytesIO(mask_png(SegmentationMap(labels, ("sky", "road", "tree")))))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), labels)
    palette = image.getpalette()
    assert palette is not None
    assert len({tuple(palette[3 * label : 3 * label + 3]) for label in range(3)}) == 3


def test_encoded_pictures_keep_red_red() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    png = cv2.imdecode(np.frombuffer(encode(red, Form.PNG), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(png, red)
    jpeg = cv2.imdecode(np.frombuffer(encode(red, Form.JPEG), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert jpeg is not None
    assert abs(jpeg.astype(int) - red).max() < 12
