"""``/v1/sessions``: tracking sessions over HTTP, and their frames over HTTP or a WebSocket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request, Response, WebSocket

from service.errors import (
    ForbiddenError,
    QueueFullError,
    RateLimitedError,
    ServiceError,
    UnauthorizedError,
)
from service.origin import BrowserGuard
from service.parameters import openapi_parameters
from service.routes.descriptions import error_responses
from service.sessions.errors import SessionNotFoundError, TooManySessionsError
from service.sessions.requests import (
    MAX_OPTIONS_BYTES,
    FrameAnswer,
    FrameParameters,
    SessionInfo,
    SessionList,
    SessionRequest,
    read_options,
)
from service.sessions.saving import save_session
from service.sessions.session import Session
from service.sessions.snapshot import MAX_SNAPSHOT_BYTES
from service.sessions.store import SessionStore
from service.sessions.stream import POLICY, SESSION_GONE, FrameStream
from service.state import service_of
from service.uploads import enter_upload, read_image_body, read_small_body, sender_of

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

router = APIRouter(tags=["sessions"])

PROTOCOL = "stride32"
_CLOSE_CODES: dict[type[ServiceError], int] = {UnauthorizedError: 4401, SessionNotFoundError: SESSION_GONE}

_PICTURE = {
    "required": True,
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/*", "application/octet-stream")
    },
}
_OPTIONS = {
    "required": False,
    "content": {"application/json": {"schema": SessionRequest.model_json_schema()}},
}
_SNAPSHOT_CONTENT = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_GONE = {404: "no such session of this key, or it expired"}
_REFUSED = {413: "too many options", 422: "unknown or wrong options", 429: "too many sessions"}
_NO_SNAPSHOT = {
    413: "more bytes than a snapshot has, or more tracks than a session may have",
    422: "no snapshot, or one that does not fit this server",
    429: "too many sessions, or the queue is full",
}
_NO_FRAME = {
    **_GONE,
    409: "the sequence is below the next one",
    413: "too many bytes or pixels, or the session holds too much",
    429: "as many frames wait as may, the queue is full, or the key asks too often",
}


@router.post(
    "/v1/sessions",
    status_code=201,
    response_model=None,
    responses={
        201: {"model": SessionInfo, "description": "The session."},
        **error_responses(400, 401, 404, 408, 413, 422, 429, 503, own=_REFUSED),
    },
    openapi_extra={"requestBody": _OPTIONS},
)
async def create_session(request: Request) -> Response:
    """Open a tracking session; an empty body takes the server's defaults."""
    wanted = read_options(await read_small_body(request, MAX_OPTIONS_BYTES, _body_timeout_s(request)))
    with _rejects_counted(request):
        session = await _store(request).create(wanted.stream_options(), _key_id(request), ttl_s=wanted.ttl_s)
    return _created(session)


@router.get("/v1/sessions", response_model=None, responses={200: {"model": SessionList}, **error_responses(401, 429)})
async def list_sessions(request: Request) -> Response:
    """List the sessions of this key, oldest first."""
    store = _store(request)
    rows = [store.describe(session).model_dump(mode="json") for session in store.owned_by(_key_id(request))]
    return _json({"sessions": rows})


@router.post(
    "/v1/sessions/restore",
    status_code=201,
    response_model=None,
    responses={
        201: {"model": SessionInfo, "description": "A new session that goes on where the saved one was."},
        **error_responses(401, 404, 408, 413, 422, 429, 503, own=_NO_SNAPSHOT),
    },
    openapi_extra={"requestBody": {"required": True, "content": _SNAPSHOT_CONTENT}},
)
async def restore_session(request: Request) -> Response:
    """Open a session from a snapshot."""
    with service_of(request).admission.enter(None, sender_of(request)) as ticket:
        data = await read_small_body(request, MAX_SNAPSHOT_BYTES, _body_timeout_s(request), ticket)
        with _rejects_counted(request):
            return _created(await _store(request).restore(data, _key_id(request)))


@router.get(
    "/v1/sessions/{session_id}",
    response_model=None,
    responses={200: {"model": SessionInfo}, **error_responses(401, 404, 429, own=_GONE)},
)
async def get_session(request: Request, session_id: str) -> Response:
    """Show a session; this does not keep it alive."""
    store = _store(request)
    return _json(store.describe(store.get(session_id, _key_id(request))).model_dump(mode="json"))


@router.delete(
    "/v1/sessions/{session_id}",
    status_code=204,
    response_model=None,
    responses=error_responses(401, 404, 429, own=_GONE),
)
async def delete_session(request: Request, session_id: str) -> Response:
    """End a session."""
    _store(request).delete(session_id, _key_id(request))
    return Response(status_code=204)


