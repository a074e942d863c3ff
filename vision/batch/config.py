"""What a batch job computes (``BatchConfig``: the same in every run of it) and how a run does it (``RunOptions``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from vision.config import PipelineConfig, to_dict
from vision.errors import ConfigError
from vision.validation import MAX_PIXELS

Task = Literal["detect", "segment", "track", "embed", "classify"]
TASKS: tuple[Task, ...] = get_args(Task)

# Settings that change how fast an answer comes and not what it is; a run may choose them anew.
_SPEED_ONLY = ("threads", "parallel")
# Which tables of the pipeline's configuration decide the rows of a task.
_TABLES: dict[Task, tuple[str, ...]] = {
    "detect": ("detection",),
    "segment": ("segmentation",),
    "track": ("detection", "embedding", "tracking"),
    "embed": ("embedding",),
    "classify": ("classification",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """What a job computes. A job goes on only with the configuration it was begun with.

    Attributes:
        task: what is computed for each picture or frame.
        pipeline: settings of all stages.
        shard_size: pictures or frames that share a file, >= 1; a video that is not divided has a file of its own.
        video_chunk: frames of a video that make one item, >= 1, except for tracking, which must see all of a video; 0
            never divides a video.
        batch: pictures in a forward pass; 0 takes 1 on the CPU (8 of crops and of whole pictures to classify), 16 on
            CUDA. Batches never reach over a shard's end, so their company is the same in each run.
        max_pixels: largest picture or frame, width times height.
    """

    task: Task
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    shard_size: int = 1000
    video_chunk: int = 1000
    batch: int = 0
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ConfigError(f"task must be one of {', '.join(TASKS)}, got {self.task!r}; pick one")
        for name, least in (("shard_size", 1), ("video_chunk", 0), ("batch", 0), ("max_pixels", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be >= {least}, got {getattr(self, name)}; leave it out for the default")

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the rows, as plain JSON data: what ``--resume`` compares."""
        pipeline = to_dict(self.pipeline)
        runtime = {key: value for key, value in pipeline["runtime"].items() if key not in _SPEED_ONLY}
        return {
            "task": self.task,
            **{name: pipeline[name] for name in _TABLES[self.task]},
            "runtime": runtime,
            "shard_size": self.shard_size,
            "video_chunk": self.video_chunk,
            "batch": self.batch,
            "max_pixels": self.max_pixels,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run does its work; results do not depend on it.

    Attributes:
        decoders: processes that decode; 0 chooses by the CPUs and the device.
        fetchers: threads that fetch what does not lie on this machine.
        devices: one inference process each; () takes the device of the configuration alone.
        item_timeout_s: longest time for a picture, or from one frame of a video to the next, in each stage, > 0.
        max_errors: failed items after which the run ends, those of earlier runs included; None goes on whatever comes.
        max_waiting_mb: decoded pictures that wait for inference, in megabytes; 0 chooses by the device.
    """

    decoders: int = 0
    fetchers: int = 16
    devices: tuple[str, ...] = ()
    item_timeout_s: float = 60.0
    max_errors: int | None = None
    max_waiting_mb: int = 0

    def __post_init__(self) -> None:
        for name, least in (("decoders", 0), ("fetchers", 1), ("max_waiting_mb", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be >= {least}, got {getattr(self, name)}; leave it out for the default")
        if not self.item_timeout_s > 0:
            raise ConfigError(f"item_timeout_s must be > 0, got {self.item_timeout_s}; 60 is the default")
        if self.max_errors is not None and self.max_errors < 0:
            raise ConfigError(f"max_errors must be >= 0, got {self.max_errors}; leave it out to go on whatever comes")
