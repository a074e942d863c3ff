"""What a client can set about a stream (a tracking session or a video job), and the pipeline settings it adds up to."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from vision.config import PipelineConfig, from_dict, to_dict
from vision.errors import ConfigError, closest_hint
from vision.tracking.config import PRESETS

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
# A class name of any model; long ones are somebody's attempt at something.
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=100)]

# Settings of single stages that say how one stream is judged; the rest would change the server for all.
DETECTION_KEYS = frozenset({"conf", "iou", "max_det", "classes", "class_agnostic", "long_side"})
MAX_LONG_SIDE = 2048
MAX_SETTINGS = 64
# Numbers beyond these make one stream cost as much as thousands.
MAX_TRACK_AGE, MAX_GALLERY = 10_000, 1_000


class StreamOptions(BaseModel):
    """Model, tracker and thresholds of one stream; what is left out is the server's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: ModelName | None = Field(None, description="Detector by name.")
    tracker: str | None = Field(None, description=f"Tracker preset: {', '.join(PRESETS)}.")
    conf: float | None = Field(None, ge=0, le=1, description="Lowest score of a detection kept.")
    iou: float | None = Field(None, gt=0, le=1, description="Overlap above which the lower score is dropped.")
    max_det: int | None = Field(None, ge=1, le=1000, description="Most detections of a frame.")
    classes: tuple[ClassName, ...] | None = Field(None, max_length=1000, description="Names of the classes to keep.")
    appearance: bool = Field(True, description="Compare objects by their looks.")
    segment: bool = Field(False, description="Segment each frame as well: what each track stands on.")
    segmenter: ModelName | None = Field(None, description="Segmenter by name.")
    settings: dict[str, JsonValue] = Field(
        default_factory=dict,
        max_length=MAX_SETTINGS,
        description="Single settings, such as tracking.max_age or detection.long_side.",
        examples=[{"tracking.max_age": 60}],
    )

    def to_config(self, base: PipelineConfig) -> PipelineConfig:
        """Return ``base`` with these options applied.

        Raises:
            ConfigError: an unknown preset or setting, or a value out of range.
        """
        config = base
        if self.tracker is not None:
            if self.tracker not in PRESETS:
                raise ConfigError(
                    f"tracker must be one of {', '.join(PRESETS)}, got {self.tracker!r}"
                    f"{closest_hint(self.tracker, PRESETS)}; pick one"
                )
            config = replace(config, tracking=PRESETS[self.tracker])
        given = {
            name: value
            for name in ("model", "conf", "iou", "max_det", "classes")
            if (value := getattr(self, name)) is not None
        }
        config = replace(config, detection=replace(config.detection, **given))
        if self.segmenter is not None:
            config = replace(config, segmentation=replace(config.segmentation, model=self.segmenter))
        config = _with_settings(config, self.settings)
        if not self.appearance:
            config = replace(config, tracking=replace(config.tracking, appearance=False))
        _check_costs(config)
        return config

    def canonical(self) -> bytes:
        """Return the options as JSON in one order, for digests."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)


def resolved_options(options: StreamOptions, config: PipelineConfig) -> StreamOptions:
    """Return the options with the names that defaults stand for, so that what began does not change with them."""
    names = {"model": config.detection.model}
    if options.segment:
        names["segmenter"] = config.segmentation.model
    return options.model_copy(update=names)


def _with_settings(config: PipelineConfig, settings: dict[str, JsonValue]) -> PipelineConfig:
    """Return the configuration with settings like ``{"tracking.max_age": 60}`` in place."""
    table = to_dict(config)
    for key, value in settings.items():
        stage, _, name = key.partition(".")
        allowed = table["tracking"].keys() if stage == "tracking" else DETECTION_KEYS if stage == "detection" else ()
        if name not in allowed:
            known = [*(f"tracking.{each}" for each in table["tracking"]), *(f"detection.{n}" for n in DETECTION_KEYS)]
            raise ConfigError(
                f"settings must be those of tracking.* and detection.{{{', '.join(sorted(DETECTION_KEYS))}}}, got "
                f"{key!r}{closest_hint(key, known)}; docs/tracking.md lists them"
            )
        table[stage][name] = value
    changed: dict[str, Any] = {stage: table[stage] for stage in ("tracking", "detection")}
    made = from_dict(PipelineConfig, changed)
    return replace(config, tracking=made.tracking, detection=made.detection)


def _check_costs(config: PipelineConfig) -> None:
    """Raise ConfigError where one stream would take the memory or the time of all."""
    for name, value, limit in (
        ("detection.long_side", config.detection.long_side, MAX_LONG_SIDE),
        ("detection.max_det", config.detection.max_det, 1000),
        ("tracking.max_age", config.tracking.max_age, MAX_TRACK_AGE),
        ("tracking.gallery_size", getattr(config.tracking, "gallery_size", 0), MAX_GALLERY),
    ):
        if value > limit:
            raise ConfigError(f"{name} of a stream must be at most {limit}, got {value}; lower it")
