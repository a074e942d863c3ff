"""Query parameters: what is read, and what is refused with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from service.errors import InvalidParameterError
from service.parameters import (
    ClassifyParameters,
    DetectParameters,
    EmbedParameters,
    ImageParameters,
    SegmentParameters,
    openapi_parameters,
    split_names,
)
from service.routes.images import detector_options
from vision.errors import InvalidInputError


def request(query: bytes) -> Request:
    return Request({"type": "http", "query_string": query, "headers": []})


def test_no_query_is_the_defaults() -> None:
    assert DetectParameters.of(request(b"")) == DetectParameters()
    assert detector_options(DetectParameters()) is None


def test_values_are_read() -> None:
    found = DetectParameters.parse(
        "model=person-lite0&conf=0&iou=0.5&max_det=7&classes=car,%20bus&class_agnostic=true&size=640&timeout_ms=1500"
    )
    options = detector_options(found)
    assert options is not None
    assert (options.conf, options.iou, options.max_det, options.classes) == (0.0, 0.5, 7, ("car", "bus"))
    assert (options.class_agnostic, options.long_side) == (True, 640)
    assert found.timeout_s(30.0) == 1.5
    assert found.timeout_s(1.0) == 1.0  # the server's limit holds, too


def test_model_and_time_alone_leave_the_models_own_thresholds() -> None:
    assert detector_options(DetectParameters.parse("model=x&timeout_ms=5")) is None


@pytest.mark.parametrize(
    "query", [b"classes=stra%C3%9Fe", "classes=straße".encode()], ids=["percent-encoded", "as typed"]
)
def test_names_may_have_any_letters(query: bytes) -> None:
    assert SegmentParameters.of(request(query)).classes == "straße"


@pytest.mark.parametrize(
    ("kind", "query", "says"),
    [
        (DetectParameters, "conf=high", "conf: .*number.*'high'"),
        (DetectParameters, "conf=nan", "conf: .*finite"),
        (DetectParameters, "conf=inf", "conf"),
        (DetectParameters, "conf=1.1", "conf: .*less than or equal to 1"),
        (DetectParameters, "conf=-0.1", "conf"),
        (DetectParameters, "conf=", "conf"),
        (DetectParameters, "iou=0", "iou: .*greater than 0"),
        (DetectParameters, "max_det=0", "max_det"),
        (DetectParameters, "max_det=1001", "max_det"),
        (DetectParameters, "max_det=2.5", "max_det"),
        (DetectParameters, "class_agnostic=perhaps", "class_agnostic"),
        (DetectParameters, "size=1000000", "size"),
        (DetectParameters, "size=-1", "size"),
        (DetectParameters, "max_dets=5", "max_dets is unknown.*did you mean 'max_det'"),
        (DetectParameters, "conf=0.1&conf=0.2", "twice"),
        (DetectParameters, "model=../../etc/passwd", "model"),
        (DetectParameters, "model=", "model"),
        (DetectParameters, "model=" + "a" * 200, "model"),
        (DetectParameters, "timeout_ms=0", "timeout_ms"),
        (DetectParameters, "classes=" + "a" * 5000, "classes"),
        (DetectParameters, "classes=%ff", "query"),
        (DetectParameters, "&".join(f"a{n}=1" for n in range(60)), "query"),
        (SegmentParameters, "render=both", "render"),
        (ClassifyParameters, "top=-1", "top"),
        (ClassifyParameters, "conf=0.5", "conf is unknown"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(kind: type[ImageParameters], query: str, says: str) -> None:
    with pytest.raises(InvalidParameterError, match=says) as refused:
        kind.parse(query)
    assert len(str(refused.value)) < 1000


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="UTF-8"):
        DetectParameters.of(request(b"classes=\xff\xfe"))


def test_several_faults_are_told_together() -> None:
    with pytest.raises(InvalidParameterError, match=r"conf.*iou.*what is unknown"):
        DetectParameters.parse("conf=x&iou=y&what=z")


def test_boxes_are_read() -> None:
    boxes = EmbedParameters.parse("boxes=1,2,30.5,40;5,5,50,60;").box_array()
    assert boxes is not None
    assert boxes.dtype == np.float32
    np.testing.assert_array_equal(boxes, [[1, 2, 30.5, 40], [5, 5, 50, 60]])
    assert EmbedParameters().box_array() is None


@pytest.mark.parametrize(
    "boxes",
    ["", ";", "1,2,3", "1,2,3,4,5", "1,2,x,4", "1,2,nan,4", "1,2,inf,4", "30,2,1,40", ";".join(["1,2,3,4"] * 1001)],
)
def test_boxes_that_are_none_are_refused(boxes: str) -> None:
    with pytest.raises((InvalidParameterError, InvalidInputError)) as refused:
        EmbedParameters.parse(f"boxes={boxes}").box_array()
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(("text", "names"), [(None, ()), ("", ()), (" , ", ()), ("a, b ,c", ("a", "b", "c"))])
def test_names_are_split(text: str | None, names: tuple[str, ...]) -> None:
    assert split_names(text) == names


@pytest.mark.parametrize("kind", [DetectParameters, SegmentParameters, ClassifyParameters, EmbedParameters])
def test_openapi_describes_every_parameter(kind: type[ImageParameters]) -> None:
    described: list[dict[str, Any]] = openapi_parameters(kind)
    assert [each["name"] for each in described] == list(kind.model_fields)
    assert all(each["description"] for each in described)
    assert all(each["in"] == "query" and not each["required"] for each in described)
