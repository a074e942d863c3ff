"""What jobs need of the rest of the service: settings, and pipelines whose networks are shared with all others."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from service.stream_options import StreamOptions
from service.work import Priority
from vision.config import PipelineConfig
from vision.pipeline import Pipeline


class JobSettings(Protocol):
    """The settings that jobs read; ``service.settings.Settings`` has them all and says what they mean."""

    @property
    def data_dir(self) -> Path: ...  # noqa: D102
    @property
    def max_pixels(self) -> int: ...  # noqa: D102
    @property
    def body_timeout_s(self) -> float: ...  # noqa: D102
    @property
    def jobs_workers(self) -> int: ...  # noqa: D102
    @property
    def jobs_upload_timeout_s(self) -> float: ...  # noqa: D102
    @property
    def jobs_max_upload_bytes(self) -> int: ...  # noqa: D102
    @property
    def jobs_max_duration_s(self) -> float: ...  # noqa: D102
    @property
    def jobs_max_queued(self) -> int: ...  # noqa: D102
    @property
    def jobs_max_per_key(self) -> int: ...  # noqa: D102
    @property
    def jobs_retention_s(self) -> float: ...  # noqa: D102
    @property
    def jobs_disk_quota_bytes(self) -> int: ...  # noqa: D102
    @property
    def jobs_checkpoint_s(self) -> float: ...  # noqa: D102


class StreamBuilder(Protocol):
    """Makes the pipeline of one stream."""

    def check(self, options: StreamOptions) -> PipelineConfig:
        """Return the settings that ``options`` add up to; raises ConfigError or ModelNotFoundError."""
        ...

    def open(self, options: StreamOptions, *, priority: Priority) -> Pipeline:
        """Return a pipeline with a tracker of its own and networks that are shared."""
        ...
