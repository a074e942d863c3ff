"""The app: all parts of the service joined, their routes mounted, their lives begun and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from service.admission import Admission
from service.auth import Authenticator
from service.changes import ModelChanges
from service.errors import ErrorReply
from service.fetch import ImageFetcher
from service.inference import ImageInference
from service.jobs.service import JobService
from service.loading import load_served
from service.metrics import Metrics
from service.middleware import RequestBorder
from service.oip import routes as oip
from service.registry import Loader, ModelRegistry
from service.routes import images, jobs, models, ops, sessions
from service.sessions.frames import pool_decoder
from service.sessions.store import SessionStore
from service.settings import Settings
from service.state import Service
from service.streams import StreamBuilder
from vision import __version__

DESCRIPTION = (
    "Detects, tracks and segments objects in pictures and video. Coordinates are pixels of the upright picture, boxes "
    "are [x1, y1, x2, y2]. Errors are {error: {code, message, request_id}}."
)
_HTTP_CODES = {401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}


def create_app(settings: Settings, *, load: Loader = load_served, background: bool = True) -> FastAPI:
    """Return the app of these settings.

    Args:
        settings: all of it; nothing is read from the environment here.
        load: loads a model of a kind; replaced in tests.
        background: load models while the server answers "not ready" already; False waits for them at start.
    """
    service = build_service(settings, load)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(service, background=background):
            yield

    app = FastAPI(
        title="Stride32",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/openapi.json" if settings.docs else None,
        # Both pages load their scripts from elsewhere, and this service works offline.
        docs_url=None,
        redoc_url=None,
        # A path with a slash too much is none of ours; a redirect would repeat a whole upload, to a Host that was sent.
        redirect_slashes=False,
        # The framework's own would ask the environment at each request whether it is wanted; see service.tracing.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.service = service
    # In the order in which they are tried: what is asked most comes first.
    for router in (images.router, oip.router, sessions.router, jobs.router, models.router, ops.router):
        app.include_router(router)
    if settings.web:
        from service.web import mount_web

        mount_web(app)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_middleware(
        RequestBorder,
        settings=settings,
        authenticator=service.authenticator,
        metrics=service.metrics,
        fast_routes=images.FAST_ROUTES,
    )
    if settings.cors_origins:
        # Outside of all else: a browser must be allowed to read errors, too.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=[
                *("Authorization", "X-API-Key", "Content-Type", "X-Request-ID", "Range"),
                "Inference-Header-Content-Length",
            ],
            expose_headers=[
                *("X-Request-ID", "Retry-After", "Location", "Idempotent-Replay"),
                *("Inference-Header-Content-Length", "Content-Range", "Accept-Ranges"),
            ],
        )
    return app


def build_service(settings: Settings, load: Loader = load_served) -> Service:
    """Return all parts of the service, not started yet."""
    metrics = Metrics()
    registry = ModelRegistry(settings, metrics, load)
    streams = StreamBuilder(settings, registry)
    admission = Admission(
        max_items=settings.queue_items,
        max_bytes=settings.queue_bytes,
        max_body_bytes=settings.max_body_bytes,
        metrics=metrics,
        max_wait_s=settings.request_timeout_s,
    )
    metrics.queue_bytes.set_function(lambda: admission.bytes)
    inference = ImageInference(settings)
    service = Service(
        settings=settings,
        metrics=metrics,
        admission=admission,
        authenticator=Authenticator(settings),
        registry=registry,
        changes=ModelChanges(),
        inference=inference,
        fetcher=ImageFetcher(settings.fetch_hosts, max_bytes=settings.max_body_bytes),
        streams=streams,
        sessions=SessionStore(streams, settings, pool_decoder(inference.pool, inference.limits)),
        jobs=JobService(settings, streams),
    )
    metrics.sessions.set_function(lambda: len(service.sessions))
    return service


@asynccontextmanager
async def running(service: Service, *, background: bool = True) -> AsyncIterator[None]:
    """Start the parts of the service and end them in the opposite order."""
    async with AsyncExitStack() as stack:
        stack.callback(service.inference.close)
        stack.callback(service.fetcher.close)
        stack.push_async_callback(asyncio.to_thread, service.registry.close)
        stack.callback(service.changes.close)
        if background:
            service.load_in_background()
        else:
            await asyncio.to_thread(service.load_models)
        await service.jobs.start()
        stack.push_async_callback(service.jobs.close, drain_s=service.settings.drain_timeout_s)
        await service.sessions.start()
        stack.push_async_callback(service.sessions.close)
        stack.callback(service.begin_draining)
        yield


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: unknown paths and methods, malformed forms."""
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "bad_request")
    message = {
        404: "the path must be one of /openapi.json, there is nothing here; check it",
        405: "the method must be one that this path has, it is not; see /openapi.json",
    }.get(error.status_code, str(error.detail))
    return error_response(request, ErrorReply(error.status_code, code, message, dict(error.headers or {})))


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    """Answer parameters and JSON bodies that do not fit, naming each and what was found."""
    assert isinstance(error, RequestValidationError)
    from service.parameters import describe_errors

    return error_response(request, ErrorReply(422, "invalid_parameter", describe_errors(error.errors())))


def error_response(request: Request, reply: ErrorReply) -> Response:
    """Return an error as a response."""
    import orjson

    is_oip = request.url.path.startswith("/v2")
    body = orjson.dumps({"error": reply.message}) if is_oip else reply.body(request.state.request_id)
    return Response(body, reply.status, reply.headers, "application/json")
