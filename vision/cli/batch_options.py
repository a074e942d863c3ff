"""The options of ``stride32 batch``, in four groups: the job, its model, this run of it, and Ray."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vision.tracking.config import PRESETS


class TaskName(StrEnum):
    """What a job computes."""

    detect = "detect"
    segment = "segment"
    track = "track"
    embed = "embed"
    classify = "classify"


class FormatName(StrEnum):
    """In what form results are written; the rows in Parquet are there with each of them."""

    parquet = "parquet"
    jsonl = "jsonl"
    coco = "coco"


class EngineName(StrEnum):
    """What runs a job."""

    local = "local"
    ray = "ray"


def _option(panel: str, name: str, text: str, **settings: Any) -> Any:
    return typer.Option(name, help=text, rich_help_panel=panel, **settings)


_JOB, _MODEL, _RUN, _RAY = "The job", "The model", "This run", "With --engine ray"

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Directory, glob, picture, video, list.txt, .csv or .parquet manifest, .tar shards, or an fsspec URL.",
        show_default=False,
    ),
]
Task = Annotated[TaskName, _option(_JOB, "--task", "What is computed.", show_default=False)]
Out = Annotated[str, _option(_JOB, "--out", "Folder or URL of the job.", metavar="DIR", show_default=False)]
Column = Annotated[str, _option(_JOB, "--column", "Path column of a manifest.", metavar="NAME")]
Format = Annotated[FormatName, _option(_JOB, "--format", "Write this beside the rows in Parquet.")]
CocoGt = Annotated[
    Path | None,
    _option(_JOB, "--coco-gt", "Take image ids from here.", metavar="GT.json", show_default="file name's digits"),
]
ShardSize = Annotated[int, _option(_JOB, "--shard-size", "Pictures or frames that share a file.", metavar="N", min=1)]
VideoChunk = Annotated[
    int,
    _option(_JOB, "--video-chunk", "Frames of a video in an item; 0 and --task track take all.", metavar="N", min=0),
]
Batch = Annotated[
    int, _option(_JOB, "--batch", "Pictures in a forward pass.", metavar="N", min=0, show_default="by device")
]
MaxPixels = Annotated[
    int, _option(_JOB, "--max-pixels", "Largest picture or frame, width times height.", metavar="N", min=1)
]

Model = Annotated[
    str | None, _option(_MODEL, "--model", "Name or folder.", metavar="NAME", show_default="the task's default")
]
Weights = Annotated[
    Path | None,
    _option(_MODEL, "--weights", "Checkpoint of a torchvision model.", metavar="FILE", show_default="from the cache"),
]
Conf = Annotated[
    float | None,
    _option(_MODEL, "--conf", "Lowest score of a box kept.", min=0.0, max=1.0, show_default="the model's best F1"),
]
Classes = Annotated[
    str | None, _option(_MODEL, "--classes", "Names of the classes to keep.", metavar="A,B", show_default="all")
]
Tile = Annotated[
    int | None,
    _option(_MODEL, "--tile", "Cut large pictures into tiles of N pixels.", metavar="N", min=0, show_default="off"),
]
Tracker = Annotated[
    str | None,
    _option(
        _MODEL,
        "--tracker",
        f"Named tracker settings: {', '.join(PRESETS)}.",
        metavar="PRESET",
        show_default="deepsort",
    ),
]

Resume = Annotated[bool, _option(_RUN, "--resume", "Go on with the job in DIR.")]
Engine = Annotated[EngineName, _option(_RUN, "--engine", "This machine alone, or Ray.")]
Devices = Annotated[
    str | None,
    _option(
        _RUN,
        "--devices",
        "An inference process each.",
        metavar="cuda:0,cuda:1",
        show_default="what --device says",
    ),
]
Fetchers = Annotated[
    int, _option(_RUN, "--fetchers", "Requests to a store at a time.", metavar="N", min=1, show_default=True)
]
Decoders = Annotated[
    int, _option(_RUN, "--decoders", "Processes that decode.", metavar="N", min=0, show_default="by CPUs and device")
]
ItemTimeout = Annotated[
    float, _option(_RUN, "--item-timeout", "Seconds for a picture, or a frame of a video.", metavar="S")
]
MaxErrors = Annotated[
    int | None,
    _option(_RUN, "--max-errors", "End the run when more items failed.", metavar="N", min=0, show_default="go on"),
]

RayAddress = Annotated[
    str | None,
    _option(_RAY, "--ray-address", "Cluster to use.", metavar="ADDRESS", show_default="start one here"),
]
RayWorkers = Annotated[
    int | None, _option(_RAY, "--ray-workers", "Actors.", metavar="N", min=1, show_default="what fits")
]
RayCpus = Annotated[
    int | None, _option(_RAY, "--ray-cpus", "CPUs of an actor.", metavar="N", min=1, show_default="by node")
]
RayGpus = Annotated[
    float | None, _option(_RAY, "--ray-gpus", "GPUs of an actor.", metavar="X", min=0.0, show_default="0")
]
