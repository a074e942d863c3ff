"""Many streams through one detector and one embedder: the frames of a moment make one batch, the tracks stay apart."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vision.errors import ConfigError, StateError, VisionError
from vision.pipeline import QUEUE_DEPTH
from vision.prefetch import prefetch
from vision.timing import timed
from vision.tracking.bank import StreamInput, TrackerBank, answer_together
from vision.types import Detections, Frame, FrameResult

if TYPE_CHECKING:
    from vision.detection.detector import Detector

DETECT_BATCH = 8


@dataclass(frozen=True, slots=True, eq=False)
class StreamResult:
    """What became of one stream's frame: a ``result``, or the ``error`` that left the stream as it was.

    Attributes:
        frame: the frame, or None where the source failed to give one.
        result: as ``Pipeline.process`` gives it, or None if it failed; "detect" and "embed" of its times are this
            stream's equal share of the common batch.
        error: why it failed, or None.
    """

    frame: Frame | None
    result: FrameResult | None = None
    error: VisionError | None = None


class PipelineBank:
    """The pipeline of many streams. Each stream's results are those of a ``Pipeline`` of its own.

    Args:
        detector: finds the objects of all streams, or None when detections come from elsewhere.
        trackers: the streams, their embedder and their settings; ``bank.trackers`` opens, drops and saves streams.
        detect_batch: most frames that the detector gets at once, >= 1; bounds its memory.
    """

    def __init__(
        self, *, detector: Detector | None = None, trackers: TrackerBank, detect_batch: int = DETECT_BATCH
    ) -> None:
        if detect_batch < 1:
            raise ConfigError(f"detect_batch must be >= 1, got {detect_batch}; {DETECT_BATCH} is the default")
        self.detector = detector
        self.trackers = trackers
        self.detect_batch = detect_batch
        self._closed = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label of the detector; empty without one."""
        return () if self.detector is None else self.detector.class_names

    def process(
        self, frames: Mapping[str, Frame], detections: Mapping[str, Detections] | None = None
    ) -> dict[str, StreamResult]:
        """Return what is in the next frame of each stream, by key, in the order of ``frames``.

        Streams that are not named stay as they are, unknown keys open streams. An error concerns its own stream alone
        and is returned, not raised.

        Args:
            frames: the next frame of each stream; sizes may differ.
            detections: objects from elsewhere, which take the detector's place for their streams.

        Raises:
            StateError: the bank was closed.
        """
        if self._closed:
            raise StateError("the bank was closed and can process no more frames; build a new one")
        found, errors, detect_ms = self._detect(frames, detections or {})
        outcomes = self.trackers.update(
            {
                key: StreamInput(found.get(key, Detections.empty()), frame)
                for key, frame in frames.items()
                if key not in errors
            }
        )
        results = {}
        for key, frame in frames.items():
            outcome = outcomes.get(key)
            if outcome is None or outcome.tracks is None:
                results[key] = StreamResult(frame, error=errors[key] if outcome is None else outcome.error)
                continue
            timings_ms = detect_ms.get(key, {}) | dict(outcome.timings_ms)
            result = FrameResult(
                frame.index,
                frame.timestamp_s,
                frame.source,
                frame.size_hw,
                outcome.detections if key in found else None,
                outcome.tracks,
                timings_ms=timings_ms,
            )
            results[key] = StreamResult(frame, result)
        return results

    def run(self, sources: Mapping[str, Iterable[Frame]]) -> Generator[tuple[str, StreamResult], None, None]:
        """Yield the results of all sources, in rounds of one frame each, until the last source ends.

        Each source is read in a thread of its own, a few frames ahead; processing has another. A round waits for the
        slowest source. A source that fails gives a result with its error and has ended; a frame that cannot be
        processed gives one too, and its stream goes on. Closing the generator stops all threads.
        """
        with ExitStack() as stack:
            readers = {
                key: stack.enter_context(closing(prefetch(frames, QUEUE_DEPTH))) for key, frames in sources.items()
            }
            for results in stack.enter_context(closing(prefetch(self._rounds(readers), QUEUE_DEPTH))):
                yield from results.items()

    def close(self) -> None:
        """Refuse further frames and let go of networks; the trackers stay with whoever made them."""
        self._closed = True
        self.detector = None
        self.trackers.embed = None

    def _detect(
        self, frames: Mapping[str, Frame], given: Mapping[str, Detections]
    ) -> tuple[dict[str, Detections], dict[str, VisionError], dict[str, dict[str, float]]]:
        """Return detections, errors and the time's equal share of each stream that the detector was asked for."""
        found = {key: given[key] for key in frames if key in given}
        errors: dict[str, VisionError] = {}
        asked = {key: frame for key, frame in frames.items() if key not in found}
        if self.detector is None or not asked:
            return found, errors, {}
        timings_ms: dict[str, float] = {}
        with timed(timings_ms, "detect"):
            for chunk in _chunks(asked, self.detect_batch):
                some, failed = answer_together(self.detector.detect, chunk)
                found |= some
                errors |= failed
        share = {"detect": timings_ms["detect"] / len(asked)}
        return found, errors, dict.fromkeys(asked, share)

    def _rounds(self, readers: Mapping[str, Iterator[Frame]]) -> Iterator[dict[str, StreamResult]]:
        """Yield the results of each round."""
        readers = dict(readers)
        while readers:
            frames, ended = _next_frames(readers)
            for key in ended:
                del readers[key]
            results = {key: StreamResult(None, error=error) for key, error in ended.items() if error is not None}
            if frames:
                results |= self.process(frames)
            if results:
                yield results


def _next_frames(
    readers: Mapping[str, Iterator[Frame]],
) -> tuple[dict[str, Frame], dict[str, VisionError | None]]:
    """Return the next frame of each reader, and those that ended with the error that ended them or None."""
    frames: dict[str, Frame] = {}
    ended: dict[str, VisionError | None] = {}
    for key, reader in readers.items():
        try:
            frames[key] = next(reader)
        except StopIteration:
            ended[key] = None
        except VisionError as exc:
            ended[key] = exc
    return frames, ended


def _chunks(items: Mapping[str, Frame], size: int) -> Iterator[dict[str, Frame]]:
    keys: Sequence[str] = list(items)
    for start in range(0, len(keys), size):
        yield {key: items[key] for key in keys[start : start + size]}
