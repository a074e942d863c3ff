"""Parameters of a request, and the statistics of its model."""

from __future__ import annotations

from typing import Any

import pytest

from service.oip.limits import OipError
from service.oip.parameters import read_request_parameters
from service.oip.statistics import Statistics
from service.work import Served
from vision.detection.config import DetectorConfig


def test_thresholds_of_a_detector() -> None:
    given = {"conf": 0.25, "iou": 0.6, "max_det": 5, "classes": "person, car", "class_agnostic": True, "size": 320}
    assert read_request_parameters(given, "detect").options() == DetectorConfig(
        conf=0.25, iou=0.6, max_det=5, classes=("person", "car"), class_agnostic=True, long_side=320
    )
    assert read_request_parameters({"classes": ["person"]}, "detect").options() == DetectorConfig(classes=("person",))
    assert read_request_parameters({"conf": 1}, "detect").options() == DetectorConfig(conf=1.0)
    assert read_request_parameters({}, "detect").options() is None


def test_choices_of_the_other_tasks() -> None:
    assert read_request_parameters({"classes": "sky"}, "segment").options().classes == ("sky",)
    assert read_request_parameters({}, "segment").options() is None
    assert read_request_parameters({}, "classify").options().top == 0
    assert read_request_parameters({}, "embed").options() is None


@pytest.mark.parametrize(
    ("given", "seconds"),
    [({}, 30), ({"timeout_ms": 500}, 0.5), ({"timeout": 2_000_000}, 2), ({"timeout": 0}, 30),
     ({"timeout": 9_000_000, "timeout_ms": 1500.0}, 1.5), ({"timeout_ms": 1e9, "priority": 3}, 30)],
)  # fmt: skip
def test_the_time_for_an_answer(given: dict[str, Any], seconds: float) -> None:
    assert read_request_parameters(given, "embed").timeout_s(30.0) == seconds


@pytest.mark.parametrize(
    ("given", "task", "says"),
    [
        ({"confidence": 0.5}, "detect", "did you mean 'conf'"),
        ({"score_threshold": 0.5}, "embed", "got 'score_threshold'"),
        ({"time_out": 5}, "embed", "did you mean 'timeout'"),
        ({"sequenceid": 5}, "embed", "did you mean 'sequence_id'"),
        ({"conf_": 0.5}, "detect", "did you mean 'conf'"),
        ({"conf": 0.5}, "segment", "got 'conf'"),
        ({"top": 5}, "classify", "got 'top'"),
        ({"conf": 1.5}, "detect", "conf"),
        ({"conf": "0.5"}, "detect", "valid number"),
        ({"conf": True}, "detect", "valid number"),
        ({"conf": None, "iou": 0}, "detect", "iou"),
        ({"max_det": 0}, "detect", "max_det"),
        ({"max_det": 2.5}, "detect", "max_det"),
        ({"max_det": 10**9}, "detect", "max_det"),
        ({"size": 1 << 20}, "detect", "size"),
        ({"classes": [1]}, "detect", "classes"),
        ({"classes": {"a": 1}}, "detect", "classes"),
        ({"classes": ["x" * 1000]}, "detect", "classes"),
        ({"timeout_ms": -1}, "detect", "timeout_ms"),
        ({"timeout": "1"}, "detect", "timeout"),
        ({"sequence_id": 5, "sequence_start": True}, "detect", "/v1/sessions"),
        ({"sequence_id": "cam"}, "detect", "/v1/sessions"),
        ({"sequence_start": True}, "detect", "/v1/sessions"),
        ({"sequence_id": {}}, "detect", "/v1/sessions"),
    ],
)
def test_parameters_that_are_none(given: dict[str, Any], task: str, says: str) -> None:
    with pytest.raises(OipError, match=says):
        read_request_parameters(given, task)


@pytest.mark.parametrize(
    "given",
    [
        {"content_type": "base64"},
        {"headers": {"x-tenant": "a"}, "trace": None, "": 1, "camera": "north"},
        {"sequence_id": 0, "sequence_start": False, "sequence_end": False},
        {"sequence_id": ""},
    ],
)
@pytest.mark.parametrize("task", ["detect", "segment", "classify", "embed"])
def test_what_other_servers_have_a_use_for_is_ignored(given: dict[str, Any], task: str) -> None:
    found = read_request_parameters(given | {"timeout_ms": 7}, task)
    assert found == read_request_parameters({"timeout_ms": 7}, task)


def test_statistics_add_up() -> None:
    statistics = Statistics()
    own = statistics.of("m")
    assert statistics.of("m") is own
    own.succeeded([Served(None, 1.0, 4.0, 2)] * 2 + [Served(None, 0.0, 2.0, 1)], total_s=0.02, input_s=0.006,
                  output_s=0.001)  # fmt: skip
    own.failed(0.5)
    row = own.to_dict("m")
    assert (row["inference_count"], row["execution_count"], row["version"]) == (3, 2, "1")
    assert row["last_inference"] > 0
    assert row["inference_stats"]["success"] == {"count": 1, "ns": 20_000_000}
    assert row["inference_stats"]["fail"] == {"count": 1, "ns": 500_000_000}
    assert row["inference_stats"]["queue"] == {"count": 3, "ns": 2_000_000}
    assert row["inference_stats"]["compute_infer"] == {"count": 3, "ns": 10_000_000}
    assert row["batch_stats"][1] == {"batch_size": 2, "compute_infer": {"count": 2, "ns": 8_000_000}}
