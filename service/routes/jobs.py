"""``/v1/jobs``: video jobs over HTTP; what a job is and does stands in ``service.jobs``."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.requests import ClientDisconnect

from service.errors import CancelledWorkError, InvalidParameterError
from service.jobs.answers import EventStream, send_result
from service.jobs.folders import MEDIA_TYPES
from service.jobs.intake import MAX_NAME, checked_name
from service.jobs.record import JobState
from service.jobs.service import JobService
from service.jobs.status import URL, JobList, JobStatus
from service.parameters import describe_errors, split_names
from service.routes.descriptions import error_responses
from service.state import service_of
from service.stream_options import ModelName, StreamOptions

router = APIRouter(tags=["jobs"])

MAX_LISTED = 500

JobId = Annotated[str, Path(description="Id of the job.", min_length=1, max_length=64)]
ResultName = Annotated[str, Path(description=f"One of {', '.join(MEDIA_TYPES)}.", max_length=64)]


class JobParameters(BaseModel):
    """What is done with a video; what is left out is the server's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, StringConstraints(max_length=MAX_NAME)] | None = Field(
        None, description="What to call the job; shown again, nothing more."
    )
    model: ModelName | None = Field(None, description="Detector by name.")
    tracker: Annotated[str, StringConstraints(max_length=100)] | None = Field(None, description="Tracker preset.")
    conf: float | None = Field(None, ge=0, le=1, description="Lowest score of a detection kept.")
    iou: float | None = Field(None, gt=0, le=1, description="Overlap above which the lower score is dropped.")
    max_det: int | None = Field(None, ge=1, le=1000, description="Most detections of a frame.")
    classes: Annotated[str, StringConstraints(max_length=4000)] | None = Field(
        None, description="Names of the classes to keep, comma-separated."
    )
    appearance: bool = Field(True, description="Compare objects by their looks.")
    segment: bool = Field(False, description="Segment each frame as well: what each track stands on.")
    segmenter: ModelName | None = Field(None, description="Segmenter by name.")
    render: bool = Field(True, description="Draw the tracks onto the video: annotated.mp4.")

    def stream_options(self) -> StreamOptions:
        """Return the options of the stream; raises InvalidParameterError."""
        given = self.model_dump(exclude={"name", "render", "classes"})
        try:
            return StreamOptions(**given, classes=split_names(self.classes) or None)
        except ValidationError as exc:
            raise InvalidParameterError(describe_errors(exc.errors())) from None


def _binary(*kinds: str) -> dict[str, Any]:
    return {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}


_VIDEO_FORM = {
    "schema": {
        "type": "object",
        "required": ["video"],
        "properties": {"video": {"type": "string", "format": "binary"}},
    }
}
_BODY = {
    "required": True,
    "content": {**_binary("video/*", "application/octet-stream"), "multipart/form-data": _VIDEO_FORM},
}


