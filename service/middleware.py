"""Around every request: its id, who sends it, security headers, metrics, one log line, and an answer to every error.

Plain ASGI: a layer that costs microseconds, for single pictures are answered in a few milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.auth import Authenticator, client_address
from service.errors import CancelledWorkError, ErrorReply, ServiceError, describe_error
from service.logs import AccessLog, request_id
from service.metrics import Metrics
from service.origin import BrowserGuard
from service.settings import Settings
from vision.errors import VisionError

failures = logging.getLogger("service.failures")

Handler = Callable[[Request], Awaitable[Response]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Nobody needs a key to ask whether the server lives, or to load the page, which then asks for the key.
# And probes call the server by whatever address it has, which no list of allowed names can hold.
HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
OPEN_PATHS = HEALTH_PATHS | {"/", "/favicon.ico"}
OPEN_PREFIXES = ("/web/",)
METRIC_PATHS = frozenset({"/metrics", "/v1/stats"})
# Of every answer that does not say otherwise itself; what only concerns pages is added where these are served.
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


class FastRequest(Request):
    """A request whose headers are a dictionary, the first of a name's: half a dozen are looked at, for which the
    framework goes through all of them each time."""

    @property
    def headers(self) -> Headers:
        """Headers by lower-case name; as far as a mapping goes what the framework's are."""
        found: Headers = self.scope["state"]["headers"]
        return found


class RequestBorder:
    """The outermost layer of the app.

    Args:
        app: the framework's stack.
        settings, authenticator, metrics: of the service.
        fast_routes: path -> handler of POST requests that go past the framework's stack, which would cost a small model
            more than all the rest. The same handlers are registered there, too, where they are described.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        authenticator: Authenticator,
        metrics: Metrics,
        fast_routes: Mapping[str, Handler],
    ) -> None:
        self.app = app
        self._fast = fast_routes
        self._guard = BrowserGuard(settings)
        self.metrics = metrics
        self._auth = authenticator
        self._metrics_auth = settings.metrics_auth
        self._access_log = settings.access_log
        self._lines = AccessLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; WebSockets are identified and then left to their route."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            if scope["type"] == "websocket":
                scope.setdefault("state", {})["authenticator"] = self._auth
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        own_id = _request_id(scope)
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = own_id
        token = request_id.set(own_id)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                present = {name for name, _ in headers}
                headers.append((b"x-request-id", own_id.encode()))
                headers += [pair for pair in SECURITY_HEADERS if pair[0] not in present]
            await send(message)

        try:
            self._admit(scope, state)
            handler = self._fast.get(scope["path"]) if scope["method"] == "POST" else None
            if handler is None:
                await self.app(scope, receive, send_with_headers)
            else:
                state["route"] = scope["path"]
                response = await handler(FastRequest(scope, receive))
                await response(scope, receive, send_with_headers)
        except Exception as exc:
            if status:
                # Half an answer is out: all that is left is to break the connection.
                failures.exception("a response failed in the middle")
                raise
            await send_error(scope, send_with_headers, reply_to(exc))
        except asyncio.CancelledError:
            status = status or CancelledWorkError.status
            raise
        finally:
            seconds = time.perf_counter() - began
            route = route_template(scope)
            self.metrics.answered_request(route, scope["method"], status, seconds)
            if self._access_log:
                self._log(scope, route, status, seconds)
            request_id.reset(token)

    def _admit(self, scope: Scope, state: dict[str, Any]) -> None:
        """Say who sends the request, and refuse who may not."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        state["headers"] = headers
        path = scope["path"]
        if path in HEALTH_PATHS:
            return
        self._guard.check(headers, scope["method"])
        is_open = path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)
        if is_open or (path in METRIC_PATHS and not self._metrics_auth):
            return
        try:
            caller = self._auth.admit(scope, headers)
        except ServiceError as exc:
            self.metrics.rejected(exc.error_code)
            raise
        state["caller"] = caller
        state["key_id"] = caller.key_id

    def _log(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        fields = {
            "method": scope["method"],
            "path": scope["path"][:200],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "client": client_address(scope),
            "key": scope["state"].get("key_id", ""),
        }
        self._lines.write(f"{scope['method']} {route} {status}", fields)


def reply_to(error: Exception) -> ErrorReply:
    """Return the answer to an error; what is no error of ours is logged with its traceback."""
    reply = describe_error(error)
    if reply.status >= 500 and not isinstance(error, ServiceError):
        failures.error("a request failed: %s", error, exc_info=None if isinstance(error, VisionError) else error)
    return reply


async def send_error(scope: Scope, send: Send, reply: ErrorReply) -> None:
    """Send an error as JSON; the Open Inference Protocol has a form of its own."""
    if scope["path"].startswith("/v2"):
        import orjson

        body = orjson.dumps({"error": reply.message})
    else:
        body = reply.body(scope["state"]["request_id"])
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def route_template(scope: Scope) -> str:
    """Return the path of the route with its parameters' names, so that metrics do not grow with every id."""
    route = scope.get("route")
    path = getattr(route, "path", None) if route is not None else scope["state"].get("route")
    return str(path) if path else "unknown"


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    # No secret: it must differ and not surprise. A system call would hand the interpreter to another thread.
    return f"{random.getrandbits(64):016x}"
