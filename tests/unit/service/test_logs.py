"""Log lines: one JSON object a line, whatever stands in it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from service.logs import FIELDS, JsonFormatter, configure_logging, request_id
from service.settings import Settings


def record(message: str, *args: Any, exc_info: Any = None, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("service.access", logging.WARNING, "f.py", 1, message, args, exc_info)
    setattr(made, FIELDS, fields)
    return made


def line(made: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter().format(made)
    assert "\n" not in text
    row: dict[str, Any] = json.loads(text)
    return row


def test_line_has_time_level_logger_and_message() -> None:
    row = line(record("%s failed", "this"))
    assert (row["level"], row["logger"], row["message"]) == ("warning", "service.access", "this failed")
    assert datetime.fromisoformat(row["time"]).tzinfo is not None
    assert "request_id" not in row


def test_line_names_its_request() -> None:
    token = request_id.set("abc-1")
    try:
        assert line(record("x"))["request_id"] == "abc-1"
        # What another thread logs about a request names that one.
        assert line(record("x", request_id="other"))["request_id"] == "other"
    finally:
        request_id.reset(token)


def test_further_fields_are_written_out() -> None:
    row = line(record("x", status=200, ms=1.5, path="/v1/detect"))
    assert (row["status"], row["ms"], row["path"]) == (200, 1.5, "/v1/detect")


def test_traceback_stays_in_its_line() -> None:
    try:
        raise ValueError("broken\nin two lines")
    except ValueError:
        row = line(record("x", exc_info=sys.exc_info()))
    assert "Traceback" in row["exception"]
    assert "broken" in row["exception"]


@pytest.mark.parametrize(
    "value", ["line\nbreak", 'quote"', "\x00\x1b[31m", "half \udc80 character", 2**70, {1: 2}, object(), float("nan")]
)
def test_no_value_costs_the_line(value: Any) -> None:
    row = line(record("%s", value, found=value))
    assert row["level"] == "warning"
    assert "found" in row


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """Give the process its logging back."""
    root = logging.getLogger()
    names = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "PIL", "asyncio", "matplotlib")
    own = [logging.getLogger(name) for name in (*names, "python_multipart")]
    before = (list(root.handlers), root.level, [(each.level, list(each.handlers), each.propagate) for each in own])
    switches = {
        name: getattr(logging, name) for name in ("logThreads", "logProcesses", "logMultiprocessing", "_srcfile")
    }
    yield
    for name, value in switches.items():
        setattr(logging, name, value)
    root.handlers[:], root.level = before[0], before[1]
    for each, (level, handlers, propagate) in zip(own, before[2], strict=True):
        each.level, each.handlers[:], each.propagate = level, handlers, propagate


@pytest.mark.usefixtures("logging_as_it_was")
@pytest.mark.parametrize("form", ["json", "text"])
def test_configured_logging_writes_to_stderr(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(_env_file=None, log_format=form, log_level="info"))
    logging.getLogger("service.test").info("hello %d", 5, extra={FIELDS: {"answer": 42}})
    logging.getLogger("service.test").debug("not wanted")
    logging.getLogger("uvicorn.access").info("said better by us")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    if form == "json":
        row = json.loads(output.err)
        assert (row["message"], row["answer"]) == ("hello 5", 42)
    else:
        assert "hello 5" in output.err
