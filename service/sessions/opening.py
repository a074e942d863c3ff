"""How a session comes to be: a pipeline of its own for a stream's options, or for those that were saved with it."""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from service.sessions.frames import Decode, FrameWork, StateBudget
from service.sessions.saving import put_saved
from service.sessions.session import Session
from service.sessions.snapshot import decode_snapshot
from service.stream_options import resolved_options
from service.stream_state import check_size
from service.work import Priority

if TYPE_CHECKING:
    from service.settings import Settings
    from service.stream_options import StreamOptions
    from vision.config import PipelineConfig
    from vision.pipeline import Pipeline

MAX_RESTORING = 2
"""Snapshots that are checked at a time."""


class StreamBuilder(Protocol):
    """Makes the pipelines of streams; ``service.streams.StreamBuilder``."""

    def check(self, options: StreamOptions) -> PipelineConfig:
        """Return the settings that the options add up to; raises ConfigError and ModelNotFoundError."""
        ...

    def open(self, options: StreamOptions, *, priority: Priority) -> Pipeline:
        """Return a new pipeline, whose networks are the server's; may take the time of loading a model."""
        ...


class SessionOpener:
    """Makes sessions, and owns the threads and the memory that all of them share.

    Args:
        builder: makes their pipelines.
        settings: the longest time-to-live, credit and threads.
        decode: decodes their pictures.
    """

    def __init__(self, builder: StreamBuilder, settings: Settings, decode: Decode) -> None:
        self._builder = builder
        self._max_ttl_s = settings.session_max_ttl_s
        self._executor = ThreadPoolExecutor(settings.session_workers, thread_name_prefix="session")
        self._work = FrameWork(
            decode=decode,
            executor=self._executor,
            timeout_s=settings.request_timeout_s,
            credit=settings.session_credit,
            budget=StateBudget(settings.sessions_max_state_bytes),
        )
        self._restoring = asyncio.Semaphore(MAX_RESTORING)

    def close(self) -> None:
        """Let the threads end when they are done."""
        self._executor.shutdown(wait=False)

    async def open(self, options: StreamOptions, key_id: str, *, ttl_s: float) -> Session:
        """Return a new session; raises ConfigError, ModelNotFoundError for options that cannot be met."""
        config, options, pipeline = await self._build(options)
        return Session(_new_id(), key_id, options, config, pipeline, self._work, ttl_s=ttl_s, created_at=time.time())

    async def reopen(self, data: bytes | bytearray, key_id: str) -> Session:
        """Return a new session that goes on where the saved one was.

        Raises:
            InvalidSnapshotError, SessionTooLargeError: the snapshot is none, does not fit, or holds too much.
            Otherwise as ``open``.
        """
        loop = asyncio.get_running_loop()
        # Of a snapshot of many megabytes there is a second copy until its body is let go of.
        async with self._restoring:
            snapshot = await loop.run_in_executor(self._executor, decode_snapshot, data)
            header = snapshot.header
            config, options, pipeline = await self._build(header.options)
            session_id = _new_id()
            try:
                check_size(snapshot.state)
                self._work.budget.book(session_id, snapshot.state.nbytes)
                await loop.run_in_executor(self._executor, put_saved, snapshot, options, config, pipeline)
            except BaseException:
                pipeline.close()
                self._work.budget.forget(session_id)
                raise
        return Session(
            session_id,
            key_id,
            options,
            config,
            pipeline,
            self._work,
            ttl_s=min(header.ttl_s, self._max_ttl_s),
            created_at=time.time(),
            next_sequence=header.next_sequence,
            last_timestamp_s=header.last_timestamp_s,
        )

    async def _build(self, options: StreamOptions) -> tuple[PipelineConfig, StreamOptions, Pipeline]:
        """Return settings, options with their names in place, and the pipeline."""

        def build() -> tuple[PipelineConfig, StreamOptions, Pipeline]:
            config = self._builder.check(options)
            resolved = resolved_options(options, config)
            return config, resolved, self._builder.open(resolved, priority=Priority.INTERACTIVE)

        return await asyncio.get_running_loop().run_in_executor(self._executor, build)


def _new_id() -> str:
    # Not to be guessed: where no keys are set, the id is all that keeps streams apart.
    return secrets.token_hex(16)
