"""The one door to detection data: recognises COCO JSON, Pascal VOC and YOLO, and returns annotated pictures."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vision.errors import InvalidInputError, closest_hint
from vision.training.datasets.annotations import (
    BoxRow,
    DetectionAnnotations,
    Format,
    Part,
    PictureAnnotations,
    is_usable,
)
from vision.training.datasets.coco import is_coco_document, read_coco_annotations
from vision.training.datasets.findings import Finding
from vision.training.datasets.pictures import AnnotatedImage, AreaArray
from vision.training.datasets.voc import is_voc_list, part_list, read_voc_annotations
from vision.training.datasets.yolo import CLASS_FILES, find_settings, read_layout, read_yolo_annotations

log = logging.getLogger(__name__)

LOOKED_FOR = (
    "a COCO .json file, or a folder with COCO files (train.json, annotations/instances_*.json); "
    "a VOC folder (Annotations/*.xml and JPEGImages/, or .xml files beside the pictures) or ImageSets/Main/NAME.txt; "
    "a YOLO data.yaml, or a folder with one, with images/ and labels/ and classes.txt, or with .txt files beside the "
    "pictures and classes.txt"
)


def read_detection_data(
    path: Path, classes: Sequence[str] = (), *, part: Part = "all"
) -> tuple[list[AnnotatedImage], tuple[str, ...]]:
    """Return the annotated pictures of a data set in any known format, and the class names in label order.

    Crowd regions and boxes without area are no objects; faulty rows are left out with a warning. Whether the pictures
    can be read is for ``readable_images``.

    Args:
        path: see LOOKED_FOR and docs/data.md.
        classes: names to keep, in label order; empty takes all: COCO by category id, VOC sorted, YOLO by index.
        part: "train" or "val" reads that part where the data set declares it (data.yaml, ImageSets/Main, file names
            of COCO folders), else everything.

    Raises:
        InvalidInputError: nothing known at the path, no usable row, or a wanted class is missing.
    """
    annotations = read_annotations(path, part)
    report_findings(annotations.findings)
    return choose_classes(annotations, classes)


def read_annotations(path: Path, part: Part = "all") -> DetectionAnnotations:
    """Return the annotations of a data set in any known format, with the faults met while reading; see above."""
    kind = recognize_format(path)
    if kind == "voc":
        return read_voc_annotations(path, part)
    if kind == "yolo":
        return read_yolo_annotations(path, part)
    if path.is_file():
        return read_coco_annotations(path)
    files = _coco_files(path)
    wanted = [files[name] for name in files if name == part] or list(files.values())
    if len(wanted) > 1:
        names = " and ".join(str(file.relative_to(path)) for file in wanted)
        raise InvalidInputError(f"{path} holds several COCO files ({names}); give one of them", path=path)
    return read_coco_annotations(wanted[0])


def recognize_format(path: Path) -> Format:
    """Return the format of the data at a path, by its name and what lies in it.

    Raises:
        InvalidInputError: nothing is there, or nothing known; the message says what was looked for.
    """
    if not path.exists():
        kind = "COCO annotations" if path.suffix.lower() == ".json" else "detection data"
        raise InvalidInputError(f"{kind} must be at {path}, found none at {path}; check the path", path=path)
    known = _format_of_file(path) if path.is_file() else _format_of_folder(path)
    if known is None:
        raise InvalidInputError(
            f"{path} must be detection data, found nothing known; looked for {LOOKED_FOR}", path=path
        )
    return known


def find_parts(path: Path) -> tuple[Part, ...]:
    """Return the parts, "train" and "val", that a data set declares by itself; none for a COCO file."""
    kind = recognize_format(path)
    parts: tuple[Part, ...] = ("train", "val")
    if kind == "voc":
        return tuple(part for part in parts if path.is_dir() and part_list(path, part) is not None)
    if kind == "yolo":
        places = read_layout(path).places
        return tuple(part for part in parts if part in places)
    return () if path.is_file() else tuple(part for part in parts if part in _coco_files(path))


def choose_classes(
    annotations: DetectionAnnotations, classes: Sequence[str] = ()
) -> tuple[list[AnnotatedImage], tuple[str, ...]]:
    """Return pictures with the objects of the wanted classes alone, labelled in the order of ``classes``.

    Raises:
        InvalidInputError: a wanted class is not in the data. A VOC folder has no list of classes, so only a class list
            of which nothing occurs in it is refused.
    """
    names = annotations.class_names
    wanted = tuple(dict.fromkeys(classes)) or tuple(dict.fromkeys(names))
    missing = [name for name in wanted if name not in names]
    if missing and (annotations.format != "voc" or (len(missing) == len(wanted) and names)):
        raise InvalidInputError(
            f"{annotations.path.name} must have the classes {', '.join(wanted)}, lacks {missing[0]!r}"
            f"{closest_hint(missing[0], names)}; it has {', '.join(names) or 'none'}",
            path=annotations.path,
        )
    label_of = {index: wanted.index(name) for index, name in enumerate(names) if name in wanted}
    return [_annotated(picture, label_of) for picture in annotations.pictures], wanted


def report_findings(findings: Sequence[Finding]) -> None:
    """Log the findings: the first of each kind in full, and how many more there are."""
    counts = Counter(finding.code for finding in findings)
    for code, count in counts.items():
        first = next(finding for finding in findings if finding.code == code)
        more = f" (and {count - 1} more like it; stride32 data check lists them)" if count > 1 else ""
        if first.severity == "note":
            log.info("%s%s", first, more)
        else:
            log.warning("%s%s", first, more)


def _format_of_file(path: Path) -> Format | None:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return "coco"
    if suffix in (".yaml", ".yml"):
        return "yolo"
    if suffix == ".txt":
        return "voc" if is_voc_list(path) else "yolo"
    return None


def _format_of_folder(path: Path) -> Format | None:
    if find_settings(path) is not None:
        return "yolo"
    if _has(path / "Annotations", "*.xml"):
        return "voc"
    if _coco_files(path):
        return "coco"
    if (path / "labels").is_dir() and (path / "images").is_dir():
        return "yolo"
    if _has(path, "*.xml"):
        return "voc"
    return "yolo" if any((path / name).is_file() for name in CLASS_FILES) else None


def _has(folder: Path, pattern: str) -> bool:
    return folder.is_dir() and next(folder.rglob(pattern), None) is not None


def _coco_files(folder: Path) -> dict[str, Path]:
    """Return the COCO files of a folder by part ("all" for a single one that is neither), in the usual layouts."""
    found: dict[str, Path] = {}
    candidates = [
        *sorted(folder.glob("*.json")),
        *sorted((folder / "annotations").glob("instances_*.json")),
        *sorted(folder.glob("*/_annotations.coco.json")),
    ]
    for path in candidates:
        stem = path.parent.name if path.stem == "_annotations.coco" else path.stem
        part = next((part for part in ("train", "val") if part in stem.lower()), "all")
        if part not in found and "test" not in stem.lower() and is_coco_document(path):
            found[part] = path
    return found


def _annotated(picture: PictureAnnotations, label_of: dict[int, int]) -> AnnotatedImage:
    """Return the picture's objects of the wanted classes; what has no usable box makes it ``unmarked``."""
    wanted = [row for row in picture.rows if row.label in label_of]
    crowds = [row for row in wanted if row.crowd and is_usable(row.box)]
    objects = [row for row in wanted if not row.crowd and is_usable(row.box)]
    difficult = np.asarray([row.difficult for row in objects], np.bool_)
    crowd_boxes, crowd_labels = _columns(crowds, label_of)
    boxes, labels = _columns(objects, label_of)
    return AnnotatedImage(
        picture.path,
        picture.image_id,
        boxes,
        labels,
        unmarked=len(objects) < len(wanted) or picture.unusable > 0,
        difficult=difficult if difficult.any() else None,
        crowd_boxes=crowd_boxes if crowds else None,
        crowd_labels=crowd_labels if crowds else None,
        areas=_areas(objects),
    )


def _areas(rows: Sequence[BoxRow]) -> AreaArray | None:
    """Return the stated area of each object, NaN where there is none; None when no row states one."""
    stated = [(row.extra or {}).get("area") for row in rows]
    numbers = [float(area) if isinstance(area, int | float) and area > 0 else np.nan for area in stated]
    return None if np.isnan(numbers).all() else np.asarray(numbers, np.float64)


def _columns(rows: Sequence[BoxRow], label_of: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    boxes = np.asarray([row.box for row in rows], np.float32).reshape(-1, 4)
    return boxes, np.asarray([label_of[row.label] for row in rows], np.int64)
