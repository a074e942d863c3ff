"""``stride32 track``: objects followed through a video, or existing detections associated without pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision.cli import counts as counting
from vision.cli import offline as offline_tracks
from vision.cli import options
from vision.cli.camera import report_camera, warn_without_pictures
from vision.tracking.config import PRESETS

if TYPE_CHECKING:
    from vision.cli.outputs import OutputPlan
    from vision.config import PipelineConfig
    from vision.pipeline import Pipeline
    from vision.types import Detections, Frame, FrameResult

Tracker = Annotated[
    str | None,
    typer.Option(
        "--tracker", metavar="PRESET", help=f"Named tracker settings: {', '.join(PRESETS)}.", show_default="deepsort"
    ),
]
Mot = Annotated[Path | None, typer.Option("--mot", metavar="FILE.txt", help="MOTChallenge rows.", show_default=False)]
Parquet = Annotated[
    Path | None,
    typer.Option(
        "--parquet",
        metavar="FILE.parquet",
        help="The rows of --csv, typed, for data frames and SQL.",
        show_default=False,
    ),
]
CocoVideo = Annotated[
    Path | None,
    typer.Option(
        "--coco-video", metavar="FILE.json", help="COCO-video annotations with track ids.", show_default=False
    ),
]
DetectionsFile = Annotated[
    Path | None,
    typer.Option(
        "--detections",
        metavar="DET.txt",
        help="MOTChallenge detections to use in place of the detector; SOURCE is then optional.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Write tracks.txt, results.jsonl and annotated.mp4.", show_default=False),
]

Sources = Annotated[
    list[str] | None,
    typer.Argument(metavar="SOURCE", help=f"{options.SOURCE_HELP} Several need --out.", show_default=False),
]

# A detection file names no classes.
UNNAMED = ("object",)


def track(
    sources: Sources = None,
    tracker: Tracker = None,
    mot: Mot = None,
    jsonl: options.Jsonl = None,
    csv: options.Csv = None,
    parquet: Parquet = None,
    coco_video: CocoVideo = None,
    save_video: options.SaveVideo = None,
    detections: DetectionsFile = None,
    offline: offline_tracks.Offline = False,
    out: Out = None,
    count: counting.Count = None,
    events: counting.Events = None,
    counts: counting.Counts = None,
    heatmap: counting.HeatmapFile = None,
    trajectories: counting.TrajectoriesFile = None,
    appearance: Annotated[
        bool, typer.Option("--appearance/--no-appearance", help="Compare objects by their looks.")
    ] = True,
    segment: Annotated[
        bool, typer.Option("--segment", help="Segment as well: each track's pixels, and what it stands on.")
    ] = False,
    masks: Annotated[
        Path | None,
        typer.Option("--masks", metavar="DIR", help="Index masks of --segment as PNG.", show_default=False),
    ] = None,
    model: options.DetectorModel = None,
    window: options.Window = False,
    weights: options.DetectorWeights = None,
    conf: options.Conf = None,
    iou: options.Iou = None,
    max_det: options.MaxDet = None,
    classes: options.Classes = None,
    agnostic_nms: options.AgnosticNms = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    device: options.Device = None,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    overwrite: options.Overwrite = False,
    max_frames: options.MaxFrames = None,
) -> int:
    """Follow the objects of a video; without an output option, JSON lines go to stdout unless it is a terminal."""
    from vision.config import to_toml

    settings = options.pipeline_config(
        config,
        overrides,
        device=device,
        tracker=tracker,
        appearance=appearance,
        model=model,
        window=window,
        weights=weights,
        conf=conf,
        iou=iou,
        max_det=max_det,
        classes=classes,
        class_agnostic=agnostic_nms,
        tile=tile,
        overlap=overlap,
    )
    if print_config:
        typer.echo(to_toml(settings), nl=False)
        return 0
    several, source = len(sources or ()) > 1, sources[0] if sources else None
    if source is None and detections is None:
        raise typer.BadParameter("give a SOURCE (a video, a directory...), or --detections DET.txt")
    if source is None and save_video is not None:
        raise typer.BadParameter("--save-video needs a SOURCE to draw on; --detections holds no pictures")
    if source is None and (heatmap is not None or trajectories is not None):
        raise typer.BadParameter("--heatmap and --trajectories need a SOURCE to draw on; see stride32 tracks plot")
    _check_segmentation(source, several=several, segment=segment, masks=masks, offline=offline)
    if offline and source is not None:
        offline_tracks.refuse_live(source)
    from vision.cli.outputs import OutputPlan

    plan = OutputPlan(
        mot=mot,
        jsonl=jsonl,
        csv=csv,
        parquet=parquet,
        coco_video=coco_video,
        video=save_video,
        masks=masks,
        counting=counting.plan_counts(count, events, counts, heatmap, trajectories),
        overwrite=overwrite,
    )
    if several:
        from vision.cli import streams

        streams.refuse_single_outputs(plan, detections, out, offline=offline)
        assert sources is not None
        assert out is not None
        return streams.track_streams(sources, settings, out, overwrite=overwrite, max_frames=max_frames)
    if out is not None:
        plan = plan.with_folder(out, video=source is not None)
    plan = plan.or_stdout()
    plan.refuse_existing(source)
    if source is None:
        assert detections is not None
        return _associate(detections, settings, plan, max_frames, offline=offline)
    return _track_source(source, detections, settings, plan, max_frames, offline=offline, segment=segment)


def _check_segmentation(source: str | None, *, several: bool, segment: bool, masks: Path | None, offline: bool) -> None:
    """Raise BadParameter where --segment has nothing to work on, or something needs it."""
    if masks is not None and not segment:
        raise typer.BadParameter("--masks needs --segment; without it only boxes are computed")
    if segment and (source is None or several):
        raise typer.BadParameter("--segment needs one SOURCE with pictures; run several one by one")
    if segment and offline:
        raise typer.BadParameter(
            "--segment says what is under a track when its frame is there, --offline moves tracks afterwards; leave "
            "one of them out"
        )


def _associate(
    detections: Path, settings: PipelineConfig, plan: OutputPlan, max_frames: int | None, *, offline: bool
) -> int:
    """Run the tracker alone over the frames of a detection file."""
    from vision.cli.frames import report_run
    from vision.cli.outputs import STDOUT, RunFacts
    from vision.io.writers.mot import read_mot
    from vision.tracking.tracker import Tracker
    from vision.types import Detections, FrameResult

    warn_without_pictures(settings)
    by_frame = read_mot(detections)
    total = max(by_frame, default=-1) + 1
    total = total if max_frames is None else min(total, max_frames)
    tracker = Tracker(settings.tracking)

    def results() -> Iterator[tuple[None, FrameResult]]:
        for index in range(total):
            found = by_frame.get(index, Detections.empty())
            tracks = tracker.update(found, frame_index=index)
            yield None, FrameResult(frame_index=index, source=detections.name, detections=found, tracks=tracks)

    facts = RunFacts(settings=settings, source=str(detections))
    summary, writers = offline_tracks.write_run(results(), plan, facts, total, offline=offline)
    plan.record(settings)
    counting.print_counts(writers, to_stderr=plan.jsonl == STDOUT)
    return report_run(summary)


def _track_source(
    source: str,
    detections: Path | None,
    settings: PipelineConfig,
    plan: OutputPlan,
    max_frames: int | None,
    *,
    offline: bool,
    segment: bool,
) -> int:
    """Run the pipeline over the frames of a source, with the detector's or the file's detections."""
    from vision.cli.frames import expected_frames, report_run
    from vision.cli.outputs import STDOUT, RunFacts
    from vision.io.sources import open_source
    from vision.io.writers.mot import read_mot

    by_frame = None if detections is None else read_mot(detections)
    with open_source(source) as opened:
        from vision.build import build_pipeline, resolve_config

        settings = settings if by_frame is not None else resolve_config(settings)
        total = expected_frames(opened, max_frames)
        with closing(build_pipeline(settings, detect=by_frame is None, segment=segment)) as pipeline:
            frames = islice(opened, max_frames)
            results = pipeline.run(frames) if by_frame is None else _with_detections(pipeline, frames, by_frame)
            facts = RunFacts(
                settings=settings,
                source=source,
                class_names=pipeline.object_names or UNNAMED,
                map_names=pipeline.map_names,
                fps=opened.fps,
                relative_name=opened.relative_name,
            )
            summary, writers = offline_tracks.write_run(
                results, plan, facts, total, offline=offline, pictures=source, max_frames=max_frames
            )
            if settings.tracking.camera_motion != "none":
                report_camera(pipeline.camera)
        plan.record(settings)
        counting.print_counts(writers, to_stderr=plan.jsonl == STDOUT)
        return report_run(summary, len(opened.errors))


def _with_detections(
    pipeline: Pipeline, frames: Iterable[Frame], by_frame: Mapping[int, Detections]
) -> Iterator[tuple[Frame, FrameResult]]:
    from vision.types import Detections

    for frame in frames:
        yield frame, pipeline.process(frame, by_frame.get(frame.index, Detections.empty()))
