"""Who wants to hear of which job: threads of jobs wake listeners on the event loop, which then look for themselves.

Nothing is queued. A listener that reads slowly finds the newest status when it looks again, and without listeners a
frame costs one look into an empty dictionary.
"""

from __future__ import annotations

import asyncio

from service.auth import ANONYMOUS
from service.jobs.errors import TooManyJobsError

# Each open stream is a connection and a task.
MAX_LISTENERS, MAX_LISTENERS_PER_KEY, MAX_LISTENERS_PER_JOB = 256, 32, 16


class Listener:
    """One open event stream; ``wait`` from the event loop only."""

    def __init__(self, hub: EventHub, job_id: str, key_id: str) -> None:
        self._hub, self._job_id, self.key_id = hub, job_id, key_id
        self._woken = asyncio.Event()

    async def wait(self, timeout_s: float) -> bool:
        """Return whether something happened to the job within the time; what happened before the call counts."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    async def pause(self, seconds: float) -> None:
        """Wait a moment, so that events do not follow each other too closely."""
        if seconds > 0 and not self.is_ended:
            await asyncio.sleep(seconds)

    @property
    def is_ended(self) -> bool:
        """Whether the server stops and the stream shall end."""
        return self._hub.is_closed

    def wake(self) -> None:
        """Let ``wait`` return."""
        self._woken.set()

    def close(self) -> None:
        """Hear no more; a second call does nothing."""
        self._hub.forget(self._job_id, self)


class EventHub:
    """The listeners of all jobs; made on the event loop whose listeners it wakes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[str, set[Listener]] = {}
        self.is_closed = False

    def listen(self, job_id: str, key_id: str) -> Listener:
        """Return a listener, to be closed by the caller; raises TooManyJobsError."""
        mine = self._listeners.get(job_id, set())
        everybody = [listener.key_id for listeners in self._listeners.values() for listener in listeners]
        # Where there are no keys, all clients have the same id, and the limit is the server's.
        too_many_of_key = key_id != ANONYMOUS and everybody.count(key_id) >= MAX_LISTENERS_PER_KEY
        if len(mine) >= MAX_LISTENERS_PER_JOB or len(everybody) >= MAX_LISTENERS or too_many_of_key:
            raise TooManyJobsError(
                f"a job may have {MAX_LISTENERS_PER_JOB} event streams, a key {MAX_LISTENERS_PER_KEY} and the server "
                f"{MAX_LISTENERS}, all are taken; ask for the status instead"
            )
        listener = Listener(self, job_id, key_id)
        self._listeners.setdefault(job_id, mine).add(listener)
        return listener

    def forget(self, job_id: str, listener: Listener) -> None:
        """Drop a listener."""
        mine = self._listeners.get(job_id)
        if mine is not None:
            mine.discard(listener)
            if not mine:
                del self._listeners[job_id]

    def publish(self, job_id: str) -> None:
        """Say that a job's status has changed; may be called from any thread."""
        if job_id in self._listeners and not self.is_closed:
            try:
                self._loop.call_soon_threadsafe(self._wake, job_id)
            except RuntimeError:  # the loop was closed while a job's thread was ending
                self.is_closed = True

    def close(self) -> None:
        """End all streams; the server stops."""
        self.is_closed = True
        for job_id in self._listeners:
            self._wake(job_id)

    def _wake(self, job_id: str) -> None:
        for listener in self._listeners.get(job_id, ()):
            listener.wake()
