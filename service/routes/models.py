"""/v1/models: what is there, how it does, and loading, unloading and swapping it while requests run."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from service.auth import caller_of
from service.errors import InvalidParameterError
from service.model_entry import ModelEntry
from service.parameters import describe_errors
from service.routes.answers import ModelDetails, ModelList, ModelSummary
from service.routes.descriptions import error_responses
from service.state import Service, service_of
from service.stream_options import ModelName
from service.uploads import read_small_body

router = APIRouter(tags=["models"])

Name = Annotated[str, Path(description="Name of the model.", max_length=100)]
Task = Annotated[Literal["detect", "segment", "classify", "embed"], Path(description="Task of the default.")]


# A model's name in JSON.
MAX_BODY = 4096


class DefaultModel(BaseModel):
    """The model that requests without a name get."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"model": "person-lite0"}]})

    model: ModelName


@router.get("/v1/models", response_model=None, responses={200: {"model": ModelList}, **error_responses(401, 429)})
async def list_all(request: Request) -> Response:
    """List the models with their states."""
    service = service_of(request)
    await asyncio.to_thread(service.registry.refresh)
    entries = sorted(service.registry.entries.values(), key=lambda entry: (entry.task, entry.name))
    return _json({"models": [describe(service, entry) for entry in entries]})


@router.get(
    "/v1/models/{name}",
    response_model=None,
    responses={200: {"model": ModelDetails}, **error_responses(401, 404, 429)},
)
async def show(request: Request, name: Name) -> Response:
    """Show one model: its card, where its data came from, and how it does."""
    service = service_of(request)
    return _json(describe_fully(service, service.registry.find(name)))


@router.post(
    "/v1/models/{name}/load",
    response_model=None,
    responses={200: {"model": ModelDetails}, **error_responses(401, 403, 404, 422, 429, 500, 503)},
)
async def load(request: Request, name: Name) -> Response:
    """Load a model, or load it again from the disk; requests in flight are answered by the old one."""
    service = _changed(request)
    entry = await service.changes.run(service.registry.load, name)
    return _json(describe_fully(service, entry))


@router.post(
    "/v1/models/{name}/unload",
    response_model=None,
    responses={200: {"model": ModelDetails}, **error_responses(401, 403, 404, 429)},
)
async def unload(request: Request, name: Name) -> Response:
    """Take a model from the device; requests in flight are answered first."""
    service = _changed(request)
    entry = await service.changes.run(service.registry.unload, name)
    return _json(describe_fully(service, entry))


@router.put(
    "/v1/defaults/{task}",
    response_model=None,
    responses={200: {"model": ModelSummary}, **error_responses(400, 401, 403, 404, 408, 413, 422, 429, 503)},
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": DefaultModel.model_json_schema()}}}
    },
)
async def set_default(request: Request, task: Task) -> Response:
    """Make a loaded model the default of its task."""
    # Before the body, which the framework would read whole, however large it is and whoever sends it.
    service = _changed(request)
    wanted = read_default(await read_small_body(request, MAX_BODY, service.settings.body_timeout_s))
    service.registry.set_default(task, wanted.model)
    return _json(describe(service, service.registry.find(wanted.model)))


def read_default(body: bytes | bytearray) -> DefaultModel:
    """Return the wanted default; raises InvalidParameterError."""
    try:
        return DefaultModel.model_validate_json(body)
    except ValidationError as exc:
        raise InvalidParameterError(describe_errors(exc.errors(include_url=False), DefaultModel.model_fields)) from None


def describe(service: Service, entry: ModelEntry) -> dict[str, Any]:
    """Return a model as the list shows it."""
    return entry.describe() | {"default": service.registry.defaults.get(entry.task) == entry.name}


def describe_fully(service: Service, entry: ModelEntry) -> dict[str, Any]:
    """Return a model with its card and its health."""
    loaded, metrics = entry.loaded, entry.metrics
    health = {
        "state": "ok" if entry.is_well else "failing" if loaded is not None else str(entry.state),
        "requests": metrics.requests,
        "failures": metrics.failure_count,
        "failures_in_a_row": metrics.failures_in_a_row,
        "last_error": metrics.last_error or None,
        "queue_items": 0 if loaded is None else len(loaded.batcher),
        "batch_cap": None if loaded is None else loaded.batcher.max_batch,
        "engine": None if loaded is None else loaded.served.engine,
    }
    card = None if entry.card is None else entry.card.to_dict()
    return describe(service, entry) | {"card": card, "health": health}


def _changed(request: Request) -> Service:
    """Return the service to a caller who may change its models."""
    service = service_of(request)
    service.authenticator.require_admin(caller_of(request.scope))
    return service


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content, default=str), media_type="application/json")
