"""Traces: a span a request, with its route, status and stages; nothing at all unless it is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_models import FakeLoader, fake_settings, png
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.app import create_app
from service.tracing import start_tracing

pytest.importorskip("opentelemetry.sdk", reason="needs the extra otel")

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[tuple[FastAPI, Any]]:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    settings = fake_settings(tmp_path, otel=True)
    app, exporter = create_app(settings, load=FakeLoader(), background=False), InMemorySpanExporter()
    start_tracing(app, settings, exporter)
    yield app, exporter
    app.state.tracer_provider.shutdown()


def test_requests_give_spans(traced: tuple[FastAPI, Any]) -> None:
    app, exporter = traced
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "mine"}
    with TestClient(app) as client:
        assert client.post("/v1/detect", content=png(), headers=headers).status_code == 200
        assert client.get("/v1/models/nothing").status_code == 404
        assert client.get("/v1/models/nothing", headers={"traceparent": "nonsense"}).status_code == 404
    app.state.tracer_provider.force_flush()
    detect, show, _ = exporter.get_finished_spans()
    assert detect.name == "POST /v1/detect"
    assert detect.attributes["http.route"] == "/v1/detect"
    assert detect.attributes["http.response.status_code"] == 200
    assert detect.attributes["stride32.request_id"] == "mine"
    assert {f"stride32.{stage}_ms" for stage in ("decode", "queue", "infer")} <= set(detect.attributes)
    assert f"{detect.context.trace_id:032x}" == TRACE  # the caller's trace goes on
    assert show.name == "GET /v1/models/{name}"
    assert show.attributes["http.response.status_code"] == 404
    assert show.parent is None


def test_traces_are_off_by_default(tmp_path: Path) -> None:
    settings = fake_settings(tmp_path)
    app = create_app(settings, load=FakeLoader(), background=False)
    layers = len(app.user_middleware)
    start_tracing(app, settings)
    assert len(app.user_middleware) == layers
    assert not hasattr(app.state, "tracer_provider")
