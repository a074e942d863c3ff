"""A writer that keeps the results in memory, for what can only be done when the sequence is over."""

from __future__ import annotations

from vision.io.writers.base import Writer
from vision.tracking.recorder import SequenceRecorder
from vision.types import Frame, FrameResult


class RecordingWriter(Writer):
    """Fills a ``SequenceRecorder``; frames are not kept.

    Attributes:
        recorder: what was written so far.
    """

    def __init__(self) -> None:
        self.recorder = SequenceRecorder()

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Keep the result of one frame."""
        self.recorder.add(result)

    def close(self) -> None:
        """Do nothing: what is kept stays."""

    def abort(self) -> None:
        """Do nothing: there is no file."""
