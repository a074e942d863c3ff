"""The process around the application: socket, uvicorn, signals, draining, exit code.

SIGTERM or SIGINT: `/readyz` says 503 at once, no new connection is accepted, requests in flight finish within
``drain_timeout_s`` (those that come meanwhile on open connections are the application's to turn away), then all closes
and the exit code is 0. A second signal ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import uvicorn

from service.connections import ConnectionGate, EdgeLimits
from service.protocol import EdgeHttpProtocol
from service.settings import Settings
from service.websocket_protocol import EdgeWebSocketProtocol

Application = Callable[[Any, Any, Any], Awaitable[None]]
App = TypeVar("App", bound=Application)

BACKLOG = 512
# Files that are open besides connections: models, the job queue, uploads, results.
_OTHER_FILES = 512
# What the application may take to close its threads and files once nothing is in flight.
_CLOSE_S = 10.0


def run_server(
    settings: Settings,
    app_factory: Callable[[], App],
    *,
    begin_draining: Callable[[App], None] | None = None,
    on_refusal: Callable[[App, str], None] | None = None,
) -> int:
    """Serve until a signal and return the exit code: 0 after draining, 1 if it could not start.

    Args:
        settings: where to listen, limits, times.
        app_factory: makes the application; called once the address is ours, so that a taken port costs no loading.
        begin_draining: called with the application at the first signal, in the event loop's thread.
        on_refusal: called with the application and a reason for each request or connection that ends at the edge.
    """
    try:
        listener = open_listener(settings)
    except OSError as exc:
        place = f"unix socket {settings.uds}" if settings.uds else f"{settings.host}:{settings.port}"
        _say(
            f"error: expected to listen on {place}, got: {exc.strerror or exc}; stop what listens there or set another"
        )
        return 1
    try:
        app = app_factory()
        gate = ConnectionGate(
            EdgeLimits.from_settings(settings),
            trusted_proxies=settings.trusted_proxies,
            on_refusal=partial(on_refusal, app) if on_refusal else lambda reason: None,
        )
        _raise_file_limit(settings.max_connections + _OTHER_FILES)
        notify = partial(begin_draining, app) if begin_draining else lambda: None
        server = DrainingServer(_configure(settings, app, gate), gate, settings.drain_timeout_s, notify)
        with contextlib.suppress(SystemExit):  # uvicorn's way of saying that the application failed at its start
            server.run(sockets=[listener])
        return 0 if server.started else 1
    finally:
        listener.close()
        if settings.uds is not None:
            settings.uds.unlink(missing_ok=True)


def open_listener(settings: Settings) -> socket.socket:
    """Return a listening socket of the settings' address.

    Raises:
        OSError: the address is taken, not ours, or may not be used.
    """
    if settings.uds is not None:
        return _open_unix_listener(settings.uds)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    dual = family == socket.AF_INET6 and settings.host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG, dualstack_ipv6=dual)


def _open_unix_listener(path: Path) -> socket.socket:
    """Listen on a Unix socket, in place of one that a killed server left behind."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise OSError(None, "address already in use")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o660)  # the proxy in front shares the group; nobody else has business here
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _configure(settings: Settings, app: Application, gate: ConnectionGate) -> uvicorn.Config:
    """Return uvicorn's configuration; logging stays as the service has set it up."""
    return uvicorn.Config(
        app,
        http=partial(EdgeHttpProtocol, gate=gate),  # type: ignore[arg-type]
        ws=partial(EdgeWebSocketProtocol, gate=gate),  # type: ignore[arg-type]
        ws_max_size=settings.ws_max_bytes,
        ws_per_message_deflate=False,  # pictures do not shrink, and inflating is work that strangers could order
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]  # fractions work, too
    )


class DrainingServer(uvicorn.Server):
    """uvicorn's server with another end; see the module."""

    def __init__(
        self, config: uvicorn.Config, gate: ConnectionGate, drain_timeout_s: float, begin_draining: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._gate = gate
        self._drain_timeout_s = drain_timeout_s
        self._begin_draining = begin_draining

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving; unlike uvicorn, do not raise them again, for a drained server has succeeded."""
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: end here and now, threads and all."""
        if self.should_exit:
            _say("second signal: ending without waiting")
            os._exit(128 + sig)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, listen, and say so."""
        await super().startup(sockets)
        if self.started and sockets:
            _say(f"Stride32 listens on {_address(sockets[0])} (models are loading; /readyz answers 200 when they are)")

    async def on_tick(self, counter: int) -> bool:
        """Look for a signal ten times a second, and tell the application of it first."""
        if self.should_exit and not self._gate.draining:
            self._gate.draining = True
            self._begin_draining()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let requests in flight end, then close every connection and the application."""
        deadline = asyncio.get_running_loop().time() + self._drain_timeout_s
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        await self._finish_work(deadline)
        await self._close_connections(deadline)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.lifespan.shutdown(), _CLOSE_S)

    async def _finish_work(self, deadline: float) -> None:
        """Wait for requests in flight. Connections stay open meanwhile: their next request learns that we drain.

        Those of long life (WebSockets, event streams) are ended by the application in its own words, for it has been
        told; WebSockets that it has not ended after half the time, by us.
        """
        loop, tasks = asyncio.get_running_loop(), self.server_state.tasks
        patience = deadline - self._drain_timeout_s / 2
        while tasks and (left := deadline - loop.time()) > 0:
            await asyncio.wait(set(tasks), timeout=min(left, max(0.05, patience - loop.time())))
            if loop.time() >= patience:
                for connection in list(self.server_state.connections):
                    if isinstance(connection, EdgeWebSocketProtocol):
                        connection.shutdown()

    async def _close_connections(self, deadline: float) -> None:
        """Close all, first those on which answers may still be on their way to slow readers."""
        loop, tasks, connections = asyncio.get_running_loop(), self.server_state.tasks, self.server_state.connections
        for connection in list(connections):
            connection.shutdown()
        for task in set(tasks):
            task.cancel("the time to drain is over")
        while connections and loop.time() < deadline:
            await asyncio.sleep(0.02)
        for connection in list(connections):
            connection.transport.abort()
        if tasks:
            await asyncio.wait(set(tasks), timeout=1.0)


def _address(listener: socket.socket) -> str:
    """Return the address for people: with the port that was really taken."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix socket {name}"
    host = f"[{name[0]}]" if listener.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"


def _raise_file_limit(needed: int) -> None:
    """Let the process open as many files as its connections may need, within what the system allows it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _say(text: str) -> None:
    """Write one line for the person who started the server; stdout belongs to no one, stderr also has the log."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
