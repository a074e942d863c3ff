"""Bodies: their sender's share, the rate at which they must come, and the place that they get when they are here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from service import uploads
from service.admission import Admission
from service.errors import BodyTimeoutError, BodyTooLargeError, CancelledWorkError, QueueFullError, SlowBodyError
from service.metrics import Metrics
from service.uploads import enter_upload, read_body


def admission() -> Admission:
    return Admission(max_items=2, max_bytes=10_000, max_body_bytes=1000, metrics=Metrics())


def request(
    chunks: list[bytes],
    pause_s: float = 0.0,
    length: int | None = None,
    client: str = "192.0.2.1",
    key: str = "",
    is_here: bool = False,
) -> Request:
    """Return a request whose chunks come one after the other; after them nothing comes.

    ``is_here``: as the server says it of a body that it has received whole.
    """
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.sleep(60)
        await asyncio.sleep(pause_s)
        chunk = left.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(left) or chunk == b"..."}

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    state: dict[str, Any] = {"key_id": key} if key else {}
    if is_here:
        state["body_is_here"] = True
    return Request(
        {"type": "http", "method": "POST", "headers": headers, "client": (client, 5), "state": state}, receive
    )


def read(own: Admission, asked: Request, timeout_s: float = 5.0) -> bytes:
    async def work() -> bytes:
        with enter_upload(asked, own) as ticket:
            assert own.items == 0
            body = await read_body(asked, ticket, own, timeout_s)
            assert (own.items, own.uploads.total, own.upload_bytes.total) == (1, 0, 0)
            assert own.bytes == len(body)
            return body

    try:
        return asyncio.run(work())
    finally:
        assert (own.items, own.bytes, own.uploads.total, own.upload_bytes.total) == (0, 0, 0, 0)


@pytest.mark.parametrize("length", [6, None])
@pytest.mark.parametrize("chunks", [[b"abcdef"], [b"ab", b"cde", b"f"]])
def test_body_takes_its_place_when_it_is_here(chunks: list[bytes], length: int | None) -> None:
    assert read(admission(), request(chunks, length=length)) == b"abcdef"


@pytest.mark.parametrize("length", [6, None])
def test_body_that_is_here_is_read_at_once(length: int | None) -> None:
    assert read(admission(), request([b"abcdef"], length=length, is_here=True)) == b"abcdef"


@pytest.mark.parametrize("is_here", [False, True])
def test_single_piece_is_not_copied(is_here: bool) -> None:
    piece = b"x" * 500
    assert read(admission(), request([piece], is_here=is_here)) is piece


def test_body_that_is_here_may_belong_to_nobody_any_more() -> None:
    asked = request([], is_here=True)

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    asked._receive = gone
    with pytest.raises(CancelledWorkError):
        read(admission(), asked)


def test_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "GRACE_S", 0.05)
    own = admission()
    with pytest.raises(SlowBodyError, match="16000 bytes a second") as refused:
        read(own, request([b"x"] * 100, pause_s=0.02, length=100))
    assert (refused.value.status, refused.value.error_code) == (408, "body_timeout")
    with pytest.raises(SlowBodyError):
        read(own, request([b"..."], length=900))
    assert 'stride32_rejects_total{reason="body_timeout"} 2.0' in own.metrics.exposition().decode()


def test_body_at_a_fair_rate_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "GRACE_S", 0.2)
    monkeypatch.setattr(uploads, "MIN_BYTES_PER_S", 100)
    assert len(read(admission(), request([b"x" * 50] * 6, pause_s=0.06))) == 300
    with pytest.raises(BodyTimeoutError, match=r"within 0\.1 s"):  # the end of all time comes first
        read(admission(), request([b"x" * 50] * 6, pause_s=0.06), timeout_s=0.1)


def test_body_is_as_long_as_it_is() -> None:
    with pytest.raises(BodyTooLargeError, match="at most 1000 bytes"):
        read(admission(), request([b"x" * 600, b"x" * 600]))
    own = admission()
    with pytest.raises(BodyTooLargeError, match="at most 1000 bytes"):
        read(own, request([b"x" * 1200], is_here=True))
    assert 'stride32_rejects_total{reason="body_too_large"} 1.0' in own.metrics.exposition().decode()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"client": "192.0.2.1"}, {"client": "192.0.2.1"}, True),
        ({"client": "192.0.2.1"}, {"client": "192.0.2.2"}, False),
        ({"client": "2001:db8::1"}, {"client": "2001:db8::2"}, True),
        ({"key": "a"}, {"key": "a", "client": "192.0.2.2"}, True),
        ({"key": "a"}, {"key": "b"}, False),
    ],
)
def test_share_is_that_of_a_key_or_address(first: dict[str, str], second: dict[str, str], same: bool) -> None:
    own = admission()
    for _ in range(2):
        enter_upload(request([], **first), own)  # type: ignore[arg-type]
    if same:
        with pytest.raises(QueueFullError):
            enter_upload(request([], **second), own)  # type: ignore[arg-type]
    else:
        enter_upload(request([], **second), own)  # type: ignore[arg-type]
