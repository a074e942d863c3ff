"""The core of each task: its rows are what the command of the same name finds, whatever the company in the batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from vision.batch.config import BatchConfig, Task
from vision.batch.core import open_core
from vision.batch.facts import Row, Work
from vision.build import build_embedder, build_frame_classifier, build_pipeline, build_segmenter, resolve_config
from vision.config import PipelineConfig
from vision.errors import StateError
from vision.geometry.rle import decode_mask
from vision.io.writers.base import reported_tracks
from vision.runtime.config import RuntimeConfig
from vision.types import Frame

CONFIG = PipelineConfig(runtime=RuntimeConfig(device="cpu", threads=2))


@pytest.fixture(scope="module", autouse=True)
def torch_threads() -> Iterator[None]:
    """Give torch its threads back: a core takes them from the process that it has for itself."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """A photograph of a person, and the same moved from frame to frame."""
    data = pytest.importorskip("skimage.data", reason="needs a photograph of scikit-image")
    picture = np.ascontiguousarray(data.astronaut()[:320, :384])
    return [Frame(np.roll(picture, 3 * index, axis=1), index=index, timestamp_s=index / 10) for index in range(6)]


def rows_of(task: Task, frames: list[Frame], *sizes: int) -> list[Row]:
    """Return the rows of the frames in batches of these sizes."""
    core = open_core(BatchConfig(task=task, pipeline=CONFIG))
    works = [Work(item=frame.index, path="a.mp4", stream=1, frame=frame) for frame in frames]
    rows: list[Row] = []
    for size in sizes:
        rows += core.rows(works[len(rows) : len(rows) + size])
    assert len(rows) == len(frames)
    for row, frame in zip(rows, frames, strict=True):
        assert (row["item"], row["path"], row["frame_index"]) == (frame.index, "a.mp4", frame.index)
        assert (row["timestamp_s"], row["height"], row["width"]) == (frame.timestamp_s, 320, 384)
    return rows


def test_detections_are_those_of_detect(frames: list[Frame]) -> None:
    settings = resolve_config(CONFIG, track=False)
    with closing(build_pipeline(settings, track=False)) as pipeline:
        expected = [pipeline.process(frame).detections for frame in frames]
    assert any(found is not None and len(found) for found in expected)
    for row, found in zip(rows_of("detect", frames, 4, 2), expected, strict=True):
        assert found is not None
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(row[name], getattr(found, name))


def test_tracks_are_those_of_track(frames: list[Frame]) -> None:
    with closing(build_pipeline(resolve_config(CONFIG))) as pipeline:
        expected = [pipeline.process(frame).tracks for frame in frames]
    found = rows_of("track", frames, 1, 3, 2)
    assert len(found[-1]["track_ids"]), "nobody was followed"
    for row, tracks in zip(found, expected, strict=True):
        assert tracks is not None
        reported = reported_tracks(tracks)
        np.testing.assert_array_equal(row["track_ids"], reported.ids)
        np.testing.assert_array_equal(row["boxes"], reported.boxes)


def test_streams_do_not_disturb_each_other_and_can_be_forgotten(frames: list[Frame]) -> None:
    core = open_core(BatchConfig(task="track", pipeline=CONFIG))
    alone = rows_of("track", frames, 6)
    for place, frame in enumerate(frames):
        for stream in (1, 2):
            (row,) = core.rows([Work(0, "a.mp4", stream, frame)])
            np.testing.assert_array_equal(row["boxes"], alone[place]["boxes"])
    core.forget(1)
    (row,) = core.rows([Work(0, "a.mp4", 1, frames[0])])
    np.testing.assert_array_equal(row["boxes"], alone[0]["boxes"])


def test_a_stream_that_failed_is_not_followed_further(frames: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    from vision.pipeline import Pipeline

    core = open_core(BatchConfig(task="track", pipeline=CONFIG))
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "process", lambda self, frame, found: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            core.rows([Work(0, "a.mp4", 1, frames[0])])
    with pytest.raises(StateError, match="a frame before this one failed"):
        core.rows([Work(0, "a.mp4", 1, frames[0])])
    assert core.rows([Work(0, "a.mp4", 2, frames[0])])


def test_masks_are_those_of_segment(frames: list[Frame]) -> None:
    with closing(build_segmenter(CONFIG.segmentation, CONFIG.runtime)) as segmenter:
        expected = segmenter.segment(frames[:2])
    for row, found in zip(rows_of("segment", frames[:2], 2), expected, strict=True):
        assert row["mask_areas"].sum() == 320 * 384
        for label, counts in zip(row["mask_labels"], row["mask_counts"], strict=True):
            mask = decode_mask({"size": [320, 384], "counts": counts})
            np.testing.assert_array_equal(mask, found.labels == label)


def test_classes_and_embeddings_are_those_of_their_commands(frames: list[Frame]) -> None:
    with closing(build_frame_classifier(CONFIG.classification, CONFIG.runtime)) as classifier:
        classes = classifier.classify(frames)
    for row, found in zip(rows_of("classify", frames, 5, 1), classes, strict=True):
        assert row["names"] == found.names
        np.testing.assert_allclose(row["scores"], found.scores, atol=1e-6)
    embedder = build_embedder(CONFIG.embedding, CONFIG.runtime)
    assert embedder is not None
    with closing(embedder):
        vectors = embedder.embed_crops([frame.image for frame in frames])
    np.testing.assert_allclose([row["embedding"] for row in rows_of("embed", frames, 2, 4)], vectors, atol=1e-6)


def test_facts_name_models_classes_and_the_thresholds_that_hold() -> None:
    facts = open_core(BatchConfig(task="track", pipeline=CONFIG)).facts
    assert facts.class_names == ("person",)
    assert {stage: model["name"] for stage, model in facts.models.items()} == {
        "detection": "person-lite0",
        "embedding": "reid-lite",
    }
    assert all(len(model["sha256"]) == 64 for model in facts.models.values())
    assert isinstance(facts.config.pipeline.detection.conf, float)
    assert facts.config.pipeline.runtime == CONFIG.runtime, "the job's identity has the device as it was asked for"
    without = replace(CONFIG, tracking=replace(CONFIG.tracking, appearance=False))
    assert list(open_core(BatchConfig(task="track", pipeline=without)).facts.models) == ["detection"]


def test_a_gpu_takes_one_batch_at_a_time_and_so_does_torch() -> None:
    torchs = replace(CONFIG, runtime=RuntimeConfig(device="cpu", engine="torch"))
    assert open_core(BatchConfig(task="detect", pipeline=torchs)).facts.parallel == 1
    assert open_core(BatchConfig(task="detect", pipeline=CONFIG)).facts.parallel == 2
    assert open_core(BatchConfig(task="detect", pipeline=CONFIG), threads=1).facts.parallel == 1


def test_embeddings_that_are_no_numbers_are_refused(frames: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    from vision.reid.embedder import Embedder

    core = open_core(BatchConfig(task="embed", pipeline=CONFIG))
    monkeypatch.setattr(Embedder, "embed_crops", lambda self, crops: np.full((len(crops), 128), np.nan, np.float32))
    with pytest.raises(ValueError, match="must be finite"):
        core.rows([Work(0, "a.png", 1, frames[0])])
