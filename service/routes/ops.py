"""For operators and their machines: is it alive, is it ready, what does it count."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse

from service.model_entry import ModelState
from service.routes.answers import Health, Readiness, Stats
from service.routes.descriptions import error_responses
from service.state import service_of

router = APIRouter(tags=["operations"])
_STATM = Path("/proc/self/statm")


@router.get(
    "/healthz",
    response_model=None,
    responses={200: {"model": Health}, 503: {"model": Health, "description": "The GPU is lost to this process."}},
)
async def healthz(request: Request) -> Response:
    """Say that the process lives; restart it when this fails."""
    if service_of(request).registry.device_lost:
        return Response(b'{"status":"device_lost"}', 503, media_type="application/json")
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get(
    "/readyz",
    response_model=None,
    responses={
        200: {"model": Readiness},
        503: {"model": Readiness, "description": "Loading, unwell, or going down."},
    },
)
async def readyz(request: Request) -> Response:
    """Say whether requests would be answered; send traffic elsewhere when not."""
    service = service_of(request)
    status = "draining" if service.draining else "ready" if service.registry.is_ready() else "loading"
    if status == "loading" and service.registry.started:
        status = "failing"
    body = orjson.dumps({"status": status, "models": service.registry.states()})
    return Response(body, 200 if status == "ready" else 503, media_type="application/json")


@router.get(
    "/metrics",
    response_model=None,
    response_class=PlainTextResponse,
    responses={200: {"description": "Prometheus' text format."}, **error_responses(401, 429)},
)
async def metrics(request: Request) -> Response:
    """Give the metrics in the form that Prometheus reads."""
    service = service_of(request)
    for state, count in service.jobs.counts().items():
        service.metrics.jobs.labels(state).set(count)
    return Response(service.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/v1/stats", response_model=None, responses={200: {"model": Stats}, **error_responses(401, 429)})
async def stats(request: Request) -> Response:
    """Give the figures of the page's panel."""
    service = service_of(request)
    registry, counts = service.registry, service.jobs.counts()
    models: list[dict[str, Any]] = []
    for entry in registry.entries.values():
        if entry.state is ModelState.READY and entry.loaded is not None:
            models.append({"name": entry.name, "queue_items": len(entry.loaded.batcher), **entry.metrics.summary()})
    body = {
        "uptime_s": round(time.monotonic() - service.started, 1),
        "requests": {"total": service.metrics.answered, "per_s": round(service.metrics.requests_per_s(), 2)},
        "rejected": service.metrics.rejected_total,
        "in_flight": service.admission.items,
        "models": models,
        "sessions": len(service.sessions),
        "jobs": {"queued": counts.get("queued", 0), "running": counts.get("running", 0)},
        "memory_bytes": resident_bytes(),
        "gpu_memory_bytes": gpu_bytes(),
    }
    return Response(orjson.dumps(body), media_type="application/json")


def resident_bytes() -> int:
    """Return the memory of this process; its highest so far where the system does not tell more."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def gpu_bytes() -> int:
    """Return the memory that torch holds on GPUs."""
    import torch

    if not torch.cuda.is_available():
        return 0
    return sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))
