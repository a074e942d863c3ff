"""A session to a file, and what a file holds back into the pipeline of another session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import vision
from service.sessions.errors import InvalidSnapshotError
from service.sessions.fit import check_fit, model_digests, tracking_settings
from service.sessions.snapshot import BROKEN, FORMAT, Snapshot, SnapshotHeader, encode_snapshot
from service.stream_state import put_state

if TYPE_CHECKING:
    from service.sessions.session import Session
    from service.stream_options import StreamOptions
    from vision.config import PipelineConfig
    from vision.pipeline import Pipeline


async def save_session(session: Session) -> bytes:
    """Return the session as a file, between two of its frames; taking it renews the time-to-live."""
    loop, executor = asyncio.get_running_loop(), session.work.executor
    digests = await loop.run_in_executor(executor, model_digests, session.options, session.config)
    state, next_sequence, last_timestamp_s = await session.state()
    header = SnapshotHeader(
        format=FORMAT,
        version=vision.__version__,
        options=session.options,
        ttl_s=session.ttl_s,
        next_sequence=next_sequence,
        last_timestamp_s=last_timestamp_s,
        class_names=session.class_names,
        tracking=tracking_settings(session.config),
        models=digests,
    )
    session.renew()
    return await loop.run_in_executor(executor, encode_snapshot, Snapshot(header, state))


def put_saved(snapshot: Snapshot, options: StreamOptions, config: PipelineConfig, pipeline: Pipeline) -> None:
    """Put the saved state in place; raises InvalidSnapshotError where it does not fit, or is none of a tracker."""
    try:
        check_fit(snapshot, options, config, pipeline)
        put_state(pipeline, snapshot.state)
    except InvalidSnapshotError:
        raise
    except BROKEN as exc:
        raise InvalidSnapshotError(
            f"the snapshot must hold the state of a tracker with these settings: {exc}; download it again"
        ) from exc
