"""Compressed bodies: requests are inflated up to a limit, responses deflated where the client accepts it."""

from __future__ import annotations

import gzip
import zlib

from service.errors import BodyTooLargeError, UnsupportedMediaTypeError
from service.oip.limits import OipError, quote

# Below this a compressed answer is hardly smaller than the headers that say so.
MIN_RESPONSE_BYTES = 1024
# Masks and label maps shrink a hundredfold at the fastest level already.
LEVEL = 1
CODINGS = ("gzip", "deflate")


def request_coding(value: str | None) -> str | None:
    """Return the coding of a request's ``Content-Encoding``, None for a plain body.

    Raises:
        UnsupportedMediaTypeError: it is not one of gzip, deflate and identity, or several.
    """
    coding = (value or "").strip().lower()
    if coding in ("", "identity"):
        return None
    if coding == "x-gzip":
        return "gzip"
    if coding not in CODINGS:
        raise UnsupportedMediaTypeError(
            f"Content-Encoding must be gzip, deflate or identity, got {quote(value)}; send one of them"
        )
    return coding


def inflate(data: bytes, coding: str, max_bytes: int) -> bytes:
    """Return the plain bytes of a whole gzip or deflate body; never holds more than ``max_bytes`` + 1 of them.

    ``deflate`` is zlib's format, as RFC 9110 has it; the raw stream that some clients send is read as well.

    Raises:
        BodyTooLargeError: more than ``max_bytes`` come out.
        OipError: the stream is damaged, ends early, or something follows it.
    """
    window = zlib.MAX_WBITS | 16 if coding == "gzip" else zlib.MAX_WBITS if _has_zlib_header(data) else -zlib.MAX_WBITS
    stream = zlib.decompressobj(window)
    try:
        plain = stream.decompress(data, max_bytes + 1)
    except zlib.error as exc:
        raise OipError(f"the body must be {coding} data, its stream is damaged; compress it again") from exc
    if len(plain) > max_bytes:
        raise BodyTooLargeError(
            f"a body must be at most {max_bytes} bytes when it is inflated, this one is larger; send less at a time"
        )
    if not stream.eof or stream.unused_data or stream.unconsumed_tail:
        found = "bytes follow it" if stream.eof else "it ends early"
        raise OipError(f"the body must be one whole {coding} stream, {found}; compress it again")
    return plain


def response_coding(accept_encoding: str | None, size: int) -> str | None:
    """Return the coding for an answer of ``size`` bytes: the first of gzip and deflate that is accepted by name."""
    if not accept_encoding or size < MIN_RESPONSE_BYTES:
        return None
    accepted = {}
    for part in accept_encoding.lower().split(","):
        name, _, weight = part.partition(";")
        accepted[name.strip()] = weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return next((coding for coding in CODINGS if accepted.get(coding)), None)


def deflate(body: bytes, coding: str) -> bytes:
    """Return the compressed answer."""
    return gzip.compress(body, LEVEL, mtime=0) if coding == "gzip" else zlib.compress(body, LEVEL)


def _has_zlib_header(data: bytes) -> bool:
    """Return whether the first two bytes are a header of RFC 1950."""
    return len(data) >= 2 and data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
