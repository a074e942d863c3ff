"""What a training asks of its data before it starts: mistakes that make it useless stop it, others are reported."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vision.errors import InvalidInputError, MediaError, closest_hint
from vision.io.image_header import ImageHeader
from vision.training.check.annotations import check_annotations
from vision.training.check.duplicates import file_digest
from vision.training.check.masks import all_masks, find_masks
from vision.training.datasets.annotations import DetectionAnnotations
from vision.training.datasets.detection import report_findings
from vision.training.datasets.findings import Finding

log = logging.getLogger(__name__)

# Of the pictures with boxes, the share with boxes in 0..1 above which it is no slip but the format of the file.
UNIT_BOXES_SHARE = 0.5


def check_before_training(
    annotations: DetectionAnnotations, headers: Mapping[Path, ImageHeader | MediaError], classes: Sequence[str] = ()
) -> None:
    """Stop for data that cannot be learned from; log other faults, the first of each kind in full.

    Args:
        annotations: of the training or the validation data.
        headers: of all their pictures.
        classes: names that the user asked for; each must have an object.

    Raises:
        InvalidInputError: no picture is there; no object can be used; an asked for class has none; category ids are
            unknown; boxes are in 0..1; the pictures are index masks. The message names the file and the remedy.
    """
    findings = check_annotations(annotations, headers)
    _stop_without_pictures(annotations, headers)
    _stop_for(findings, ("no-annotations", "unknown-category"))
    _stop_for_unit_boxes(annotations, findings)
    _stop_without_class(annotations, classes)
    looked_at, masks = find_masks(headers)
    if all_masks(looked_at, masks):
        raise InvalidInputError(str(masks[0]), path=masks[0].file)
    # Classes that were not asked for need no objects, and a missing picture is reported where it is skipped.
    quiet = {"empty-class", "missing-picture", "corrupt-picture"} if classes else {"missing-picture", "corrupt-picture"}
    report_findings([finding for finding in (*findings, *masks) if finding.code not in quiet])


def warn_of_shared_pictures(train: Iterable[Path], val: Iterable[Path]) -> None:
    """Warn when validation has pictures of training, by path or byte for byte: its numbers would then say little."""
    train, val = list(train), list(val)
    shared = find_shared(train, val)
    if shared:
        log.warning(
            "%d of %d validation pictures are training pictures too, first %s; the measured AP will be too good: "
            "remove them from one, or leave val_data out and let some be held out",
            len(shared),
            len(val),
            shared[0],
        )


def find_shared(train: Sequence[Path], val: Sequence[Path]) -> list[Path]:
    """Return the files of ``val`` that are in ``train``; only files of equal size are read."""
    own = {path.resolve() for path in train}
    sizes: dict[int, list[Path]] = {}
    for path in train:
        if path.is_file():
            sizes.setdefault(path.stat().st_size, []).append(path)
    digests: dict[Path, bytes] = {}

    def digest(path: Path) -> bytes:
        if path not in digests:
            digests[path] = file_digest(path)
        return digests[path]

    shared = []
    for path in val:
        twins = sizes.get(path.stat().st_size, []) if path.is_file() else []
        if path.resolve() in own or any(digest(path) == digest(twin) for twin in twins):
            shared.append(path)
    return shared


def _stop_without_pictures(annotations: DetectionAnnotations, headers: Mapping[Path, ImageHeader | MediaError]) -> None:
    pictures = annotations.pictures
    if not pictures:
        raise InvalidInputError(
            f"{annotations.source} must list pictures, it has none; give the file of the annotated pictures",
            path=annotations.source,
        )
    if any(picture.path.is_file() for picture in pictures):
        return
    first = pictures[0]
    raise InvalidInputError(
        f"none of the {len(pictures)} pictures of {annotations.source} is there; the first was looked for at "
        f"{first.path}; put the pictures there, or correct the names in {first.source.name}",
        path=first.path,
    )


def _stop_for(findings: Sequence[Finding], codes: Sequence[str]) -> None:
    for finding in findings:
        if finding.code in codes:
            raise InvalidInputError(str(finding), path=finding.file)


def _stop_for_unit_boxes(annotations: DetectionAnnotations, findings: Sequence[Finding]) -> None:
    units = [finding for finding in findings if finding.code == "boxes-in-0-1"]
    with_boxes = sum(bool(picture.rows) for picture in annotations.pictures)
    if units and len(units) >= UNIT_BOXES_SHARE * with_boxes:
        more = f" (as in {len(units)} of {with_boxes} pictures)"
        raise InvalidInputError(f"{units[0].file}: {units[0].found}{more}; {units[0].fix}", path=units[0].file)


def _stop_without_class(annotations: DetectionAnnotations, classes: Sequence[str]) -> None:
    used = {annotations.class_names[row.label] for picture in annotations.pictures for row in picture.rows}
    for name in classes:
        if name not in used:
            raise InvalidInputError(
                f"{annotations.source} must have objects of class {name!r}, found none{closest_hint(name, used)}; "
                "leave it out of classes, or annotate some",
                path=annotations.source,
            )
