"""Metrics: every name that dashboards rely on, and nothing besides."""

from __future__ import annotations

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import METRIC_NAMES, Metrics
from vision.errors import MediaError


def families(metrics: Metrics) -> dict[str, float]:
    """Return name of each sample -> sum of its values."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def filled() -> Metrics:
    metrics = Metrics()
    metrics.answered_request("/v1/detect", "POST", 200, 0.01)
    metrics.rejected("queue_full")
    metrics.jobs.labels("queued").set(2)
    model = metrics.model("m")
    model.follow_readiness(lambda: 1.0)
    model.waited(0.1)
    model.ran(4, 0.2)
    model.decoded(0.01)
    model.finished(0.001)
    model.dropped("expired")
    model.failed(ValueError())
    return metrics


def test_exposition_has_all_names_and_no_other() -> None:
    text = filled().exposition().decode()
    typed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    own = {name for name in typed if not name.startswith("process_")}
    assert own == set(METRIC_NAMES)


def test_counters_and_histograms_count() -> None:
    found = families(filled())
    assert found["stride32_requests_total"] == 1
    assert found["stride32_request_seconds_count"] == 1
    assert found["stride32_batch_size_sum"] == 4
    assert found["stride32_stage_seconds_count"] == 3
    assert found["stride32_queue_wait_seconds_sum"] == pytest.approx(0.1)
    assert found["stride32_rejects_total"] == found["stride32_dropped_total"] == found["stride32_failures_total"] == 1
    assert found["stride32_jobs"] == 2


def test_apps_do_not_see_each_other() -> None:
    filled()
    assert "stride32_requests_total" not in families(Metrics())


def test_model_is_counted_under_one_name() -> None:
    metrics = Metrics()
    assert metrics.model("a") is metrics.model("a")


def test_summary_is_of_the_last_inputs() -> None:
    model = Metrics().model("m")
    assert model.summary() == {"queue_wait_ms_p50": None, "infer_ms_p50": None, "batch_mean": None}
    for batch, seconds in ((1, 0.010), (3, 0.030), (2, 0.020)):
        model.ran(batch, seconds)
        model.waited(seconds / 10)
    assert model.summary() == {"queue_wait_ms_p50": 2.0, "infer_ms_p50": 20.0, "batch_mean": 2.0}


def test_failures_in_a_row_end_with_a_batch() -> None:
    model = Metrics().model("m")
    model.failed(ValueError())
    model.failed(MediaError("the picture's own fault"))
    assert (model.failures_in_a_row, model.failure_count, model.last_error) == (1, 2, "MediaError")
    assert 0 <= model.since_failure_s() < 20
    model.ran(1, 0.01)
    assert model.failures_in_a_row == 0


def test_rate_is_that_of_the_last_second_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    metrics = Metrics()
    for _ in range(10):
        metrics.answered_request("/", "GET", 200, 0.0)
    now[0] += 2.0
    assert metrics.requests_per_s() == 5.0
    metrics.answered_request("/", "GET", 200, 0.0)
    now[0] += 0.001  # two panels ask at nearly the same time: one request is no thousand a second
    assert metrics.requests_per_s() == 5.0
    now[0] += 0.999
    assert metrics.requests_per_s() == 1.0
