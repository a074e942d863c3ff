"""How many jobs there are in each state: counted in memory, for metrics and limits are asked on the event loop."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from service.jobs.record import JobState

_UNFINISHED = frozenset({JobState.QUEUED, JobState.RUNNING})


class JobTally:
    """The key and state of each job; methods may be called from any thread and never touch the disk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, tuple[str, JobState]] = {}
        self._states: Counter[JobState] = Counter()
        self._unfinished: Counter[str] = Counter()

    def reset(self, jobs: Iterable[tuple[str, str, JobState]]) -> None:
        """Begin anew with the id, key and state of each job."""
        with self._lock:
            self._jobs = {job_id: (key_id, state) for job_id, key_id, state in jobs}
            self._states = Counter(state for _, state in self._jobs.values())
            self._unfinished = Counter(key_id for key_id, state in self._jobs.values() if state in _UNFINISHED)

    def note(self, job_id: str, now: tuple[str, JobState] | None) -> None:
        """Say which key and state a job has now; None when it is gone."""
        with self._lock:
            before = self._jobs.pop(job_id, None)
            for entry, step in ((before, -1), (now, 1)):
                if entry is not None:
                    key_id, state = entry
                    self._states[state] += step
                    self._unfinished[key_id] += step * (state in _UNFINISHED)
            if before is not None and not self._unfinished[before[0]]:
                del self._unfinished[before[0]]
            if now is not None:
                self._jobs[job_id] = now

    def counts(self) -> dict[JobState, int]:
        """Return the number of jobs in each state."""
        with self._lock:
            return {state: self._states[state] for state in JobState}

    def unfinished_of(self, key_id: str) -> int:
        """Return how many jobs of a key wait or run."""
        with self._lock:
            return self._unfinished.get(key_id, 0)
