"""Addresses of result files that need no key for a while: a ``<video>`` and a download send no headers, hence no key.

An address is signed with HMAC-SHA256 by a secret that lives as long as the process. The signature holds for one file of
one job, for the key that owns it and until a time; it opens nothing else, and after a restart it opens nothing.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from urllib.parse import parse_qsl, urlencode

from service.errors import UnauthorizedError

LIFETIME_S = 15 * 60
# Ends of lifetimes lie on whole minutes, so that a status asked for twice in a row mostly reads the same.
STEP_S = 60
SIGNATURE, EXPIRES = "signature", "expires"

_PATH = re.compile(r"/v1/jobs/(?P<job_id>[0-9a-f]{32})/results/(?P<name>[a-z]{1,32}\.[a-z0-9]{1,8})", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_EXPIRES = re.compile(r"[0-9]{1,12}", re.ASCII)
# Longer queries are none of ours; nothing of them is read.
_MAX_QUERY = 200


class ResultLinks:
    """Signs addresses of results and knows its own again.

    Args:
        key_ids: the keys for which addresses may be signed.
        clock: seconds since 1970; replaced in tests.
    """

    def __init__(self, key_ids: Iterable[str], clock: Callable[[], float] = time.time) -> None:
        self._key_ids = tuple(key_ids)
        self._clock = clock
        self._secret = secrets.token_bytes(32)

    def sign(self, path: str, key_id: str) -> str | None:
        """Return the path of a result with the query that opens it; None for who has no key and needs none."""
        if key_id not in self._key_ids:
            return None
        expires = str((int(self._clock() + LIFETIME_S) // STEP_S + 1) * STEP_S)
        return f"{path}?{urlencode({EXPIRES: expires, SIGNATURE: self._signature(path, key_id, expires)})}"

    def key_id_of(self, method: str, path: str, query: bytes) -> str | None:
        """Return the key whose result a request without a key may read; None where nothing is signed.

        Raises:
            UnauthorizedError: the signature is not of this server, not for this file, or too old.
        """
        if method != "GET" or SIGNATURE.encode() not in query or _PATH.fullmatch(path) is None:
            return None
        signature, expires = _read(query)
        found = None
        # All keys are tried, whatever is found; the address then need not tell which one it is.
        for key_id in self._key_ids:
            if hmac.compare_digest(self._signature(path, key_id, expires), signature):
                found = key_id
        if found is None:
            raise UnauthorizedError(
                "the address of a result must be signed by this server for this file, it is not; take it anew from the "
                "job's status"
            )
        if int(expires) <= self._clock():
            raise UnauthorizedError(
                f"a signed address holds for {LIFETIME_S // 60} minutes, this one is older; take it anew from the "
                "job's status"
            )
        return found

    def _signature(self, path: str, key_id: str, expires: str) -> str:
        # No part holds a line break, so no two different triples are the same text.
        return hmac.digest(self._secret, f"{path}\n{key_id}\n{expires}".encode(), "sha256").hex()


def _read(query: bytes) -> tuple[str, str]:
    """Return signature and time of a query; an empty signature, which fits nothing, unless both are well formed."""
    try:
        pairs = parse_qsl(query.decode("ascii"), strict_parsing=True) if len(query) <= _MAX_QUERY else []
    except ValueError:
        pairs = []
    given = dict(pairs)
    signature, expires = given.get(SIGNATURE, ""), given.get(EXPIRES, "")
    is_whole = len(pairs) == len(given) and _SIGNATURE.fullmatch(signature) and _EXPIRES.fullmatch(expires)
    return (signature, expires) if is_whole else ("", "0")
