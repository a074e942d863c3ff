"""COCO-video JSON: videos, images with ``video_id`` and ``frame_index``, annotations with ``track_id``, tracks.

The form that TAO, BURST and the tracking toolkits built on COCO share. Annotations are streamed; what is kept for the
end of the file is a few bytes for each frame and track.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

import orjson

from vision import __version__
from vision.errors import InvalidInputError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer, reported_tracks, rounded_xywh
from vision.io.writers.tracks_header import TracksHeader
from vision.types import FloatArray, Frame, FrameResult

VIDEO_ID = 1
_BOX_DIGITS = 3
_SCORE_DIGITS = 5


class CocoVideoFile:
    """A COCO-video file under construction, to which frames are added in order.

    Args:
        path: output file, which appears when ``commit`` is called.
        source: of the sequence: name of the video, and folder in the file names of its frames.
        overwrite: replace a file that exists.
    """

    def __init__(self, path: str | Path, *, source: str = "", overwrite: bool = False) -> None:
        self._folder = PurePath(source).stem or "video"
        self._output = AtomicFile(path, overwrite=overwrite)
        self._images: list[int] = []
        self._tracks: dict[int, int] = {}
        self._n_classes = 0
        self._n_annotations = 0
        self._output.write(b'{"annotations":[')

    def add(
        self,
        frame_index: int,
        ids: Sequence[int],
        boxes: FloatArray,
        scores: Sequence[float],
        labels: Sequence[int],
        filled: Sequence[bool] | None = None,
    ) -> None:
        """Add a frame and its tracks: boxes [N, 4] xyxy, the other sequences of length N."""
        self._images.append(frame_index)
        rows: list[bytes] = []
        boxes_xywh = rounded_xywh(boxes, _BOX_DIGITS)
        flags = [False] * len(ids) if filled is None else filled
        for track_id, bbox, score, label, is_filled in zip(ids, boxes_xywh, scores, labels, flags, strict=True):
            self._n_annotations += 1
            self._tracks[track_id] = label
            # Not from the tracks at the end: one whose label changes is listed with its last.
            self._n_classes = max(self._n_classes, label + 1)
            row = {
                "id": self._n_annotations,
                "image_id": frame_index + 1,
                "video_id": VIDEO_ID,
                "track_id": track_id,
                "instance_id": track_id,
                "category_id": label + 1,
                "bbox": bbox,
                "area": round(bbox[2] * bbox[3], _BOX_DIGITS),
                "iscrowd": 0,
                "score": round(score, _SCORE_DIGITS),
            }
            if is_filled:
                row["filled"] = True
            rows.append(orjson.dumps(row))
        if rows:
            first = self._n_annotations == len(rows)
            self._output.write((b"\n" if first else b",\n") + b",\n".join(rows))

    def commit(self, header: TracksHeader) -> None:
        """Write the other lists and give the file its name; does nothing the second time."""
        if not self._output.is_open:
            return
        size = {} if header.size_hw is None else {"width": header.size_hw[1], "height": header.size_hw[0]}
        video: dict[str, Any] = {"id": VIDEO_ID, "name": header.source, **size}
        video["length"] = max([header.frame_count or 0, *(index + 1 for index in self._images[-1:])])
        if header.fps is not None:
            video["fps"] = header.fps
        n_classes = max(len(header.class_names), self._n_classes)
        self._output.write(b"\n]")
        self._write_list("images", (self._image(index, size) for index in self._images))
        self._write_list(
            "tracks",
            (
                {"id": track_id, "video_id": VIDEO_ID, "category_id": label + 1}
                for track_id, label in sorted(self._tracks.items())
            ),
        )
        self._write_list("categories", ({"id": label + 1, "name": header.name_of(label)} for label in range(n_classes)))
        self._write_list("videos", [video])
        about = {"description": "tracks", "stride32": __version__}
        self._output.write(b',\n"info":' + orjson.dumps(about) + b"}\n")
        self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()

    def _image(self, frame_index: int, size: dict[str, int]) -> dict[str, Any]:
        # The names that "ffmpeg -i VIDEO FOLDER/%06d.jpg" gives, and MOTChallenge.
        return {
            "id": frame_index + 1,
            "video_id": VIDEO_ID,
            "frame_index": frame_index,
            "frame_id": frame_index,
            "file_name": f"{self._folder}/{frame_index + 1:06d}.jpg",
            **size,
        }

    def _write_list(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        self._output.write(b',\n"' + name.encode() + b'":[')
        for number, row in enumerate(rows):
            self._output.write((b",\n" if number else b"\n") + orjson.dumps(row))
        self._output.write(b"\n]")


class CocoVideoWriter(Writer):
    """Writes confirmed tracks matched in the frame; a frame without any is listed as an image.

    Args:
        path: output file.
        class_names: name of each label.
        fps: frames a second of the source, or None.
        source: SOURCE as the user gave it.
        overwrite: replace a file that exists.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        class_names: Sequence[str] = (),
        fps: float | None = None,
        source: str = "",
        overwrite: bool = False,
    ) -> None:
        self._header = TracksHeader(class_names=tuple(class_names), fps=fps, source=source)
        self._output = CocoVideoFile(path, source=source, overwrite=overwrite)
        self._size_hw: tuple[int, int] | None = None

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Add one frame."""
        if result.tracks is None:
            raise InvalidInputError("a COCO-video file needs tracks, got a result without; run track")
        tracks = reported_tracks(result.tracks)
        self._size_hw = self._size_hw or result.size_hw
        self._output.add(
            result.frame_index,
            tracks.ids.tolist(),
            tracks.boxes,
            tracks.scores.tolist(),
            tracks.labels.tolist(),
            # Offline results have rows that no detection stood behind.
            (tracks.detection_index < 0).tolist(),
        )

    def close(self) -> None:
        """Finish the file; without any frame its lists are empty and it is valid."""
        known = self._header
        self._output.commit(
            TracksHeader(class_names=known.class_names, fps=known.fps, source=known.source, size_hw=self._size_hw)
        )

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()
