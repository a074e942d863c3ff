"""The frame loop, its summary, the progress lines and the plan of outputs, without a model."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vision.cli.frames import GracefulStop, RunSummary, report_run, write_frames
from vision.cli.outputs import OutputPlan
from vision.cli.progress import Progress
from vision.cli.sheet import SharedAnnotator, SheetWriter
from vision.errors import ConfigError, OutputExistsError
from vision.io.writers.base import Writer
from vision.types import Classification, Detections, Frame, FrameResult, ImageArray, Tracks, TrackState


def result(index: int, ids: tuple[int, ...] = ()) -> FrameResult:
    boxes = np.tile(np.float32([0, 0, 5, 9]), (len(ids), 1))
    ones = np.ones(len(ids), np.int64)
    confirmed = np.full(len(ids), TrackState.CONFIRMED)
    tracks = Tracks(
        boxes, np.array(ids, np.int64), np.ones(len(ids), np.float32), ones, confirmed, ones, ones * 0, ones
    )
    detections = Detections(boxes, np.ones(len(ids), np.float32), ones)
    return FrameResult(frame_index=index, detections=detections, tracks=tracks)


class Recorder(Writer):
    def __init__(self) -> None:
        self.indices: list[int] = []

    def write(self, frame: Any, result: FrameResult) -> None:
        self.indices.append(result.frame_index)

    def close(self) -> None: ...

    def abort(self) -> None: ...


def test_write_frames_counts_tracks_and_detections() -> None:
    recorder = Recorder()
    results = iter([(None, result(0, (1,))), (None, result(1, (1, 2))), (None, result(2))])
    summary = write_frames(results, [recorder], "track", 3)
    assert recorder.indices == [0, 1, 2]
    assert (summary.frames, summary.detections, dict(summary.track_lengths)) == (3, 3, {1: 2, 2: 1})
    assert not summary.interrupted
    assert "2 tracks (longest 2 frames)" in summary.line()


def test_ctrl_c_ends_after_the_frame_and_closes_the_generator() -> None:
    closed = []

    def endless() -> Iterator[tuple[None, FrameResult]]:
        try:
            for index in range(1000):
                if index == 2:
                    os.kill(os.getpid(), signal.SIGINT)
                yield None, result(index)
        finally:
            closed.append(True)

    before = signal.getsignal(signal.SIGINT)
    recorder = Recorder()
    summary = write_frames(endless(), [recorder], "track", None)
    assert summary.interrupted
    assert recorder.indices == [0, 1, 2]
    assert closed == [True]
    assert signal.getsignal(signal.SIGINT) is before
    assert report_run(summary) == 130


def test_the_second_ctrl_c_breaks_at_once() -> None:
    with GracefulStop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_error_in_the_stream_restores_the_handler() -> None:
    def broken() -> Iterator[tuple[None, FrameResult]]:
        yield None, result(0)
        raise ConfigError("broken")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ConfigError):
        write_frames(broken(), [], "track", None)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("summary", "failed", "code"),
    [
        (RunSummary(frames=3), 0, 0),
        (RunSummary(), 0, 0),
        (RunSummary(frames=3), 1, 3),
        (RunSummary(), 2, 1),
        (RunSummary(frames=3, interrupted=True), 1, 130),
    ],
)
def test_report_run_exit_codes(summary: RunSummary, failed: int, code: int) -> None:
    assert report_run(summary, failed) == code


def test_progress_lines_when_stderr_is_no_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("vision.cli.progress.time.perf_counter", lambda: now[0])
    with Progress("detect", 40) as progress:
        for _ in range(20):
            now[0] += 0.5
            progress.advance()
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        "detect: 10/40 frames, 2.0 frames/s, 15 s left",
        "detect: 20/40 frames, 2.0 frames/s, 10 s left",
    ]
    assert progress.seconds == 10.0
    progress.total = None
    assert progress.line() == "detect: 20 frames, 2.0 frames/s"


def test_the_plan_of_a_folder_keeps_paths_that_were_given() -> None:
    plan = OutputPlan(mot=Path("mine.txt")).with_folder(Path("run"))
    assert plan.paths() == [
        Path("mine.txt"),
        Path("run/results.jsonl"),
        Path("run/annotated.mp4"),
        Path("run/config.toml"),
    ]


def test_the_plan_refuses_what_exists(tmp_path: Path) -> None:
    taken = tmp_path / "taken.txt"
    taken.write_text("x")
    with pytest.raises(OutputExistsError, match="exists already"):
        OutputPlan(mot=taken).refuse_existing()
    OutputPlan(mot=taken, overwrite=True).refuse_existing()
    with pytest.raises(ConfigError, match="a file of its own"):
        OutputPlan(mot=taken, jsonl=taken, overwrite=True).refuse_existing()
    with pytest.raises(ConfigError, match="the source itself"):
        OutputPlan(mot=taken, overwrite=True).refuse_existing(str(taken))
    with pytest.raises(OutputExistsError):
        OutputPlan(mot=tmp_path, overwrite=True).refuse_existing()  # a folder where a file should go


def test_the_plan_accepts_an_empty_picture_folder(tmp_path: Path) -> None:
    OutputPlan(images=tmp_path).refuse_existing()
    (tmp_path / "old.png").write_bytes(b"x")
    with pytest.raises(OutputExistsError):
        OutputPlan(images=tmp_path).refuse_existing()
    OutputPlan(images=tmp_path, overwrite=True).refuse_existing()


@pytest.mark.parametrize("frames", [1, 5, 12, 100])
def test_the_sheet_holds_a_few_frames_of_any_run(frames: int, tmp_path: Path) -> None:
    drawn: list[int] = []

    class Counting(SharedAnnotator):
        def _draw_tracks(self, picture: ImageArray, tracks: Tracks) -> None:
            drawn.append(len(tracks))

    annotator = Counting()
    with SheetWriter(tmp_path / "sheet.png", annotator, tiles=6) as writer:
        for index in range(frames):
            frame = Frame(np.full((30, 40, 3), index, np.uint8), index=index, timestamp_s=index / 10)
            annotator.draw(frame, result(index))
            writer.write(frame, result(index))
    assert len(drawn) == frames
    with Image.open(tmp_path / "sheet.png") as sheet:
        width, height = sheet.size
    assert width >= 320 * min(frames, 4)
    assert (height > 400) == (frames > 4)


def test_a_sheet_without_frames_is_not_written(tmp_path: Path) -> None:
    with SheetWriter(tmp_path / "sheet.png", SharedAnnotator()):
        pass
    assert not list(tmp_path.iterdir())


def test_the_sheet_prefers_the_busiest_frame_of_each_part(tmp_path: Path) -> None:
    found = Detections(np.float32([[5, 5, 20, 20]]), np.float32([0.9]), np.int64([0]))
    with SheetWriter(tmp_path / "sheet.png", SharedAnnotator(), tiles=2) as writer:
        for index in range(20):
            shade = 255 if index in (7, 17) else 0
            frame = Frame(np.full((30, 40, 3), shade, np.uint8), index=index, timestamp_s=float(index))
            busy = Detections.empty() if not shade else found
            writer.write(frame, FrameResult(index, detections=busy))
    with Image.open(tmp_path / "sheet.png") as sheet:
        picture = np.asarray(sheet.convert("L"))
    tiles = picture[40:200, 100:220].mean(), picture[40:200, 420:540].mean()
    assert min(tiles) > 150, "both bright frames, one in each half, must be shown"


def test_a_run_of_classifications_is_summed_up_by_class() -> None:
    summary = RunSummary(seconds=1.0)
    for index, names in enumerate((("cat", "dog"), ("dog", "cat"), ("cat", "dog"))):
        found = Classification(np.array([0, 1]), np.array([0.9, 0.1], np.float32), names, assigned=1)
        summary.add(FrameResult(index, classification=found))
    assert summary.line().endswith("cat 2, dog 1")
    measured = RunSummary(seconds=1.0)
    measured.add(FrameResult(0, classification=Classification(np.zeros(0), np.zeros(0), value=1.0)))
    assert measured.line().endswith("classified")