def _errors(**statuses: str) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of errors: ``e404="what it means"``."""
    texts = {int(name[1:]): text for name, text in statuses.items()}
    return {status: {**reply, "description": texts[int(status)]} for status, reply in error_responses(*texts).items()}


_NO_JOB = {
    "e404": "No such job of this key.",
    "e422": "A bad parameter.",
    "e503": "The server starts or stops.",
}


@router.post(
    "/v1/jobs",
    status_code=202,
    response_model=None,
    responses={
        202: {"model": JobStatus, "description": "The job waits; Location is its status."},
        **_errors(
            e400="The form is malformed.",
            e403="Jobs are switched off.",
            e404="No such model.",
            e408="The upload came too slowly.",
            e413="Too many bytes, seconds or frames.",
            e415="No video by its Content-Type.",
            e422="A bad parameter, or no video that can be decoded.",
            e429="Too many jobs.",
            e503="Not ready, or stopping.",
            e507="No room on the disk.",
        ),
    },
    openapi_extra={"requestBody": _BODY},
)
async def submit_job(request: Request, parameters: Annotated[JobParameters, Query()]) -> Response:
    """Upload a video to be tracked in the background: the file as the body, or as the part `video` of a form."""
    try:
        status = await _jobs(request).submit(
            request.stream(),
            content_type=request.headers.get("content-type"),
            content_length=request.headers.get("content-length"),
            key_id=_key_id(request),
            name=checked_name(parameters.name),
            options=parameters.stream_options(),
            wants_video=parameters.render,
        )
    except ClientDisconnect:
        raise CancelledWorkError("the client went away while it sent the video") from None
    return _json(status, 202, {"Location": URL.format(job_id=status["id"])})


@router.get(
    "/v1/jobs",
    response_model=None,
    responses={200: {"model": JobList}, **_errors(e422="A bad parameter.", e503="The server starts.")},
)
async def list_jobs(
    request: Request,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="Most jobs returned.")] = 100,
) -> Response:
    """List the jobs of this key, newest first."""
    jobs = await _jobs(request).list_of(_key_id(request), state=state, limit=limit)
    return _json({"jobs": [_with_links(request, status) for status in jobs]})


@router.get("/v1/jobs/{job_id}", response_model=None, responses={200: {"model": JobStatus}, **_errors(**_NO_JOB)})
async def get_job(request: Request, job_id: JobId) -> Response:
    """Show how far a job is, and its results."""
    return _json(_with_links(request, await _jobs(request).get(_key_id(request), job_id)))


@router.post(
    "/v1/jobs/{job_id}/cancel",
    status_code=202,
    response_model=None,
    responses={202: {"model": JobStatus}, **_errors(**_NO_JOB, e409="The job is over.")},
)
async def cancel_job(request: Request, job_id: JobId) -> Response:
    """Cancel a job: a waiting one at once, a running one within a frame or two; finished files stay."""
    return _json(_with_links(request, await _jobs(request).cancel(_key_id(request), job_id)), 202)


@router.delete("/v1/jobs/{job_id}", status_code=204, response_model=None, responses=_errors(**_NO_JOB))
async def delete_job(request: Request, job_id: JobId) -> Response:
    """Remove a job with its upload and results, stopping it where it runs."""
    await _jobs(request).delete(_key_id(request), job_id)
    return Response(status_code=204)


@router.get(
    "/v1/jobs/{job_id}/events",
    response_model=None,
    responses={
        200: {
            "description": "Server-sent events: `status` with each change, `end` with the last; both a job status.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **_errors(**_NO_JOB, e429="Too many event streams."),
    },
)
async def follow_job(request: Request, job_id: JobId) -> Response:
    """Follow a job by server-sent events until it is over."""
    jobs, key_id = _jobs(request), _key_id(request)

    async def status() -> dict[str, Any]:
        return _with_links(request, await jobs.get(key_id, job_id))

    return EventStream(await jobs.listen(key_id, job_id), status)


@router.get(
    "/v1/jobs/{job_id}/results/{name}",
    response_model=None,
    responses={
        200: {"description": "The file.", "content": _binary(*MEDIA_TYPES.values())},
        206: {"description": "The part that the header Range asked for.", "content": _binary(*MEDIA_TYPES.values())},
        **_errors(**_NO_JOB, e416="The range begins behind the end of the file."),
    },
)
async def get_result(request: Request, job_id: JobId, name: ResultName) -> Response:
    """Fetch a result file, or a range of it. With the `signed_url` of the job's status no key is needed."""
    path = await _jobs(request).result(_key_id(request), job_id, name)
    return await send_result(path, request)


@router.head("/v1/jobs/{job_id}/results/{name}", response_model=None, include_in_schema=False)
async def head_result(request: Request, job_id: JobId, name: ResultName) -> Response:
    """Tell size and type of a result file."""
    return await get_result(request, job_id, name)


def _jobs(request: Request) -> JobService:
    return service_of(request).jobs


def _key_id(request: Request) -> str:
    key_id: str = request.state.key_id
    return key_id


def _with_links(request: Request, status: dict[str, Any]) -> dict[str, Any]:
    """Return a status whose results can be fetched without the key, where the one who asks has one."""
    links, key_id = service_of(request).authenticator.links, _key_id(request)
    results = []
    for result in status["results"]:
        signed = links.sign(result["url"], key_id)
        results.append(result if signed is None else {**result, "signed_url": signed})
    return {**status, "results": results}


def _json(content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")
