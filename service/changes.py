"""Loading and unloading while the server runs: one change at a time, and few that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from service.errors import QueueFullError, UnavailableError

# More than an operator's script asks for at once; each holds a connection and waits for seconds.
MAX_WAITING = 16
RETRY_AFTER_S = 5.0

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class ModelChanges:
    """Runs changes in a thread of its own, so that they wait for each other and nothing else waits for them.

    Attributes:
        draining: no further changes are taken.
    """

    def __init__(self) -> None:
        self.draining = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model-changes")
        self._waiting = 0

    async def run(
        self, change: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Return what ``change`` returns; it goes on when the caller goes away.

        Raises:
            UnavailableError: the server is going down. QueueFullError: too many changes wait.
        """
        if self.draining:
            raise UnavailableError(
                "this server is going down and changes nothing now; ask another one", code="draining"
            )
        if self._waiting >= MAX_WAITING:
            raise QueueFullError(
                f"at most {MAX_WAITING} changes of models may wait, as many do; wait for one of them",
                retry_after_s=RETRY_AFTER_S,
            )
        self._waiting += 1
        future = self._pool.submit(change, *args, **kwargs)
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(self._finish)
        return await asyncio.shield(waiting)

    def close(self) -> None:
        """Drop what waits; a change that runs is left to its end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _finish(self, future: asyncio.Future[Result]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # looked at: the caller may be gone
