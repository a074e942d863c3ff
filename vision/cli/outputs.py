"""The output files of a command: planned and refused before any model loads, opened together, closed together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vision.cli.counts import CountPlan, overlay_of
from vision.errors import ConfigError, OutputExistsError

if TYPE_CHECKING:
    from vision.config import PipelineConfig
    from vision.io.writers.base import Writer
    from vision.render import Annotator
    from vision.types import Frame, ImageArray

STDOUT = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What writers need to know about a run before its first frame.

    Attributes:
        settings: the effective configuration, recorded in the outputs.
        source: SOURCE as the user gave it.
        class_names: name of each label; empty for a classifier that measures a value.
        classifies: whether the results are classifications of whole frames.
        segments: whether the labels are those of a segmenter.
        map_names: name of each label of the segmentation, where the labels are another stage's.
        heat: draws the pictures of the plan's ``heat``.
        fps: frames a second of the source, or None.
        relative_name: output name of a frame, as the source gives it.
    """

    settings: PipelineConfig
    source: str
    class_names: tuple[str, ...] = ()
    fps: float | None = None
    relative_name: Callable[[Frame], str] | None = None
    classifies: bool = False
    segments: bool = False
    map_names: tuple[str, ...] = ()
    heat: Annotator | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """Which files a run writes; None is not wanted.

    Attributes:
        mot, coco, csv, parquet, coco_video, video, embeddings: files.
        jsonl: a file, or "-" for stdout.
        images: a folder of annotated pictures. masks: a folder of index masks. heat: a folder of heat maps.
        sheet: picture with a few annotated frames of the whole run.
        config: file that records the effective settings, written at the end.
        counting: counters of lines and zones, and maps of where tracks were.
        coco_gt: COCO annotations that give the image ids of ``coco``.
        overwrite: replace what exists.
    """

    mot: Path | None = None
    jsonl: Path | None = None
    coco: Path | None = None
    csv: Path | None = None
    parquet: Path | None = None
    coco_video: Path | None = None
    video: Path | None = None
    images: Path | None = None
    masks: Path | None = None
    heat: Path | None = None
    embeddings: Path | None = None
    sheet: Path | None = None
    config: Path | None = None
    counting: CountPlan = field(default_factory=CountPlan)
    coco_gt: Path | None = None
    overwrite: bool = False

    def with_folder(self, folder: Path, *, tracks: bool = True, video: bool = True) -> OutputPlan:
        """Return the plan with every output that has no path yet placed in ``folder``."""
        return replace(
            self,
            mot=self.mot or (folder / "tracks.txt" if tracks else None),
            jsonl=self.jsonl or folder / "results.jsonl",
            video=self.video or (folder / "annotated.mp4" if video else None),
            config=self.config or folder / "config.toml",
            counting=self.counting.with_folder(folder),
        )

    def or_stdout(self) -> OutputPlan:
        """Return the plan, with JSON lines on stdout when nothing else is wanted and no terminal would show them."""
        return self if self.paths() or self.counting or sys.stdout.isatty() else replace(self, jsonl=STDOUT)

    def paths(self) -> list[Path]:
        """Return every planned output, stdout included."""
        named = (
            self.mot,
            self.jsonl,
            self.coco,
            self.csv,
            self.parquet,
            self.coco_video,
            self.video,
            self.images,
            self.masks,
            self.heat,
            self.embeddings,
            self.sheet,
            self.config,
        )
        return [*(path for path in named if path is not None), *self.counting.paths()]

    def refuse_existing(self, source: str | None = None) -> None:
        """Raise OutputExistsError if an output exists and may not be replaced, ConfigError if two outputs are one file.

        The source itself is never replaced, whatever the options say. A package that an output needs is asked for here
        too, before a model loads: MissingDependencyError.
        """
        if self.parquet is not None:
            from vision.io.writers.parquet import require_pyarrow

            require_pyarrow()
        files = [path for path in self.paths() if path != STDOUT]
        doubled = {path for path in files if files.count(path) > 1}
        if doubled:
            raise ConfigError(f"each output needs a file of its own, got {doubled.pop()} twice; give different paths")
        for path in files:
            if source is not None and path.exists() and Path(source).exists() and path.samefile(source):
                raise ConfigError(f"the output {path} is the source itself; give another path", path=path)
            is_folder = path.is_dir() and path in (self.images, self.masks, self.heat)
            taken = any(path.iterdir()) if is_folder else path.exists()
            if taken and (not self.overwrite or (path.is_dir() and not is_folder)):
                raise OutputExistsError(
                    f"{path} exists already; pass --overwrite to replace it, or give another path",
                    expected="a new path",
                    actual=str(path),
                    path=path,
                )

    @contextmanager
    def open(self, run: RunFacts) -> Iterator[list[Writer]]:
        """Open the writers; on leaving they are closed, which gives the files their final names."""
        with ExitStack() as stack:
            max_gap = run.settings.tracking.max_age
            counted = self.counting.build(run.class_names, max_gap, run.source, self.overwrite)
            writers = [stack.enter_context(writer) for writer in counted]
            overlay = overlay_of(writers) if writers else None
            writers += [stack.enter_context(writer) for writer in self._build(run, overlay)]
            yield writers

    def _build(self, run: RunFacts, overlay: Callable[[ImageArray], None] | None) -> Iterator[Writer]:
        """Yield a writer for each output; their imports stay here, for a MOT file needs no drawing."""
        if self.mot is not None:
            from vision.io.writers.mot import MotWriter

            yield MotWriter(self.mot, overwrite=self.overwrite)
        if self.jsonl is not None:
            from vision.config import to_dict
            from vision.io.writers.jsonl import JsonlWriter

            yield JsonlWriter(
                self.jsonl,
                class_names=run.class_names,
                config=to_dict(run.settings),
                source=run.source,
                # Beside tracks, what the map says of each of them is wanted; the map itself is for --masks.
                segmentation=run.segments,
                overwrite=self.overwrite,
            )
        if self.masks is not None:
            from vision.io.writers.masks import MasksWriter
            from vision.palette import mask_palette

            names = run.map_names or run.class_names
            yield MasksWriter(
                self.masks,
                class_names=names,
                palette=mask_palette(names),
                relative_name=run.relative_name,
                overwrite=self.overwrite,
            )
        if self.heat is not None:
            from vision.io.writers.images import ImagesWriter

            yield ImagesWriter(self.heat, relative_name=run.relative_name, annotator=run.heat, overwrite=self.overwrite)
        if self.csv is not None:
            from vision.cli.csv_output import build_csv

            yield build_csv(self.csv, run, overwrite=self.overwrite)
        if self.parquet is not None:
            from vision.io.writers.parquet import ParquetWriter

            yield ParquetWriter(
                self.parquet, class_names=run.class_names, fps=run.fps, source=run.source, overwrite=self.overwrite
            )
        if self.coco_video is not None:
            from vision.io.writers.coco_video import CocoVideoWriter

            yield CocoVideoWriter(
                self.coco_video, class_names=run.class_names, fps=run.fps, source=run.source, overwrite=self.overwrite
            )
        if self.coco is not None:
            from vision.cli.coco_output import build_coco

            yield build_coco(self.coco, self.coco_gt, run, overwrite=self.overwrite)
        if self.video is not None or self.images is not None or self.sheet is not None:
            yield from self._build_drawn(run, overlay)

    def _build_drawn(self, run: RunFacts, overlay: Callable[[ImageArray], None] | None) -> Iterator[Writer]:
        """Yield the writers of annotated pictures, which share one drawing of each frame."""
        from vision.cli.sheet import SharedAnnotator, SheetWriter
        from vision.io.writers.images import ImagesWriter
        from vision.io.writers.video import VideoWriter

        annotator = SharedAnnotator(run.class_names, overlay=overlay)
        if self.video is not None:
            yield VideoWriter(self.video, fps=run.fps, annotator=annotator, overwrite=self.overwrite)
        if self.images is not None:
            yield ImagesWriter(
                self.images, relative_name=run.relative_name, annotator=annotator, overwrite=self.overwrite
            )
        if self.sheet is not None:
            yield SheetWriter(self.sheet, annotator, overwrite=self.overwrite)

    def record(self, settings: PipelineConfig) -> None:
        """Write the effective settings beside the outputs, where the plan has a place for them."""
        from vision.config import to_toml

        if self.config is not None:
            self.config.parent.mkdir(parents=True, exist_ok=True)
            self.config.write_text(to_toml(settings), encoding="utf-8")
