"""A request's head: what it says of its body, and the heads that could be read in two ways."""

from __future__ import annotations

import pytest

from service.connections import EdgeLimits
from service.refusals import RefusedRequest
from service.request_head import Headers, check_head, header_bytes

LIMITS = EdgeLimits(max_url_bytes=32, max_headers=4, max_header_bytes=64)
HOST = (b"host", b"a")


@pytest.mark.parametrize(
    ("headers", "version", "length"),
    [
        ([HOST], "1.1", 0),
        ([], "1.0", 0),
        ([HOST, (b"content-length", b"0")], "1.1", 0),
        ([HOST, (b"content-length", b"70000")], "1.1", 70_000),
        ([HOST, (b"transfer-encoding", b" Chunked ")], "1.1", None),
    ],
    ids=["no body", "1.0 without a host", "no bytes", "a length", "chunks"],
)
def test_a_head_says_how_long_its_body_is(headers: Headers, version: str, length: int | None) -> None:
    assert check_head(b"/v1/detect", headers, version, b"POST", LIMITS) == length


@pytest.mark.parametrize(
    ("url", "headers", "version", "method", "status", "words"),
    [
        (b"/" + b"a" * 32, [HOST], "1.1", b"GET", 414, "at most 32 bytes"),
        (b"/", [HOST] * 5, "1.1", b"GET", 431, "at most 4 lines, got 5 lines"),
        (b"/", [HOST, (b"x", b"a" * 60)], "1.1", b"GET", 431, "at most 64 bytes, got 74"),
        (b"/", [], "1.1", b"GET", 400, "one Host header, this one 0"),
        (b"/", [HOST, HOST], "1.0", b"GET", 400, "one Host header, this one 2"),
        (b"/", [HOST], "2.0", b"PRI", 400, "only HTTP/1.0 and HTTP/1.1"),
        (b"/", [HOST, (b"transfer-encoding", b"gzip, chunked")], "1.1", b"POST", 400, "Transfer-Encoding"),
        (b"/", [HOST, (b"transfer-encoding", b"chunked")], "1.0", b"POST", 400, "chunks need HTTP/1.1"),
        (b"/", [HOST, (b"transfer-encoding", b"chunked"), (b"content-length", b"0")], "1.1", b"POST", 400, "chunks"),
        (b"/", [HOST, (b"content-length", b"0"), (b"transfer-encoding", b"chunked")], "1.1", b"POST", 400, "chunks"),
        (b"a:443", [HOST], "1.1", b"CONNECT", 400, "must be a path"),
        (b"ftp://a/", [HOST], "1.1", b"GET", 400, "must be a path"),
    ],
)
def test_heads_over_a_limit_or_of_two_meanings_are_refused(
    url: bytes, headers: Headers, version: str, method: bytes, status: int, words: str
) -> None:
    with pytest.raises(RefusedRequest) as caught:
        check_head(url, headers, version, method, LIMITS)
    assert caught.value.reply.status == status
    assert words in caught.value.reply.message


def test_header_lines_are_counted_as_on_the_wire() -> None:
    headers = [HOST, (b"accept", b"*/*")]
    assert header_bytes(headers) == len(b"host: a\r\naccept: */*\r\n")
