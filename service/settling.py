"""Ways of an answer from the device thread to whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from service.errors import InferenceFailedError
from service.work import Served


def settle_future(future: Future[Served]) -> Callable[[Served | None, BaseException | None], None]:
    """Return what hands an answer to a thread that waits for ``future``."""

    def settle(served: Served | None, error: BaseException | None) -> None:
        if future.set_running_or_notify_cancel():
            if served is not None:
                future.set_result(served)
            else:
                future.set_exception(error or InferenceFailedError("no answer came"))

    return settle


def settle_async(
    future: asyncio.Future[Served], loop: asyncio.AbstractEventLoop
) -> Callable[[Served | None, BaseException | None], None]:
    """Return what hands an answer from the device thread to a coroutine that awaits ``future``."""

    def deliver(served: Served | None, error: BaseException | None) -> None:
        if future.done():
            return
        if served is not None:
            future.set_result(served)
        else:
            future.set_exception(error or InferenceFailedError("no answer came"))

    def settle(served: Served | None, error: BaseException | None) -> None:
        loop.call_soon_threadsafe(deliver, served, error)

    return settle
