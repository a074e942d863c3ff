"""Detection data from one format to another: reads the size of each picture, places it, and writes its annotations."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vision.errors import InvalidInputError, MediaError, OutputExistsError
from vision.geometry.boxes import clip_boxes
from vision.io.image_header import read_image_header
from vision.training.convert.coco import write_coco
from vision.training.convert.placement import place_picture, relative_path, unique_names
from vision.training.convert.rows import ConvertedPicture
from vision.training.convert.voc import write_voc
from vision.training.convert.yolo import write_settings, write_yolo
from vision.training.datasets.annotations import BoxRow, DetectionAnnotations, Format, PictureAnnotations, is_usable
from vision.training.datasets.split import hold_out

log = logging.getLogger(__name__)

Parts = Mapping[str, list[ConvertedPicture]]


@dataclass(slots=True)
class ConversionSummary:
    """What was written and what was not.

    Attributes:
        entry: the path to give to ``stride32 train`` and other tools.
        pictures, objects: written, by part.
        skipped: pictures that could not be read.
        left_out: objects that the format has no place for, or that have no area, by reason.
    """

    entry: Path
    pictures: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def leave_out(self, count: int, reason: str) -> None:
        """Note that ``count`` objects are not written."""
        if count:
            self.left_out[reason] += count

    def lines(self) -> Iterator[str]:
        """Yield the summary as text; the path comes last."""
        for part, pictures in self.pictures.items():
            yield f"{part}: {pictures} pictures, {self.objects[part]} objects"
        if self.skipped:
            yield f"skipped: {self.skipped} pictures that cannot be read"
        for reason, count in self.left_out.items():
            yield f"left out: {count} {reason}"
        yield str(self.entry)


def convert_data(
    parts: Mapping[str, DetectionAnnotations],
    target: Path,
    kind: Format,
    *,
    val_fraction: float = 0.0,
    copy: bool = False,
) -> ConversionSummary:
    """Write data into the new folder ``target`` and return what was written.

    The folder appears under its name when it is complete. Pictures that cannot be read are skipped with a warning,
    boxes without area are left out. The originals are not touched.

    Args:
        parts: "data" alone, or "train" and "val", with the same class names.
        target: must not exist, or be empty.
        kind: "coco", "voc" or "yolo".
        val_fraction: divide all pictures anew into train and val by a hash of their names; 0 keeps the parts.
        copy: copy the pictures; else COCO names them by relative paths, VOC and YOLO have relative links to them.

    Raises:
        OutputExistsError: the folder has files in it.
        InvalidInputError: no picture can be read, classes of the parts differ, or the folder cannot be written.
    """
    _check_target(target)
    annotations = _merge_classes(parts)
    summary = ConversionSummary(target)
    # COCO boxes may reach over the border; VOC counts from 1 and YOLO's readers refuse shares beyond 0..1.
    cut = kind != "coco"
    readable = {name: _readable(part.pictures, summary, cut=cut) for name, part in parts.items()}
    if val_fraction > 0:
        train, val = hold_out(
            [picture for part in readable.values() for picture in part], val_fraction, lambda item: item.entry.path
        )
        readable = {"train": train, "val": val}
    if not any(readable.values()):
        raise InvalidInputError(
            f"none of the pictures of {annotations.path} can be read; check where they are", path=target
        )
    for name, pictures in readable.items():
        summary.pictures[name] = len(pictures)
        summary.objects[name] = sum(not row.crowd or kind != "yolo" for picture in pictures for row in picture.rows)
    # Beside the final place, so that the relative paths stay right when it is renamed.
    folder = target.with_name(f".{target.name}.part")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        entry = _WRITERS[kind](folder, readable, annotations, copy, summary)
        if target.is_dir():
            target.rmdir()
        folder.rename(target)
    except OSError as exc:
        raise InvalidInputError(
            f"{target} cannot be written: {exc.strerror or exc}; check the disk and its permissions", path=target
        ) from exc
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    summary.entry = target / entry
    return summary


def _check_target(target: Path) -> None:
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise OutputExistsError(
            f"the folder {target} must be new, it exists already; give another, or remove it", path=target
        )


def _merge_classes(parts: Mapping[str, DetectionAnnotations]) -> DetectionAnnotations:
    """Return the first part after checking that all have the same classes, as the parts of one data set do."""
    first, *others = parts.values()
    for part in others:
        if part.class_names != first.class_names:
            raise InvalidInputError(
                f"{part.path} and {first.path} must have the same classes in one order; convert each alone",
                path=part.path,
            )
    return first


def _readable(
    pictures: tuple[PictureAnnotations, ...], summary: ConversionSummary, *, cut: bool
) -> list[ConvertedPicture]:
    """Return the pictures whose size can be read, with the objects that have an area, ``cut`` if asked."""
    kept = []
    for entry in pictures:
        try:
            size_wh = read_image_header(entry.path).size_wh
        except MediaError as exc:
            log.warning("skipped %s: %s", entry.path, exc)
            summary.skipped += 1
            continue
        rows = [row for row in entry.rows if is_usable(row.box)]
        summary.leave_out(len(entry.rows) - len(rows), "boxes without area")
        if cut:
            inside = [row for row in (_cut_row(row, size_wh) for row in rows) if is_usable(row.box)]
            summary.leave_out(len(rows) - len(inside), "boxes outside the picture")
            rows = inside
        kept.append(ConvertedPicture(entry, size_wh, tuple(rows)))
    return kept


def _cut_row(row: BoxRow, size_wh: tuple[int, int]) -> BoxRow:
    x1, y1, x2, y2 = (float(value) for value in clip_boxes(np.asarray(row.box, np.float64), size_wh[::-1]))
    return replace(row, box=(x1, y1, x2, y2))


def _write_coco(
    folder: Path, parts: Parts, annotations: DetectionAnnotations, copy: bool, summary: ConversionSummary
) -> Path:
    paths = [picture.entry.path for pictures in parts.values() for picture in pictures]
    if copy:
        names = {path: f"images/{name}" for path, name in unique_names(paths).items()}
        for path, name in names.items():
            place_picture(path, folder / name, copy=True)
    else:
        names = {path: relative_path(path, folder) for path in paths}
    for part, pictures in parts.items():
        write_coco(folder / _coco_name(part), pictures, names, annotations)
    return Path(_coco_name("train" if "train" in parts else next(iter(parts))))


def _coco_name(part: str) -> str:
    return "annotations.json" if part == "data" else f"{part}.json"


def _write_voc(
    folder: Path, parts: Parts, annotations: DetectionAnnotations, copy: bool, summary: ConversionSummary
) -> Path:
    names = unique_names(picture.entry.path for pictures in parts.values() for picture in pictures)
    lists = folder / "ImageSets" / "Main"
    for place in (folder / "Annotations", lists):
        place.mkdir(parents=True)
    for part, pictures in parts.items():
        for picture in pictures:
            name = names[picture.entry.path]
            place_picture(picture.entry.path, folder / "JPEGImages" / name, copy=copy)
            write_voc(folder / "Annotations" / f"{Path(name).stem}.xml", picture, name, annotations.class_names)
        stems = "".join(f"{Path(names[picture.entry.path]).stem}\n" for picture in pictures)
        (lists / ("trainval.txt" if part == "data" else f"{part}.txt")).write_text(stems, encoding="utf-8")
    used = {row.label for pictures in parts.values() for picture in pictures for row in picture.rows}
    summary.leave_out(
        len(annotations.class_names) - len(used), "classes without objects, for VOC has no list of classes"
    )
    return Path()


def _write_yolo(
    folder: Path, parts: Parts, annotations: DetectionAnnotations, copy: bool, summary: ConversionSummary
) -> Path:
    names = unique_names(picture.entry.path for pictures in parts.values() for picture in pictures)
    written = []
    for part, pictures in parts.items():
        place = "train" if part == "data" else part
        written.append(place)
        (folder / "labels" / place).mkdir(parents=True)
        for picture in pictures:
            name = names[picture.entry.path]
            place_picture(picture.entry.path, folder / "images" / place / name, copy=copy)
            write_yolo(folder / "labels" / place / f"{Path(name).stem}.txt", picture)
            crowds = sum(row.crowd for row in picture.rows)
            summary.leave_out(crowds, "crowd regions, for which YOLO has no place")
            flags = sum(row.difficult + row.truncated for row in picture.rows if not row.crowd)
            summary.leave_out(flags, "flags difficult and truncated, for which YOLO has no place")
    write_settings(folder / "data.yaml", written, annotations.class_names)
    return Path("data.yaml")


_WRITERS = {"coco": _write_coco, "voc": _write_voc, "yolo": _write_yolo}
