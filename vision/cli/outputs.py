"""The output files of a command: planned and refused before any model loads, opened together, closed together."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vision.cli.frames import Writer
from vision.errors import ConfigError, OutputExistsError

if TYPE_CHECKING:
    from vision.config import PipelineConfig
    from vision.types import Frame, FrameResult

STDOUT = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """Which files a run writes; None is not wanted.

    Attributes:
        mot, coco, video, embeddings: files.
        jsonl: a file, or "-" for stdout.
        images: a folder of annotated pictures.
        sheet: picture with a few annotated frames of the whole run.
        config: file that records the effective settings, written at the end.
        coco_gt: COCO annotations that give the image ids of ``coco``.
        overwrite: replace what exists.
    """

    mot: Path | None = None
    jsonl: Path | None = None
    coco: Path | None = None
    video: Path | None = None
    images: Path | None = None
    embeddings: Path | None = None
    sheet: Path | None = None
    config: Path | None = None
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
        )

    def or_stdout(self) -> OutputPlan:
        """Return the plan, with JSON lines on stdout when nothing else is wanted and no terminal would show them."""
        return self if self.paths() or sys.stdout.isatty() else replace(self, jsonl=STDOUT)

    def paths(self) -> list[Path]:
        """Return every planned output, stdout included."""
        named = (self.mot, self.jsonl, self.coco, self.video, self.images, self.embeddings, self.sheet, self.config)
        return [path for path in named if path is not None]

    def refuse_existing(self, source: str | None = None) -> None:
        """Raise OutputExistsError if an output exists and may not be replaced, ConfigError if two outputs are one file.

        The source itself is never replaced, whatever the options say.
        """
        files = [path for path in self.paths() if path != STDOUT]
        doubled = {path for path in files if files.count(path) > 1}
        if doubled:
            raise ConfigError(f"each output needs a file of its own, got {doubled.pop()} twice; give different paths")
        for path in files:
            if source is not None and path.exists() and Path(source).exists() and path.samefile(source):
                raise ConfigError(f"the output {path} is the source itself; give another path", path=path)
            taken = any(path.iterdir()) if path.is_dir() and path == self.images else path.exists()
            if taken and (not self.overwrite or (path.is_dir() and path != self.images)):
                raise OutputExistsError(
                    f"{path} exists already; pass --overwrite to replace it, or give another path",
                    expected="a new path",
                    actual=str(path),
                    path=path,
                )

    @contextmanager
    def open(
        self, *, fps: float | None = None, class_names: Sequence[str] = (), frame_count: int | None = None
    ) -> Iterator[list[Writer]]:
        """Open the writers; on leaving they are closed, which gives the files their final names."""
        from vision.io import writers

        with ExitStack() as stack:
            opened: list[Writer] = []
            if self.mot is not None:
                opened.append(stack.enter_context(writers.MotWriter(self.mot, overwrite=self.overwrite)))
            if self.jsonl == STDOUT:
                opened.append(StdoutJsonl())
            elif self.jsonl is not None:
                opened.append(stack.enter_context(writers.JsonlWriter(self.jsonl, overwrite=self.overwrite)))
            yield opened

    def record(self, settings: PipelineConfig) -> None:
        """Write the effective settings beside the outputs, where the plan has a place for them."""
        from vision.config import to_toml

        if self.config is not None:
            self.config.parent.mkdir(parents=True, exist_ok=True)
            self.config.write_text(to_toml(settings), encoding="utf-8")


class StdoutJsonl:
    """Writes one JSON object a frame to stdout, flushed each time so that a reader at the pipe follows the stream."""

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Write one line."""
        import orjson

        sys.stdout.buffer.write(orjson.dumps(result.to_dict()) + b"\n")
        sys.stdout.buffer.flush()
