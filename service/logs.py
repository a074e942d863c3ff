"""Log lines of the service: one JSON object a line, with the id of the request that they belong to."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any

import orjson

from service.settings import Settings

request_id: ContextVar[str] = ContextVar("request_id", default="")

# The name under which a record carries further fields: ``extra={FIELDS: {...}}``.
FIELDS = "fields"

_access = logging.getLogger("service.access")
# Set where log lines are JSON.
_json_handler: logging.StreamHandler[Any] | None = None


class AccessLog:
    """Writes the line of each answered request, through ``logging`` or past it.

    ``logging`` makes, formats and flushes a record in a tenth of the time of a small request. Where its lines are JSON
    on stderr anyhow, these are written there directly: the same lines, each at once.
    """

    def __init__(self) -> None:
        self._second = (0, "")

    def write(self, message: str, fields: dict[str, Any]) -> None:
        """Write a line, if such lines are wanted."""
        if not _access.isEnabledFor(logging.INFO):
            return
        handler = _json_handler
        if handler is None:
            _access.info(message, extra={FIELDS: fields})
            return
        now = time.time()
        row = {
            "time": f"{self._seconds(int(now))}.{int(now % 1 * 1000):03d}Z",
            "level": "info",
            "logger": _access.name,
            "message": message,
            "request_id": request_id.get(),
            **fields,
        }
        try:
            line = orjson.dumps(row).decode()
        except orjson.JSONEncodeError:
            _access.info(message, extra={FIELDS: fields})
            return
        with handler.lock or nullcontext():  # lines of other threads are written by the handler itself
            handler.stream.write(line + "\n")
            if not getattr(handler.stream, "line_buffering", False):
                handler.stream.flush()

    def _seconds(self, second: int) -> str:
        """Return a time as text, made once a second."""
        if self._second[0] != second:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return self._second[1]


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        row: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            row["request_id"] = request_id.get()
        row |= getattr(record, FIELDS, {})
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(row, default=str).decode()
        except orjson.JSONEncodeError:
            # Half a character or a number beyond 64 bits: the line matters more than the library.
            return json.dumps(row, default=str)


def configure_logging(settings: Settings) -> None:
    """Send all log lines to stderr in the configured form; uvicorn's own access lines are off, ours say more."""
    global _json_handler
    handler = logging.StreamHandler(sys.stderr)
    _json_handler = handler if settings.log_format == "json" else None
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # What logging's own documentation advises where nobody prints threads, processes or places of calls.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    # Their debug lines hold bodies or say nothing to an operator.
    for name in ("PIL", "asyncio", "matplotlib", "python_multipart"):
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))
