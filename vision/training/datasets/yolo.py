"""Detection data in YOLO text files: one a picture, a line ``class cx cy w h`` an object, in shares of the picture.

The shares are of the upright picture (EXIF orientation applied), as the tools show it that draw the boxes. A picture
without a label file, or with an empty one, shows no object.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vision.errors import InvalidInputError, MediaError
from vision.geometry.boxes import cxcywh_to_xyxy
from vision.io.image_header import read_image_header
from vision.io.images import IMAGE_SUFFIXES
from vision.io.listing import natural_key
from vision.training.datasets.annotations import BoxRow, DetectionAnnotations, Part, PictureAnnotations
from vision.training.datasets.findings import Finding

CLASS_FILES = ("classes.txt", "obj.names", "classes.names")
# Rounding to six digits takes a border this far outside; pixels are far beyond it.
_TOLERANCE = 0.01
_MAX_LABEL_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class YoloLayout:
    """Where the pictures of a YOLO data set lie, and what the classes are called.

    Attributes:
        root: folder that names are relative to.
        source: the file that names the classes.
        class_names: by index.
        places: for each part that is declared, its folders of pictures and list files; "all" where none is.
        keypoints: lines carry key points behind the box.
    """

    root: Path
    source: Path
    class_names: tuple[str, ...]
    places: dict[str, tuple[Path, ...]]
    keypoints: bool = False


def read_yolo_annotations(path: Path, part: Part = "all") -> DetectionAnnotations:
    """Return what a YOLO data set annotates.

    Args:
        path: ``data.yaml``; a folder that holds one; a folder with ``images/``, ``labels/`` and ``classes.txt``; a
            folder of pictures with text files beside them and ``classes.txt``; or a text file that lists pictures.
        part: "train" or "val" reads that part where data.yaml (or a folder ``images/train``) declares it, else all.

    Raises:
        InvalidInputError: no class names, no picture, or no label line that can be used.
    """
    layout = read_layout(path)
    places = layout.places.get(part) or tuple(place for group in layout.places.values() for place in group)
    findings: list[Finding] = []
    paths = sorted({picture for place in places for picture in _list_pictures(place)}, key=natural_key)
    if not paths:
        shown = ", ".join(str(place) for place in places)
        raise InvalidInputError(
            f"{path} must lead to pictures, found none in {shown}; check the entries train, val and path", path=path
        )
    pictures = tuple(_read_picture(picture, n, layout, findings) for n, picture in enumerate(paths, start=1))
    _check_usable(pictures, findings, layout.source)
    return DetectionAnnotations("yolo", path, layout.source, layout.class_names, pictures, tuple(findings))


def read_layout(path: Path) -> YoloLayout:
    """Return the layout that a path stands for; see ``read_yolo_annotations`` for what it may be."""
    if path.is_file():
        return _layout_of_yaml(path) if path.suffix.lower() in (".yaml", ".yml") else _layout_of_list(path)
    settings = find_settings(path)
    if settings is not None:
        return _layout_of_yaml(settings)
    source = next((path / name for name in CLASS_FILES if (path / name).is_file()), None) or next(
        (path / "labels" / name for name in CLASS_FILES if (path / "labels" / name).is_file()), None
    )
    if source is None:
        raise InvalidInputError(
            f"{path} must name the classes of its YOLO labels in data.yaml (names: [...]) or classes.txt (one a line), "
            "found neither; add one",
            path=path,
        )
    images = path / "images" if (path / "images").is_dir() else path
    parts: dict[str, tuple[Path, ...]] = {
        part: (images / name,)
        for part, names in (("train", ("train",)), ("val", ("val", "valid")))
        for name in names
        if (images / name).is_dir()
    }
    return YoloLayout(path, source, _read_class_file(source), parts or {"all": (images,)})


def find_settings(folder: Path) -> Path | None:
    """Return the YAML file of a folder that lists class names, ``data.yaml`` first; None without one."""
    paths = sorted((*folder.glob("*.yaml"), *folder.glob("*.yml")), key=lambda path: (path.stem != "data", path.name))
    for path in paths:
        try:
            if "names" in _load_yaml(path):
                return path
        except InvalidInputError:
            continue
    return None


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as exc:
        raise InvalidInputError(f"{path} must be YAML, cannot parse it: {exc}; mend it", path=path) from exc
    return document if isinstance(document, dict) else {}


def _layout_of_yaml(path: Path) -> YoloLayout:
    document = _load_yaml(path)
    names = document.get("names")
    if isinstance(names, dict):
        try:
            names = [names[key] for key in range(len(names))]
        except KeyError as exc:
            raise InvalidInputError(
                f"{path} must number its names from 0 without gaps, lacks {exc}; renumber them and the labels",
                path=path,
            ) from exc
    if not isinstance(names, list) or not names:
        raise InvalidInputError(f"{path} must list class names (names: [car, bus]), got {names!r}; add them", path=path)
    root = path.parent / str(document.get("path") or "")
    # Many files carry the absolute or working-folder path of the machine they were made on.
    if not root.is_dir():
        root = path.parent
    parts: dict[str, tuple[Path, ...]] = {}
    for part in ("train", "val"):
        entries = document.get(part) or (document.get("valid") if part == "val" else None) or []
        entries = entries if isinstance(entries, list) else [entries]
        if entries:
            parts[part] = tuple(_find_place(root, str(entry)) for entry in entries)
    if not parts:
        images = root / "images" if (root / "images").is_dir() else root
        parts = {"all": (images,)}
    return YoloLayout(root, path, tuple(str(name) for name in names), parts, keypoints="kpt_shape" in document)


def _find_place(root: Path, entry: str) -> Path:
    """Return the folder or list file of an entry; exports often write ``../train/images`` for what lies below."""
    trimmed = entry
    while trimmed.startswith("../"):
        trimmed = trimmed[3:]
    places = [root / entry, root / trimmed, root / "images" / entry]
    return next((place for place in places if place.exists()), places[0])


def _layout_of_list(path: Path) -> YoloLayout:
    """Return the layout of a text file of picture paths; the classes are named beside it."""
    source = find_settings(path.parent) or next(
        (path.parent / name for name in CLASS_FILES if (path.parent / name).is_file() and path.name != name), None
    )
    if source is None:
        raise InvalidInputError(
            f"{path.name} must be COCO JSON, a data.yaml, or a list of pictures with data.yaml or classes.txt "
            "beside it, found none of these; give the annotation file or the folder of the data set",
            path=path,
        )
    if source.suffix == ".txt" or source.suffix == ".names":
        return YoloLayout(path.parent, source, _read_class_file(source), {"all": (path,)})
    layout = _layout_of_yaml(source)
    return YoloLayout(layout.root, source, layout.class_names, {"all": (path,)}, layout.keypoints)


def _read_class_file(path: Path) -> tuple[str, ...]:
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    if not names:
        raise InvalidInputError(f"{path} must name one class a line, it is empty; add the names", path=path)
    return names


def _list_pictures(place: Path) -> Iterator[Path]:
    """Yield the pictures below a folder, or those that a list file names relative to itself."""
    if place.is_dir():
        yield from (path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    elif place.is_file() and place.suffix.lower() in IMAGE_SUFFIXES:
        yield place
    elif place.is_file():
        for line in place.read_text(encoding="utf-8-sig").splitlines():
            if line.strip():
                yield place.parent / line.strip()


def label_path(picture: Path) -> Path:
    """Return the label file of a picture: ``labels`` in place of the last folder ``images``, suffix ``.txt``.

    >>> label_path(Path("set/images/train/7.jpg")).as_posix()
    'set/labels/train/7.txt'
    """
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            return Path(*parts).with_suffix(".txt")
    return picture.with_suffix(".txt")


def _read_picture(picture: Path, number: int, layout: YoloLayout, findings: list[Finding]) -> PictureAnnotations:
    labels = label_path(picture)
    if not labels.is_file() and picture.with_suffix(".txt").is_file():
        labels = picture.with_suffix(".txt")
    lines = _read_lines(labels, findings)
    rows, unusable = [], 0
    if lines:
        try:
            size_wh = read_image_header(picture).size_wh
        except MediaError:
            # The picture itself is reported by whoever opens it; its boxes have no size to be scaled by.
            lines, unusable = [], len(lines)
    for line_number, line in lines:
        try:
            label, box_norm = _parse_line(line, layout)
        except ValueError as exc:
            unusable += 1
            findings.append(_bad_line(labels, line_number, exc))
            continue
        corners = cxcywh_to_xyxy(np.asarray(box_norm)) * np.asarray(size_wh * 2)
        x1, y1, x2, y2 = (float(value) for value in corners)
        rows.append(BoxRow((x1, y1, x2, y2), label, f"line {line_number}"))
    name = picture.relative_to(layout.root).as_posix() if picture.is_relative_to(layout.root) else picture.name
    return PictureAnnotations(picture, name, number, labels, None, tuple(rows), unusable)


def _read_lines(path: Path, findings: list[Finding]) -> list[tuple[int, str]]:
    """Return the lines of a label file that are not blank, numbered from 1; a missing file has none."""
    if not path.is_file():
        return []
    try:
        if path.stat().st_size > _MAX_LABEL_BYTES:
            raise ValueError(f"it has more than {_MAX_LABEL_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as exc:
        findings.append(Finding("error", "bad-row", path, f"the labels cannot be read: {exc}", "export them again"))
        return []
    return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


class _NotNormalizedError(ValueError):
    """The numbers of a line are no shares of the picture."""


def _parse_line(line: str, layout: YoloLayout) -> tuple[int, tuple[float, float, float, float]]:
    """Return label and (cx, cy, w, h) of one line; a polygon (YOLO's segments) gives the box around it.

    Raises:
        ValueError: what is wrong, in words.
    """
    words = line.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{line[:60]!r} holds what is no number") from None
    if len(values) < 5 or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{line[:60]!r} is not: class cx cy w h")
    label = int(values[0])
    if label != values[0] or not 0 <= label < len(layout.class_names):
        raise ValueError(
            f"class {words[0]} is none of the {len(layout.class_names)} classes of {layout.source.name}, "
            f"0 to {len(layout.class_names) - 1}"
        )
    # Six numbers are a box with a score, as a detector writes them.
    is_box = layout.keypoints or len(values) <= 6
    shares = values[1:5] if is_box else values[1:]
    if max(shares) > 1 + _TOLERANCE or min(shares) < -_TOLERANCE:
        raise _NotNormalizedError(f"{line[:60]!r} is not in 0..1; the numbers seem to be pixels")
    return label, (shares[0], shares[1], shares[2], shares[3]) if is_box else _around(shares)


def _around(points: Sequence[float]) -> tuple[float, float, float, float]:
    """Return (cx, cy, w, h) of the box around a polygon x y x y ..."""
    if len(points) % 2:
        raise ValueError("a polygon needs pairs of x and y")
    x1, y1, x2, y2 = min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def _bad_line(path: Path, number: int, exc: ValueError) -> Finding:
    if isinstance(exc, _NotNormalizedError):
        fix = "divide cx and w by the picture's width, cy and h by its height"
        return Finding("error", "not-normalized", path, f"line {number}: {exc}", fix)
    if "none of the" in str(exc):
        return Finding(
            "error", "unknown-category", path, f"line {number}: {exc}", "name the class, or correct the label"
        )
    return Finding(
        "error", "bad-row", path, f"line {number}: {exc}", "write: class cx cy w h, in shares of the picture"
    )


def _check_usable(pictures: Sequence[PictureAnnotations], findings: Sequence[Finding], source: Path) -> None:
    """Raise when there are label lines but none can be used: one mistake was made with all of them."""
    if findings and not any(picture.rows for picture in pictures):
        raise InvalidInputError(f"no label of this YOLO data can be used, first {findings[0]}", path=findings[0].file)
