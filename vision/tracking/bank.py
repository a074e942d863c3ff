"""Many streams side by side: a tracker and a camera motion for each, and one batch for the crops of all.

The trackers know nothing of each other. What they share is the embedder: it is asked once for all frames of an update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vision.errors import ConfigError, InvalidInputError, LimitExceededError, VisionError, closest_hint
from vision.timing import timed
from vision.tracking.camera_motion import CameraMotion
from vision.tracking.config import TrackerConfig
from vision.tracking.stream import advance
from vision.tracking.tracker import Tracker
from vision.types import Detections, FloatArray, Frame, Tracks

MAX_STREAMS = 256

EmbedFrames = Callable[[Sequence[Frame], Sequence[FloatArray]], Sequence[FloatArray]]
"""Frames and the boxes [N, 4] of each in, embeddings [N, D] of each out: ``Embedder.embed_frames``."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, eq=False)
class StreamInput:
    """What is new in one stream.

    Attributes:
        detections: objects of the frame.
        frame: the picture, for embeddings and camera motion; its index and timestamp are taken, too. None without one.
        frame_index, timestamp_s: as for ``Tracker.update``, where there is no ``frame``.
    """

    detections: Detections
    frame: Frame | None = None
    frame_index: int | None = None
    timestamp_s: float | None = None

    def __post_init__(self) -> None:
        if self.frame is not None and (self.frame_index is not None or self.timestamp_s is not None):
            raise InvalidInputError(
                f"a stream's input takes its time from the frame (index {self.frame.index}), got frame_index "
                f"{self.frame_index} and timestamp_s {self.timestamp_s} as well; leave these out"
            )

    @property
    def time(self) -> tuple[int | None, float | None]:
        """Frame index and timestamp."""
        return (
            (self.frame_index, self.timestamp_s) if self.frame is None else (self.frame.index, self.frame.timestamp_s)
        )


@dataclass(frozen=True, slots=True, eq=False)
class StreamOutcome:
    """What became of one stream in an update: ``tracks``, or the ``error`` that left it as it was.

    Attributes:
        tracks: the stream's tracks, or None if it failed.
        detections: the given detections, with embeddings if they were computed.
        error: why it failed, or None.
        timings_ms: wall milliseconds by stage; "embed" is this stream's equal share of the common batch.
    """

    tracks: Tracks | None
    detections: Detections
    error: VisionError | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)


class _Stream:
    """The state of one stream."""

    def __init__(self, tracker: Tracker, camera: CameraMotion | None) -> None:
        self.tracker = tracker
        self.camera = camera


