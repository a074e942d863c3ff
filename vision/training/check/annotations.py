"""The checks that decode no pixel: classes, category ids, sizes, orientation, boxes, and what is missing.

They run at the start of each training, and again as the first part of ``stride32 data check``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from vision.errors import MediaError
from vision.io.image_header import ImageHeader
from vision.training.check.boxes import check_boxes
from vision.training.datasets.annotations import DetectionAnnotations, PictureAnnotations
from vision.training.datasets.findings import Finding

Headers = Mapping[Path, ImageHeader | MediaError]
RARE_OBJECTS = 10


def check_annotations(annotations: DetectionAnnotations, headers: Headers) -> list[Finding]:
    """Return the faults of a data set that its annotations and the heads of its pictures show.

    Args:
        annotations: as read; their own findings come first.
        headers: of all their pictures (``read_headers``).
    """
    findings = [*annotations.findings, *check_classes(annotations), *_check_files(annotations, headers)]
    for picture in annotations.pictures:
        header = headers[picture.path]
        size_wh = None if isinstance(header, MediaError) else header.size_wh
        if isinstance(header, ImageHeader):
            findings += check_size(picture, header)
        findings += check_boxes(picture, size_wh)
    return findings


def check_classes(annotations: DetectionAnnotations) -> Iterator[Finding]:
    """Yield what is odd about the classes: ids with gaps, names that look alike, classes with few objects or none."""
    names, file = annotations.class_names, annotations.source
    if not annotations.object_count:
        found = f"none of {len(annotations.pictures)} pictures has an object that can be used"
        fix = "annotate the pictures, or give the file or folder that holds the annotations"
        yield Finding("error", "no-annotations", file, found, fix)
        return
    ids = annotations.category_ids
    if ids and ids != tuple(range(1, len(ids) + 1)):
        gaps = sum(after - before - 1 for before, after in pairwise(ids))
        found = f"category ids go from {ids[0]} to {ids[-1]}" + (f" with {gaps} gaps" if gaps else "")
        found += f" and become labels 0 to {len(ids) - 1} in this order"
        yield Finding("note", "category-ids", file, found, "nothing to do: names decide, not numbers")
    yield from _similar_names(names, file)
    counts = Counter(row.label for picture in annotations.pictures for row in picture.rows if not row.crowd)
    for label, name in enumerate(names):
        if not counts[label]:
            found = f"class {name!r} has no object"
            yield Finding("warning", "empty-class", file, found, "leave it out (classes = [...]), or annotate some")
        elif counts[label] < RARE_OBJECTS:
            found = f"class {name!r} has {counts[label]} {'object' if counts[label] == 1 else 'objects'}"
            yield Finding("note", "rare-class", file, found, "expect little of it; some hundred objects are a start")


def check_size(picture: PictureAnnotations, header: ImageHeader) -> Iterator[Finding]:
    """Yield a finding when the stated size is not the upright picture's, or its orientation may have misled a tool."""
    declared, actual = picture.declared_wh, header.size_wh
    turn = f"EXIF orientation {header.orientation}"
    if declared is None or declared == actual:
        if header.orientation != 1 and picture.rows and (declared is None or header.orientation < 5):
            found = f"the picture is stored turned ({turn}); boxes must belong to the upright picture"
            fix = f"look at it in --sheet; if its boxes are wrong, {_upright_advice()}"
            yield Finding("warning", "exif-orientation", picture.path, found, fix)
    elif header.orientation >= 5 and declared == header.stored_wh:
        found = (
            f"{picture.source.name} states {_text(declared)}, the picture as stored; {turn} turns it to {_text(actual)}"
        )
        fix = f"remove the tag (exiftool -Orientation=) if boxes fit the stored pixels; else {_upright_advice()}"
        yield Finding("error", "exif-trap", picture.path, found, fix)
    elif declared == actual[::-1]:
        found = (
            f"{picture.source.name} states {_text(declared)}, the picture has {_text(actual)}: width and height swapped"
        )
        fix = "look at it in --sheet: turn the picture if boxes lie beside the objects, else correct the size"
        yield Finding("warning", "swapped-size", picture.path, found, fix)
    else:
        found = f"{picture.source.name} states {_text(declared)}, the picture has {_text(actual)}"
        fix = "scale the boxes if the picture was resized after it was annotated, else correct the size"
        yield Finding("error", "wrong-size", picture.path, found, fix)


def _check_files(annotations: DetectionAnnotations, headers: Headers) -> Iterator[Finding]:
    """Yield pictures that are missing or damaged in the head, listed twice, or without objects."""
    pictures = annotations.pictures
    for picture in pictures:
        header = headers[picture.path]
        if not isinstance(header, MediaError):
            continue
        if picture.path.is_file():
            yield Finding(
                "error", "corrupt-picture", picture.path, str(header), "replace it, or remove its annotations"
            )
        else:
            found = f"the picture is missing; {picture.source.name} names it"
            fix = f"put it there, or remove it from {picture.source.name}"
            yield Finding("error", "missing-picture", picture.path, found, fix)
    for path, count in Counter(picture.path for picture in pictures).items():
        if count > 1:
            found = f"the picture is listed {count} times"
            yield Finding("warning", "listed-twice", path, found, "keep one entry with all of its objects")
    without = [picture for picture in pictures if not picture.rows and not picture.unusable]
    if without and len(without) < len(pictures):
        found = f"{len(without)} of {len(pictures)} pictures have no object, first {without[0].name}"
        fix = "nothing to do if they show none: they are learned as background"
        yield Finding("note", "picture-without-objects", annotations.source, found, fix)


def _similar_names(names: tuple[str, ...], file: Path) -> Iterator[Finding]:
    """Yield class names that differ in case, spaces, hyphens or underscores alone."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"[\s_\-]+", "", name).casefold(), []).append(name)
    for alike in groups.values():
        if len(alike) > 1:
            found = f"class names look alike: {', '.join(map(repr, alike))}"
            yield Finding("warning", "similar-classes", file, found, "give objects of one kind one name")


def _upright_advice() -> str:
    return "store the pixels upright (mogrify -auto-orient) and draw the boxes again"


def _text(size_wh: tuple[int, int]) -> str:
    return f"{size_wh[0]} x {size_wh[1]}"
