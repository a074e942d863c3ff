"""The path of one frame through the stages. Read `Pipeline.process` first: it is the whole product in fifteen lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from vision.errors import StateError
from vision.prefetch import prefetch
from vision.segmentation.surfaces import regions_of_tracks
from vision.timing import timed
from vision.tracking.stream import advance
from vision.types import Detections, Frame, FrameResult

if TYPE_CHECKING:
    from vision.classification.classifier import FrameClassifier
    from vision.detection.detector import Detector
    from vision.regions import TrackRegions
    from vision.reid.appearance import AppearanceEmbedder
    from vision.runtime.feature_maps import FeatureMaps
    from vision.segmentation.segmenter import Segmenter
    from vision.shared_trunk import SharedTrunk
    from vision.tracking.camera_motion import CameraMotion
    from vision.tracking.tracker import Tracker
    from vision.types import SegmentationMap, Tracks

# Frames waiting between two stages: enough to ride out a slow frame, few enough that memory stays flat.
QUEUE_DEPTH = 4


class Pipeline:
    """Detector, embedder, camera motion, tracker, segmenter and classifier in their order; any may be absent. One
    pipeline serves one stream: the camera motion and the tracker remember. Without a tracker the camera motion is not
    asked. A ``trunk`` takes the places of detector and segmenter and computes what they have in common once a frame."""

    def __init__(
        self,
        *,
        detector: Detector | None = None,
        embedder: AppearanceEmbedder | None = None,
        camera: CameraMotion | None = None,
        tracker: Tracker | None = None,
        segmenter: Segmenter | None = None,
        classifier: FrameClassifier | None = None,
        trunk: SharedTrunk | None = None,
    ) -> None:
        self.trunk = trunk
        self.detector = detector if trunk is None else trunk.detector
        self.embedder = embedder
        self.camera = camera
        self.tracker = tracker
        self.segmenter = segmenter if trunk is None else trunk.segmenter
        self.classifier = classifier
        self._closed = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label of the detector, or else of the segmenter or the classifier; empty without any."""
        stage = self.detector or self.segmenter or self.classifier
        return () if stage is None else stage.class_names

    @property
    def object_names(self) -> tuple[str, ...]:
        """The name of each label of the objects; empty when detections come from elsewhere."""
        return () if self.detector is None else self.detector.class_names

    @property
    def map_names(self) -> tuple[str, ...]:
        """The name of each label of the segmentation; empty without a segmenter."""
        return () if self.segmenter is None else self.segmenter.class_names

    def process(self, frame: Frame, detections: Detections | None = None) -> FrameResult:
        """Return what is in a frame; ``detections`` from elsewhere take the detector's place.

        Frames must come in order when there is a tracker.
        """
        if self._closed:
            raise StateError("the pipeline was closed and can process no more frames; build a new one")
        timings_ms: dict[str, float] = {}
        detections, maps = self._detect(frame, detections, timings_ms)
        tracks = self._track(frame, detections, timings_ms)
        segmentation, regions = self._segment(frame, maps, tracks, timings_ms)
        classification = None
        if self.classifier is not None:
            with timed(timings_ms, "classify"):
                classification = self.classifier.classify([frame])[0]
        return FrameResult(
            frame.index,
            frame.timestamp_s,
            frame.source,
            frame.size_hw,
            detections,
            tracks,
            segmentation=segmentation,
            timings_ms=timings_ms,
            classification=classification,
            regions=regions,
        )

    def _detect(
        self, frame: Frame, detections: Detections | None, timings_ms: dict[str, float]
    ) -> tuple[Detections | None, FeatureMaps | None]:
        """Return the frame's detections with the embeddings that are wanted, and maps that the segmenter can use."""
        maps = None
        if detections is None and self.detector is not None:
            with timed(timings_ms, "detect"):
                if self.trunk is None:
                    detections = self.detector.detect([frame])[0]
                else:
                    detections, maps = self.trunk.detect(frame)
        if detections is not None and self.embedder is not None:
            with timed(timings_ms, "embed"):
                # Only what the tracker will compare: low scores are matched by their place alone.
                rows = np.arange(len(detections)) if self.tracker is None else self.tracker.compared_rows(detections)
                detections = detections.with_embeddings(self.embedder.embed(frame, detections.boxes[rows]), rows)
        return detections, maps

    def _track(self, frame: Frame, detections: Detections | None, timings_ms: dict[str, float]) -> Tracks | None:
        if self.tracker is None:
            return None
        return advance(
            self.tracker,
            self.camera,
            detections if detections is not None else Detections.empty(),
            frame.image,
            frame_index=frame.index,
            timestamp_s=frame.timestamp_s,
            timings_ms=timings_ms,
        )

    def _segment(
        self, frame: Frame, maps: FeatureMaps | None, tracks: Tracks | None, timings_ms: dict[str, float]
    ) -> tuple[SegmentationMap | None, TrackRegions | None]:
        """Return the class of each pixel, and what that says of the tracks."""
        if self.segmenter is None:
            return None, None
        with timed(timings_ms, "segment"):
            if self.trunk is None or maps is None:
                segmentation = self.segmenter.segment([frame])[0]
            else:
                segmentation = self.trunk.segment(maps)
        if tracks is None:
            return segmentation, None
        with timed(timings_ms, "regions"):
            return segmentation, regions_of_tracks(tracks, segmentation, self.object_names)

    def run(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, FrameResult]]:
        """Yield each frame with its result, in order; reading, processing and the caller's own work overlap.

        Reading and processing each have a thread and run a few frames ahead. An error of either comes out here, after
        the results before it. Closing the generator stops both.
        """
        with (
            closing(prefetch(frames, QUEUE_DEPTH)) as read,
            closing(prefetch(self._each(read), QUEUE_DEPTH)) as results,
        ):
            yield from results

    def _each(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, FrameResult]]:
        for frame in frames:
            yield frame, self.process(frame)

    def close(self) -> None:
        """Refuse further frames and let go of networks and tracks."""
        self._closed = True
        self.detector = self.embedder = self.camera = self.tracker = self.trunk = None
        self.segmenter = self.classifier = None
