"""The paths of the Open Inference Protocol below ``/v2``; errors are ``{"error": "text"}``."""

from __future__ import annotations

from typing import Any, ClassVar

import orjson
from fastapi import APIRouter, Request, Response

from service.auth import caller_of
from service.errors import NotFoundError, ServiceError, UnavailableError
from service.model_entry import ModelEntry, ModelState
from service.oip import examples
from service.oip.fields import check_known, read_flag, read_parameters
from service.oip.limits import DEFAULT_LIMITS, OipError, quote
from service.oip.messages import parse_json
from service.oip.schema import VERSION, server_metadata
from service.oip.server import OipServer, schema_of
from service.state import service_of
from service.uploads import enter_upload
from vision import __version__

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

# The states of the registry in the protocol's words.
_STATES = {
    ModelState.READY: "READY",
    ModelState.LOADING: "LOADING",
    ModelState.UNLOADING: "UNLOADING",
    ModelState.AVAILABLE: "UNAVAILABLE",
    ModelState.FAILED: "UNAVAILABLE",
}
_NOT_LOADED = "not loaded"


class NotOfferedError(ServiceError):
    """An extension of the protocol that this server does not have."""

    status: ClassVar[int] = 501
    code: ClassVar[str] = "not_offered"


# First of all: routes are tried in order, and this one is asked most. It reads its path by hand for the same reason.
@router.post(
    "/models/{model}/infer", summary="Inference", openapi_extra=examples.describe_infer(), responses=examples.INFER
)
@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Inference",
    openapi_extra=examples.describe_infer("version"),
    responses=examples.INFER,
)
async def infer(request: Request) -> Response:
    """Ask a model about one or more pictures.

    Pictures are encoded files in the input ``image`` (BYTES; base64 where they come in the JSON) or raw RGB in the
    input ``pixels`` (UINT8). Tensors come and go as JSON or as binary data after it. See the model's metadata for the
    outputs.
    """
    path = request.path_params
    return await _server(request).infer(request, _entry(request, path["model"], path.get("version", VERSION)))


@router.get("", summary="Server metadata", responses=examples.SERVER)
async def read_server(request: Request) -> Response:
    """Name, version and extensions of the server."""
    return _json(server_metadata(__version__))


@router.get("/health/live", summary="Is the server alive?", responses=examples.LIVE)
async def read_live(request: Request) -> Response:
    """200 as long as the server answers."""
    return _json({"live": True})


@router.get("/health/ready", summary="Is the server ready?", responses=examples.READY)
async def read_ready(request: Request) -> Response:
    """200 when the models of the start are loaded and well, 503 before that and while the server goes down."""
    service = service_of(request)
    ready = service.registry.is_ready() and not service.draining
    return _json({"ready": ready}, 200 if ready else 503)


# Before the routes of one model: "stats" is no model here.
@router.get("/models/stats", summary="Statistics of all models", responses=examples.STATISTICS)
async def read_all_statistics(request: Request) -> Response:
    """Counts and durations of the inference requests of this protocol, for each loaded model."""
    server = _server(request)
    ready = [entry for entry in server.registry.entries.values() if entry.state is ModelState.READY]
    return _json({"model_stats": [server.statistics.of(entry.name).to_dict(entry.name) for entry in ready]})


@router.get("/models/{model}", summary="Model metadata", responses=examples.METADATA)
@router.get("/models/{model}/versions/{version}", summary="Model metadata", responses=examples.METADATA)
async def read_model(request: Request, model: str, version: str = VERSION) -> Response:
    """Inputs and outputs of a model; -1 is a dimension that is free."""
    return _json(schema_of(_entry(request, model, version)).metadata())


@router.get("/models/{model}/ready", summary="Is a model ready?", responses=examples.MODEL_READY)
@router.get("/models/{model}/versions/{version}/ready", summary="Is a model ready?", responses=examples.MODEL_READY)
async def read_model_ready(request: Request, model: str, version: str = VERSION) -> Response:
    """200 when the model is loaded and does not fail, 503 otherwise."""
    entry = _entry(request, model, version)
    return _json({"name": entry.name, "ready": entry.is_well}, 200 if entry.is_well else 503)


@router.get("/models/{model}/config", summary="Model configuration", responses=examples.CONFIG)
@router.get("/models/{model}/versions/{version}/config", summary="Model configuration", responses=examples.CONFIG)
async def read_config(request: Request, model: str, version: str = VERSION) -> Response:
    """The model's configuration in Triton's form; the class names are among its parameters."""
    return _json(schema_of(_entry(request, model, version)).config())