@router.get(
    "/v1/sessions/{session_id}/snapshot",
    response_model=None,
    response_class=Response,
    responses={
        200: {"content": _SNAPSHOT_CONTENT, "description": "The session between two frames."},
        **error_responses(401, 404, 413, 429, own=_GONE),
    },
)
async def download_snapshot(request: Request, session_id: str) -> Response:
    """Download the session as a file, which ``/v1/sessions/restore`` takes."""
    session = _store(request).get(session_id, _key_id(request))
    data = await save_session(session)
    name = f"session-{session.session_id}.npz"
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type="application/octet-stream", headers=disposition)


@router.post(
    "/v1/sessions/{session_id}/frames",
    response_model=None,
    responses={
        200: {"model": FrameAnswer, "description": "What is in the frame."},
        **error_responses(400, 401, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504, own=_NO_FRAME),
    },
    openapi_extra={"parameters": openapi_parameters(FrameParameters), "requestBody": _PICTURE},
)
async def post_frame(request: Request, session_id: str) -> Response:
    """Process the next frame; the last sequence again gets the same answer again (Idempotent-Replay: true)."""
    service = service_of(request)
    store = service.sessions
    parameters = FrameParameters.of(request)
    session = store.get(session_id, _key_id(request))
    with _rejects_counted(request):
        session.check_room()
    ticket = enter_upload(request, service.admission)
    try:
        picture = await read_image_body(request, ticket, service.admission, store.settings.body_timeout_s)
        # Between head and body the session may have gone.
        session = store.get(session_id, _key_id(request))
    except BaseException:
        ticket.release()
        raise
    with _rejects_counted(request):
        answer = await session.submit(
            picture, sequence=parameters.sequence, timestamp_s=parameters.timestamp_s, place=ticket
        )
    headers = {"Idempotent-Replay": "true"} if answer.replayed else None
    return Response(answer.body, media_type="application/json", headers=headers)


@router.websocket("/v1/sessions/{session_id}/stream")
async def stream_frames(websocket: WebSocket, session_id: str) -> None:
    """Pictures in, answers out; see docs/service.md for the messages."""
    service = service_of(websocket)
    store = service.sessions
    try:
        BrowserGuard(service.settings).check(websocket.headers, "WEBSOCKET")
    except ForbiddenError as exc:
        await _deny(websocket, exc)
        return
    offered = websocket.headers.get("sec-websocket-protocol", "")
    is_offered = PROTOCOL in (part.strip() for part in offered.split(","))
    # Accepted before it is refused: browsers show their pages the code of a closed socket, of a refused one nothing.
    await websocket.accept(subprotocol=PROTOCOL if is_offered else None)
    try:
        caller = service.authenticator.admit(websocket.scope, websocket.headers)
        session = store.get(session_id, caller.key_id)
    except ServiceError as exc:
        service.metrics.rejected(exc.error_code)
        await websocket.close(_CLOSE_CODES.get(type(exc), POLICY), _reason(exc))
        return

    def count_frame() -> None:
        try:
            service.authenticator.check_rate(websocket.scope, caller)
        except RateLimitedError as exc:
            service.metrics.rejected(exc.error_code)
            raise

    stream = FrameStream(
        websocket,
        session,
        draining=store.draining,
        max_bytes=store.settings.max_body_bytes,
        enter=service.admission.admit,
        count_frame=count_frame,
    )
    await stream.run()


@contextmanager
def _rejects_counted(request: Request) -> Iterator[None]:
    """Tell the metrics of requests for which there was no place."""
    try:
        yield
    except (QueueFullError, TooManySessionsError) as exc:
        service_of(request).metrics.rejected(exc.error_code)
        raise


async def _deny(websocket: WebSocket, error: ServiceError) -> None:
    """Refuse a handshake: 403 with a body where the server can send one, 403 without it elsewhere."""
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        body = {"error": {"code": error.error_code, "message": str(error), "request_id": ""}}
        await websocket.send_denial_response(_json(body, status=error.status))
    else:
        await websocket.close(POLICY, _reason(error))


def _reason(error: Exception) -> str:
    """Return the error's message as far as a close frame takes it."""
    return str(error).encode()[:123].decode(errors="ignore")


def _store(connection: HTTPConnection) -> SessionStore:
    return service_of(connection).sessions


def _body_timeout_s(request: Request) -> float:
    return service_of(request).settings.body_timeout_s


def _key_id(request: Request) -> str:
    key_id: str = request.state.key_id
    return key_id


def _json(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


def _created(session: Session) -> Response:
    content = SessionStore.describe(session).model_dump(mode="json")
    return _json(content, status=201, headers={"Location": f"/v1/sessions/{session.session_id}"})
