"""The outermost level of a COCO-video file: its lists, and which of its videos is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from vision.errors import InvalidInputError, closest_hint

Entry = Mapping[str, Any]


def read_document(path: Path) -> dict[str, Sequence[Any]]:
    """Return the lists videos, images, annotations and categories of a file; those that it lacks are empty.

    Raises:
        InvalidInputError: no JSON, no object of lists, or one without videos or annotations.
    """
    try:
        document = orjson.loads(path.read_bytes())
    except OSError as exc:
        raise InvalidInputError(f"{path} cannot be read: {exc.strerror}; check the path", path=path) from exc
    except orjson.JSONDecodeError as exc:
        raise InvalidInputError(f"{path} must be JSON, {exc}; it may be cut short", path=path) from exc
    advice = "a list of results alone does not say which frame an image is"
    if not isinstance(document, dict):
        raise InvalidInputError(
            f"{path} must be a JSON object with videos, images and annotations, got a {type(document).__name__}; "
            f"{advice}",
            path=path,
        )
    lists = {name: document.get(name, []) for name in ("videos", "images", "annotations", "categories")}
    for name, entries in lists.items():
        if not isinstance(entries, list):
            raise InvalidInputError(
                f"{path} must have a list as {name}, got a {type(entries).__name__}; correct it", path=path
            )
    if "annotations" not in document or not lists["videos"]:
        raise InvalidInputError(
            f"{path} must have videos and annotations, found {', '.join(document) or 'nothing'}; pass a COCO-video "
            "file (a COCO file of single pictures has no tracks)",
            path=path,
        )
    return lists


def choose_video(videos: Sequence[Any], wanted: str | None, path: Path) -> Entry:
    """Return the entry of the video with this name or id, or of the only one; InvalidInputError lists the choice."""
    if not all(isinstance(video, dict) for video in videos):
        raise InvalidInputError(f"{path} must have an object as each of videos, found others; correct it", path=path)
    names = [str(video.get("name", video.get("id", ""))) for video in videos]
    listing = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    if wanted is None:
        if len(videos) > 1:
            raise InvalidInputError(
                f"{path} holds {len(videos)} videos and one is wanted; choose from {listing}", path=path
            )
        return videos[0]  # type: ignore[no-any-return]
    for video, name in zip(videos, names, strict=True):
        if wanted in (name, str(video.get("id"))):
            return video  # type: ignore[no-any-return]
    raise InvalidInputError(
        f"{path} must hold the video {wanted!r}{closest_hint(wanted, names)}, found {listing}; choose one of them",
        path=path,
    )
