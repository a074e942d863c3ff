"""Traces by OpenTelemetry, where they are wanted: a span a request, with the times of its stages.

Off by default and then free of cost. The SDK is configured by its own variables (OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_SERVICE_NAME...), the extra ``otel`` installs it.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.middleware import route_template
from service.settings import Settings
from vision import __version__
from vision.errors import MissingDependencyError

SERVICE_NAME = "stride32"


def start_tracing(app: FastAPI, settings: Settings, exporter: Any = None) -> None:
    """Send a trace of each request if the settings want it.

    Args:
        app: gets one layer more.
        settings: ``otel``.
        exporter: where spans go; OTLP over HTTP by default.

    Raises:
        MissingDependencyError: the SDK is not installed.
    """
    if not settings.otel:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as exc:
        raise MissingDependencyError("opentelemetry-sdk", extra="otel", purpose="STRIDE32_OTEL") from exc
    resource = Resource.create({"service.name": SERVICE_NAME, "service.version": __version__})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    app.state.tracer_provider = provider
    app.add_middleware(TraceBorder, tracer=provider.get_tracer(SERVICE_NAME, __version__))


class TraceBorder:
    """One span a request, child of the caller's if it sends ``traceparent``."""

    def __init__(self, app: ASGIApp, *, tracer: Any) -> None:
        self.app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request within its span."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(dict(Headers(scope=scope)))
        with self._tracer.start_as_current_span(scope["method"], context=parent, kind=SpanKind.SERVER) as span:

            async def send_noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            try:
                await self.app(scope, receive, send_noting)
            finally:
                state = scope.setdefault("state", {})
                route = route_template(scope)
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.request.method", scope["method"])
                span.set_attribute("http.route", route)
                span.set_attribute("stride32.request_id", state.get("request_id", ""))
                for stage, milliseconds in state.get("timings_ms", {}).items():
                    span.set_attribute(f"stride32.{stage}_ms", milliseconds)
