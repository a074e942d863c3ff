"""Compressed bodies: both formats, bombs, and streams that are damaged, cut or continued."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from service.errors import BodyTooLargeError, UnsupportedMediaTypeError
from service.oip.compression import deflate, inflate, request_coding, response_coding
from service.oip.limits import OipError

TEXT = b"Stride32 " * 500


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize(
    ("data", "coding"),
    [(gzip.compress(TEXT), "gzip"), (zlib.compress(TEXT), "deflate"), (raw_deflate(TEXT), "deflate")],
)
def test_whole_streams_are_inflated(data: bytes, coding: str) -> None:
    assert inflate(data, coding, len(TEXT)) == TEXT
    with pytest.raises(BodyTooLargeError, match="inflated"):
        inflate(data, coding, len(TEXT) - 1)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_answers_come_back(coding: str) -> None:
    assert inflate(deflate(TEXT, coding), coding, len(TEXT)) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_stops_at_the_limit(coding: str) -> None:
    pack = gzip.compress if coding == "gzip" else zlib.compress
    bomb = pack(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(BodyTooLargeError):
        inflate(bomb, coding, 100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    "data",
    [b"", b"no stream", gzip.compress(TEXT)[:-4], gzip.compress(TEXT) + b"x", gzip.compress(TEXT) * 2,
     gzip.compress(TEXT)[:20] + b"\x00\x01\x02" + gzip.compress(TEXT)[23:]],
)  # fmt: skip
def test_streams_that_are_not_whole_are_refused(data: bytes) -> None:
    with pytest.raises(OipError, match="compress it again"):
        inflate(data, "gzip", 1 << 20)
    with pytest.raises(OipError, match="compress it again"):
        inflate(data, "deflate", 1 << 20)


def test_the_codings_of_requests() -> None:
    assert [request_coding(value) for value in (None, "", "identity", "GZIP", "x-gzip", "deflate")] == [
        None, None, None, "gzip", "gzip", "deflate",
    ]  # fmt: skip
    for value in ("br", "gzip, gzip", "zstd"):
        with pytest.raises(UnsupportedMediaTypeError):
            request_coding(value)


@pytest.mark.parametrize(
    ("accept", "size", "coding"),
    [
        (None, 5000, None),
        ("gzip", 100, None),
        ("gzip", 5000, "gzip"),
        ("deflate", 5000, "deflate"),
        ("br, Deflate;q=0.5, gzip;q=0", 5000, "deflate"),
        ("identity", 5000, None),
        ("*", 5000, None),
        ("gzip; q=0.0, deflate; q=0", 5000, None),
    ],
)
def test_the_codings_of_responses(accept: str | None, size: int, coding: str | None) -> None:
    assert response_coding(accept, size) == coding
