"""Stand-ins for video jobs: small videos of moving blobs, a detector that finds them, and a server in a process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from service.jobs.record import JobState
from service.jobs.service import JobService
from service.settings import Settings
from service.stream_options import StreamOptions
from service.work import Priority
from vision.config import PipelineConfig
from vision.pipeline import Pipeline
from vision.tracking.camera_motion import CameraMotion
from vision.tracking.tracker import Tracker
from vision.types import Detections, Frame, SegmentationMap

SIZE_HW = (96, 128)
PATIENCE_S = 60.0


def write_video(path: Path, frames: int = 40, *, fps: int = 25, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    """Write an MP4 of three bright blobs that move over a dark, textured ground."""
    rng = np.random.default_rng(4)
    ground = rng.integers(0, 60, (*size_hw, 3), np.uint8)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"bf": "0", "g": "10", "preset": "ultrafast"})
        stream.height, stream.width = size_hw
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            picture = ground.copy()
            for number in range(3):
                x, y = 5 + (index * (number + 1)) % (size_hw[1] - 30), 8 + 28 * number
                picture[y : y + 16, x : x + 10] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_junk(path: Path, *, packets: int, frames: int = 0) -> Path:
    """Write an MPEG-TS of a good beginning and then of packets that no decoder makes a picture of."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0", "g": "1000", "preset": "ultrafast"})
        stream.height, stream.width = SIZE_HW
        stream.pix_fmt = "yuv420p"
        ground = np.zeros((*SIZE_HW, 3), np.uint8)
        good = [bytes(packet) for _ in range(frames + 2) for packet in stream.encode(_picture(ground))]
        good += [bytes(packet) for packet in stream.encode()]
        # A slice without the key frame that it builds on; or one that is cut off.
        bad = good[1] if not frames else good[1][:7]
        for index, data in enumerate([*good[:frames], *[bad] * packets]):
            packet = av.Packet(data)
            packet.time_base, packet.stream = Fraction(1, 90_000), stream
            packet.pts = packet.dts = index * 3600
            container.mux(packet)
    return path


def _picture(pixels: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


class BlobDetector:
    """Finds bright blobs; ``delay_s`` is how long a frame takes."""

    class_names = ("blob",)

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: Frame) -> Detections:
        import cv2

        time.sleep(self.delay_s)
        _, _, stats, _ = cv2.connectedComponentsWithStats((frame.image[..., 1] > 140).astype(np.uint8))
        rows = [row for row in stats[1:].tolist() if row[4] > 30]
        boxes = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in rows], np.float32).reshape(-1, 4)
        scores = np.linspace(0.9, 0.8, len(boxes), dtype=np.float32)
        return Detections(boxes, scores, np.zeros(len(boxes), np.int64))


class PlaceEmbedder:
    """Gives boxes vectors that depend on the pixels under them."""

    def embed(self, frame: Frame, boxes: np.ndarray) -> np.ndarray:
        vectors = np.array(
            [
                [1.0, box[1] / 96, float(frame.image[int(box[1]), min(int(box[0]), 127)].mean()) / 255, 0.1]
                for box in boxes
            ],
            np.float32,
        ).reshape(-1, 4)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


class HalfSegmenter:
    """Calls the left half of a frame "grass", the right one "road"."""

    class_names = ("grass", "road")

    def segment(self, frames: Sequence[Frame]) -> list[SegmentationMap]:
        maps = []
        for frame in frames:
            labels = np.zeros(frame.size_hw, np.uint8)
            labels[:, frame.size_hw[1] // 2 :] = 1
            maps.append(SegmentationMap(labels, self.class_names))
        return maps


class FakeBuilder:
    """Builds pipelines with the real tracker and camera motion around the stand-ins.

    Args:
        detector: of all pipelines.
    """

    def __init__(self, detector: Any = None) -> None:
        self.detector = detector or BlobDetector()
        self.opened: list[Priority] = []

    def check(self, options: StreamOptions) -> PipelineConfig:
        config = options.to_config(PipelineConfig())
        tracking = replace(config.tracking, camera_motion="flow", n_init=2)
        return replace(config, tracking=tracking)

    def open(self, options: StreamOptions, *, priority: Priority) -> Pipeline:
        config = self.check(options)
        self.opened.append(priority)
        stages: dict[str, Any] = {
            "detector": self.detector,
            "embedder": PlaceEmbedder() if config.tracking.appearance else None,
            "segmenter": HalfSegmenter() if options.segment else None,
        }
        return Pipeline(camera=CameraMotion("flow"), tracker=Tracker(config.tracking), **stages)


def job_settings(folder: Path, **values: Any) -> Settings:
    """Return settings with a data folder, nothing from the environment."""
    defaults = {"jobs_checkpoint_s": 60.0, "jobs_retention_s": 3600.0}
    return Settings(_env_file=None, data_dir=folder / "data", **(defaults | values))


async def chunks_of(data: bytes, size: int = 10_000) -> Any:
    """Yield a body as it comes from the network."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def submit(jobs: JobService, data: bytes, **changes: Any) -> dict[str, Any]:
    """Submit a video and return the job's status."""
    given: dict[str, Any] = {
        "content_type": "video/mp4",
        "content_length": str(len(data)),
        "key_id": "anonymous",
        "name": "blobs",
        "options": StreamOptions(),
        "wants_video": True,
    }
    return await jobs.submit(chunks_of(data), **(given | changes))


async def wait_until_over(jobs: JobService, job_id: str, key_id: str = "anonymous") -> dict[str, Any]:
    """Return the last status of a job."""
    listener = await jobs.listen(key_id, job_id)
    try:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            status = await jobs.get(key_id, job_id)
            if JobState(status["state"]).is_final:
                return status
            await listener.wait(0.5)
    finally:
        listener.close()
    raise AssertionError(f"the job is not over after {PATIENCE_S} s: {status}")
