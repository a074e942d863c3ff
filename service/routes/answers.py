"""What the routes of pictures, models and operations answer, as the OpenAPI document shows it.

Answers are built by hand, which costs less; that they are as described here is tested by requests made from the
description (tests/integration/test_service_schema.py).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.sessions.requests import DetectionRow, ImageSize

Task = Literal["detect", "segment", "classify", "embed"]
State = Literal["available", "loading", "ready", "failed", "unloading"]


class Answer(BaseModel):
    """Nothing is answered that is not described."""

    model_config = ConfigDict(extra="forbid")


class Timings(Answer):
    """Milliseconds of the stages of one picture."""

    decode: float
    queue: float = Field(description="Wait for the device.")
    infer: float = Field(description="Of the batch in which the picture was.")


class ImageAnswer(Answer):
    """What all answers to a picture have."""

    model: str
    image: ImageSize
    timings_ms: Timings


class DetectAnswer(ImageAnswer):
    """Objects, best first."""

    detections: list[DetectionRow]


class ClassArea(Answer):
    """How much of the picture a class covers."""

    label: int
    class_name: str
    pixels: int
    share: float


class LabelRuns(Answer):
    """A map [H, W] as runs of equal classes along the rows."""

    size_hw: tuple[int, int]
    dtype: str
    values: list[int]
    lengths: list[int]


class SegmentAnswer(ImageAnswer):
    """A class for every pixel."""

    class_names: list[str]
    classes: list[ClassArea]
    segmentation: LabelRuns


class ClassRow(Answer):
    """A class of the picture; ``assigned`` where the model says that the picture is of it."""

    label: int
    class_name: str
    score: float
    assigned: bool


class ClassifyAnswer(ImageAnswer):
    """Classes, surest first; or what the model measures, with its unit."""

    classes: list[ClassRow]
    value: float | None
    unit: str


class EmbedAnswer(ImageAnswer):
    """A unit vector for each box."""

    dim: int
    boxes: list[tuple[float, float, float, float]]
    embeddings: list[list[float]]


class ModelSummary(Answer):
    """A model as the list shows it."""

    name: str
    task: Task
    kind: str
    state: State
    default: bool
    class_names: list[str]
    sha256: str | None
    licence: str | None
    summary: str
    error: str | None


class ModelHealth(Answer):
    """How a model does."""

    state: str = Field(description="ok, failing (on the last inputs), or the state of a model that is not loaded.")
    requests: int
    failures: int
    failures_in_a_row: int
    last_error: str | None
    queue_items: int
    batch_cap: int | None
    engine: str | None = Field(description="What runs the network, for example onnx:cpu.")


class ModelDetails(ModelSummary):
    """A model with its card and its health."""

    card: dict[str, Any] | None
    health: ModelHealth


class ModelList(Answer):
    """All models that this server knows."""

    models: list[ModelSummary]


class Health(Answer):
    """The process lives."""

    status: Literal["ok", "device_lost"]


class Readiness(Answer):
    """Whether requests would be answered, and the state of each model that is or was wanted."""

    status: Literal["ready", "loading", "failing", "draining"]
    models: dict[str, str]


class RequestCounts(Answer):
    """Answered requests since the start, and the rate since the last look."""

    total: int
    per_s: float


class JobCounts(Answer):
    """Video jobs that are not over."""

    queued: int
    running: int


class ModelFigures(Answer):
    """Medians over the last inputs of a model."""

    name: str
    queue_items: int
    queue_wait_ms_p50: float | None
    infer_ms_p50: float | None
    batch_mean: float | None


class Stats(Answer):
    """The figures of the page's panel."""

    uptime_s: float
    requests: RequestCounts
    rejected: int
    in_flight: int
    models: list[ModelFigures]
    sessions: int
    jobs: JobCounts
    memory_bytes: int
    gpu_memory_bytes: int


IMAGE_ANSWERS: dict[str, type[ImageAnswer]] = {
    "detect": DetectAnswer,
    "segment": SegmentAnswer,
    "classify": ClassifyAnswer,
    "embed": EmbedAnswer,
}