class TrackerBank:
    """Trackers of many streams by key. The result of each is what a tracker of its own would give.

    Iterating yields the keys in the order in which the streams were opened.

    Args:
        config: settings of streams that are opened without their own.
        embed: computes the embeddings of all frames of an update at once; None leaves those that detections carry.
            Streams whose settings have ``appearance`` off, and inputs without a frame, are left out of it.
        max_streams: most streams at a time, >= 1.
    """

    def __init__(
        self, config: TrackerConfig | None = None, *, embed: EmbedFrames | None = None, max_streams: int = MAX_STREAMS
    ) -> None:
        if max_streams < 1:
            raise ConfigError(f"max_streams must be >= 1, got {max_streams}; {MAX_STREAMS} is the default")
        self.config = config or TrackerConfig()
        self.embed = embed
        self.max_streams = max_streams
        self._streams: dict[str, _Stream] = {}

    def __len__(self) -> int:
        """Return the number of open streams."""
        return len(self._streams)

    def __iter__(self) -> Iterator[str]:
        return iter(self._streams)

    def __contains__(self, key: object) -> bool:
        return key in self._streams

    def open(self, key: str, config: TrackerConfig | None = None) -> None:
        """Begin a stream, with settings of its own or those of the bank; an update opens unknown keys by itself.

        Raises:
            InvalidInputError: the stream is open already.
            LimitExceededError: ``max_streams`` are open.
        """
        config = config or self.config
        camera = None if config.camera_motion == "none" else CameraMotion(config.camera_motion)
        self.adopt(key, Tracker(config), camera)

    def adopt(self, key: str, tracker: Tracker, camera: CameraMotion | None = None) -> None:
        """Begin a stream with a tracker (and a camera motion) that exists, such as a loaded one; raises as ``open``."""
        if key in self._streams:
            raise InvalidInputError(f"stream {key!r} must be new to be opened, it is open already; drop it first")
        if len(self._streams) >= self.max_streams:
            raise LimitExceededError(
                f"the bank holds at most {self.max_streams} streams, got {key!r} too; drop one, or raise max_streams",
                expected=f"at most {self.max_streams}",
                actual=str(len(self._streams) + 1),
            )
        self._streams[key] = _Stream(tracker, camera)

    def drop(self, key: str) -> None:
        """End a stream and forget its tracks; raises InvalidInputError for an unknown key."""
        self._stream(key)
        del self._streams[key]

    def reset(self, key: str) -> None:
        """Forget the tracks of a stream, as at a cut; its ids go on rising. Raises InvalidInputError if unknown."""
        stream = self._stream(key)
        stream.tracker.reset()
        if stream.camera is not None:
            stream.camera.forget()

    def tracker(self, key: str) -> Tracker:
        """Return the tracker of a stream; raises InvalidInputError for an unknown key."""
        return self._stream(key).tracker

    def camera(self, key: str) -> CameraMotion | None:
        """Return the camera motion of a stream, None where it is not wanted; raises InvalidInputError if unknown."""
        return self._stream(key).camera

    def update(self, inputs: Mapping[str, StreamInput]) -> dict[str, StreamOutcome]:
        """Advance the streams of ``inputs`` by one frame each and return what became of each, in the same order.

        An unknown key opens a stream. Streams that are not named stay as they are. An error (a frame index that does
        not rise, an embedding of another width, one stream too many) concerns its own stream alone, which is left as it
        was; it is returned and not raised.
        """
        opened, failed = self._open_new(inputs)
        detections, errors, embed_ms = self._embed({key: item for key, item in inputs.items() if key not in failed})
        failed |= errors
        outcomes = {}
        for key, item in inputs.items():
            if key in failed:
                outcomes[key] = StreamOutcome(None, item.detections, failed[key])
            else:
                timings_ms = {"embed": embed_ms} if key in detections else {}
                outcomes[key] = self._advance(key, item, detections.get(key, item.detections), timings_ms)
        for key in opened:
            if outcomes[key].error is not None:
                self.drop(key)
        return outcomes

    def _open_new(self, inputs: Mapping[str, StreamInput]) -> tuple[list[str], dict[str, VisionError]]:
        """Open the streams that are not open yet; return their keys, and the error of each that cannot be."""
        opened: list[str] = []
        failed: dict[str, VisionError] = {}
        for key in inputs:
            if key in self._streams:
                continue
            try:
                self.open(key)
                opened.append(key)
            except VisionError as exc:
                failed[key] = exc
        return opened, failed

    def _embed(self, inputs: Mapping[str, StreamInput]) -> tuple[dict[str, Detections], dict[str, VisionError], float]:
        """Return detections with embeddings, errors, and the milliseconds a stream, for the streams that want them."""
        embed = self.embed
        wanted = {
            key: (item.frame, item.detections)
            for key, item in inputs.items()
            if item.frame is not None and self._streams[key].tracker.config.appearance
        }
        if embed is None or not wanted:
            return {}, {}, 0.0
        timings_ms: dict[str, float] = {}
        rows = {key: self._streams[key].tracker.compared_rows(found) for key, (_, found) in wanted.items()}
        asked = {key: (frame, found.boxes[rows[key]]) for key, (frame, found) in wanted.items()}
        with timed(timings_ms, "embed"):
            vectors, errors = answer_together(
                lambda items: embed([frame for frame, _ in items], [boxes for _, boxes in items]), asked
            )
        detections = {key: wanted[key][1].with_embeddings(found, rows[key]) for key, found in vectors.items()}
        return detections, errors, timings_ms["embed"] / len(wanted)

    def _advance(
        self, key: str, item: StreamInput, detections: Detections, timings_ms: dict[str, float]
    ) -> StreamOutcome:
        stream = self._streams[key]
        frame_index, timestamp_s = item.time
        try:
            tracks = advance(
                stream.tracker,
                stream.camera,
                detections,
                None if item.frame is None else item.frame.image,
                frame_index=frame_index,
                timestamp_s=timestamp_s,
                timings_ms=timings_ms,
            )
        except VisionError as exc:
            return StreamOutcome(None, detections, exc, timings_ms)
        return StreamOutcome(tracks, detections, None, timings_ms)

    def _stream(self, key: str) -> _Stream:
        if key not in self._streams:
            raise InvalidInputError(
                f"{key!r} must be an open stream, known are {len(self)}{closest_hint(key, self._streams)}; open it, or "
                "update it, first"
            )
        return self._streams[key]


def answer_together(
    ask: Callable[[Sequence[Item]], Sequence[Answer]], items: Mapping[str, Item]
) -> tuple[dict[str, Answer], dict[str, VisionError]]:
    """Return ``ask``'s answer to each item, asked for all at once, and the errors of those that cannot be answered.

    Where the common batch fails, each item is asked for alone, so that only the guilty fail.
    """
    try:
        return dict(zip(items, ask(list(items.values())), strict=True)), {}
    except VisionError as exc:
        if len(items) == 1:
            return {}, dict.fromkeys(items, exc)
    answers: dict[str, Answer] = {}
    errors: dict[str, VisionError] = {}
    for key, item in items.items():
        answer, error = answer_together(ask, {key: item})
        answers |= answer
        errors |= error
    return answers, errors
