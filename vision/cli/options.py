"""The options that several commands share, and the pipeline configuration that they add up to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision.detection.config import DetectorConfig
from vision.errors import ConfigError, closest_hint
from vision.segmentation.config import SegmenterConfig

if TYPE_CHECKING:
    from vision.config import PipelineConfig
    from vision.tracking.config import TrackerConfig

SOURCE_HELP = "Image, directory, glob, list.txt, video, camera index, rtsp:// address or - for stdin."

Source = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP, show_default=False)]
Device = Annotated[
    str | None, typer.Option("--device", metavar="auto|cpu|cuda:0", help="Where the networks run.", show_default="auto")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings of each stage.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as tracking.max_age=40.", show_default=False),
]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the effective settings as TOML and exit.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
MaxFrames = Annotated[
    int | None, typer.Option("--max-frames", metavar="N", min=1, help="Stop after N frames.", show_default="all")
]
Jsonl = Annotated[
    Path | None,
    typer.Option("--jsonl", metavar="FILE", help="One JSON object a frame; - for stdout.", show_default=False),
]
Csv = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE.csv", help="One row an object and frame.", show_default=False),
]
SaveVideo = Annotated[
    Path | None, typer.Option("--save-video", metavar="FILE.mp4", help="Annotated H.264 video.", show_default=False)
]
SaveImages = Annotated[
    Path | None,
    typer.Option("--save-images", metavar="DIR", help="Annotated pictures, named as the input.", show_default=False),
]
Conf = Annotated[
    float | None,
    typer.Option(
        "--conf", min=0.0, max=1.0, help="Lowest score of a detection kept.", show_default="the model's best F1"
    ),
]
Iou = Annotated[
    float | None,
    typer.Option(
        "--iou", min=0.0, max=1.0, help="NMS drops a box that overlaps a better one more.", show_default="0.5"
    ),
]
MaxDet = Annotated[
    int | None,
    typer.Option(
        "--max-det", metavar="N", min=1, help="Most objects in a frame.", show_default=str(DetectorConfig().max_det)
    ),
]
AgnosticNms = Annotated[
    bool | None,
    typer.Option("--agnostic-nms/--per-class-nms", help="NMS across classes, or in each.", show_default="per class"),
]
DetectorModel = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="Detector: name or folder.", show_default=DetectorConfig().model),
]
WINDOW_MODEL = "person-window"
Window = Annotated[
    bool, typer.Option("--window", help=f"Slide a window over an image pyramid: short for --model {WINDOW_MODEL}.")
]
DetectorWeights = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="FILE", help="Checkpoint of a torchvision detector.", show_default="from the cache"
    ),
]
Classes = Annotated[
    str | None,
    typer.Option("--classes", metavar="A,B", help="Names of the classes to keep.", show_default="all"),
]
Tile = Annotated[
    int | None,
    typer.Option("--tile", metavar="N", min=0, help="Search in tiles of N pixels: small objects.", show_default="off"),
]
Overlap = Annotated[
    float | None,
    typer.Option(
        "--overlap",
        min=0.0,
        max=0.9,
        help="Share of a tile its neighbour sees.",
        show_default=str(DetectorConfig().overlap),
    ),
]

SegmenterWeights = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="FILE", help="Checkpoint of a torchvision segmenter.", show_default="from the cache"
    ),
]
SegmenterTile = Annotated[
    int | None,
    typer.Option("--tile", metavar="N", min=0, help="Cut large pictures into tiles of N pixels.", show_default="off"),
]
SegmenterOverlap = Annotated[
    float | None,
    typer.Option(
        "--overlap",
        min=0.0,
        max=0.9,
        help="Share of a tile its neighbour sees.",
        show_default=str(SegmenterConfig().tile_overlap),
    ),
]


def segmenter_overrides(**fields: str | float | Path | None) -> list[str]:
    """Return options named as fields of ``SegmenterConfig`` as overrides; None is an option that was not given."""
    return _stage_overrides("segmentation", fields)


def _stage_overrides(stage: str, fields: Mapping[str, str | float | Path | None]) -> list[str]:
    return [
        # JSON writes texts, numbers and truths as TOML does.
        f"{stage}.{name}={json.dumps(str(value) if isinstance(value, Path) else value)}"
        for name, value in fields.items()
        if value is not None
    ]


def pipeline_config(
    file: Path | None,
    overrides: list[str] | None,
    *,
    device: str | None = None,
    tracker: str | None = None,
    appearance: bool = True,
    window: bool = False,
    **detection: str | float | Path | None,
) -> PipelineConfig:
    """Return the effective settings: defaults, then ``file``, then the options given, then ``--set``.

    ``--tracker`` replaces the whole tracking table of the file: half a preset would be neither. ``detection`` holds the
    options named as fields of ``DetectorConfig``; None is an option that was not given.
    """
    from vision.config import PipelineConfig, apply_overrides, load_config

    config = load_config(file, PipelineConfig)
    if tracker is not None:
        config = replace(config, tracking=tracker_preset(tracker))
    if window:
        if detection.get("model") not in (None, WINDOW_MODEL):
            raise ConfigError(
                f"--window chooses the detector {WINDOW_MODEL}, got --model {detection['model']} as well; leave one out"
            )
        detection["model"] = WINDOW_MODEL
    given: list[str] = []
    if device is not None:
        given.append(f'runtime.device="{device}"')
    given += _stage_overrides("detection", detection)
    if not appearance:
        given += ["embedding.model=none", "tracking.appearance=false"]
    return apply_overrides(config, [*given, *(overrides or [])])


def tracker_preset(name: str) -> TrackerConfig:
    """Return the tracker settings called ``name``."""
    from vision.tracking.config import PRESETS

    if name not in PRESETS:
        listing = ", ".join(PRESETS)
        raise ConfigError(
            f"--tracker must be one of {listing}, got {name!r}{closest_hint(name, PRESETS)}; pick one",
            expected=listing,
            actual=name,
        )
    return PRESETS[name]