@router.get("/models/{model}/stats", summary="Statistics of a model", responses=examples.STATISTICS)
@router.get("/models/{model}/versions/{version}/stats", summary="Statistics of a model", responses=examples.STATISTICS)
async def read_statistics(request: Request, model: str, version: str = VERSION) -> Response:
    """Counts and durations of the inference requests of this protocol to one model."""
    entry = _entry(request, model, version)
    return _json({"model_stats": [_server(request).statistics.of(entry.name).to_dict(entry.name)]})


@router.post("/repository/index", summary="Models of the server", openapi_extra=examples.INDEX_BODY,
             responses=examples.INDEX)  # fmt: skip
async def read_index(request: Request) -> Response:
    """All models that are here, or with ``{"ready": true}`` those that are loaded."""
    asked = await _options(request)
    check_known("the keys of the request", asked, {"ready"})
    only_ready = read_flag("ready", asked.get("ready", False))
    entries = sorted(_server(request).registry.entries.values(), key=lambda entry: entry.name)
    return _json([_index_row(entry) for entry in entries if entry.is_well or not only_ready])


@router.post("/repository/models/{model}/load", summary="Load a model", responses=examples.CHANGED)
async def load(request: Request, model: str) -> Response:
    """Load a model, or load it again from the disk while requests go on; needs an admin key where there are any."""
    parameters = await _change(request)
    if parameters:
        raise OipError(
            f"a model is loaded as it is on the server, got {quote(sorted(parameters)[0])}; leave config and files out"
        )
    registry = _server(request).registry
    await service_of(request).changes.run(registry.load, model)
    return _json({})


@router.post("/repository/models/{model}/unload", summary="Unload a model", responses=examples.CHANGED)
async def unload(request: Request, model: str) -> Response:
    """Take a model from the device when its requests are answered; needs an admin key where there are any."""
    parameters = await _change(request)
    check_known("the parameters", parameters, {"unload_dependents"})
    registry = _server(request).registry
    await service_of(request).changes.run(registry.unload, model)
    return _json({})


@router.api_route("/systemsharedmemory/{path:path}", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/cudasharedmemory/{path:path}", methods=["GET", "POST"], include_in_schema=False)
async def refuse_shared_memory(request: Request, path: str) -> Response:
    """Shared memory is not offered: a region that a client names would be memory of this machine."""
    raise NotOfferedError(
        "tensors must come in the request, this server opens no shared memory; send them as binary data"
    )


@router.api_route("/trace/setting", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/models/{model}/trace/setting", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/logging", methods=["GET", "POST"], include_in_schema=False)
async def refuse_settings(request: Request) -> Response:
    """Tracing and logging are set where the server is started."""
    raise NotOfferedError(
        "tracing and logging are settings of the server's start, they do not change by a request; ask the operator"
    )


def _server(request: Request) -> OipServer:
    """Return the app's server of this protocol; made with the first request."""
    state = request.app.state
    server: OipServer | None = getattr(state, "oip", None)
    if server is None:
        service = service_of(request)
        server = state.oip = OipServer(service.settings, service.registry, service.admission, service.inference)
    return server


def _entry(request: Request, model: str, version: str) -> ModelEntry:
    """Return the model of a path; raises NotFoundError, or UnavailableError while the server starts."""
    registry = service_of(request).registry
    if not registry.started and model not in registry.entries:
        raise UnavailableError("models are still loading; try again soon", retry_after_s=2)
    entry = registry.find(model)
    if version != VERSION:
        raise NotFoundError(f"a model has the version {VERSION} only, got {version[:40]!r}; leave it out")
    return entry


def _index_row(entry: ModelEntry) -> dict[str, str]:
    reason = entry.error or ("" if entry.state is ModelState.READY else _NOT_LOADED)
    return {"name": entry.name, "version": VERSION, "state": _STATES[entry.state], "reason": reason}


async def _change(request: Request) -> dict[str, Any]:
    """Return the parameters of a request to load or unload a model, from somebody who may ask for it."""
    service_of(request).authenticator.require_admin(caller_of(request.scope))
    asked = await _options(request)
    check_known("the keys of the request", asked, {"parameters"})
    return read_parameters("the request", asked, DEFAULT_LIMITS)


async def _options(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request that may come without a body."""
    server = _server(request)
    with enter_upload(request, server.admission) as ticket:
        body = await server.read(request, ticket)
        return parse_json(body, server.limits) if body.strip() else {}


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
