"""Log lines of the service: one JSON object a line, with the id of the request that they belong to."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any

import orjson

from service.settings import Settings

request_id: ContextVar[str] = ContextVar("request_id", default="")

# The name under which a record carries further fields: ``extra={FIELDS: {...}}``.
FIELDS = "fields"


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
    handler = logging.StreamHandler(sys.stderr)
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
