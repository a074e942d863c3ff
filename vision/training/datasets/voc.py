"""Detection data in Pascal VOC XML: one file a picture, from files to annotations.

VOC counts pixels from 1 and its box includes the last one, so xmin 1, xmax 10 covers our [0, 10] (VOC2012 development
kit, section 3). Tools that count from 0 are known by a coordinate below 1; their corners are taken as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from vision.errors import InvalidInputError
from vision.io.images import IMAGE_SUFFIXES
from vision.io.listing import natural_key
from vision.training.datasets.annotations import BoxRow, DetectionAnnotations, Part, PictureAnnotations
from vision.training.datasets.findings import Finding

# The annotation of one picture: VOC's own are below 10 KB, and one with 10,000 objects is about 3 MB.
MAX_XML_BYTES = 16 * 1024 * 1024
_LIST_FOLDER = Path("ImageSets") / "Main"


@dataclass(frozen=True, slots=True)
class _Object:
    """One object element; ``corners`` are xmin, ymin, xmax, ymax as written."""

    name: str
    corners: tuple[float, float, float, float]
    place: str
    crowd: bool
    difficult: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class _File:
    """One parsed XML file."""

    path: Path
    picture: Path
    declared_wh: tuple[int, int] | None
    objects: tuple[_Object, ...]
    unusable: int


def read_voc_annotations(path: Path, part: Part = "all") -> DetectionAnnotations:
    """Return what a VOC folder annotates; class names are sorted, over all of its files whatever ``part`` is.

    Args:
        path: a folder with ``Annotations/`` and ``JPEGImages/`` (or ``images/``), a folder of XML files beside their
            pictures, or a list ``ImageSets/Main/NAME.txt`` of such a folder, which is then the part that is read.
        part: "train" or "val" reads that list of ``ImageSets/Main`` where there is one, else all.

    Raises:
        InvalidInputError: no XML file, or none that can be used.
    """
    root, listed = voc_root(path), part_list(path, part)
    folder = root / "Annotations" if (root / "Annotations").is_dir() else root
    xml_paths = sorted(folder.rglob("*.xml"), key=natural_key)
    if not xml_paths:
        raise InvalidInputError(f"{root} must hold VOC annotations (*.xml), found none; check the path", path=root)
    findings: list[Finding] = []
    pictures_below = _index_pictures(root)
    files = [file for xml in xml_paths if (file := _read_file(xml, root, pictures_below, findings)) is not None]
    if not files:
        raise InvalidInputError(f"none of {len(xml_paths)} XML files can be used: {findings[0]}", path=xml_paths[0])
    names = sorted({item.name for file in files for item in file.objects})
    from_zero = _counts_from_zero(files)
    if from_zero is not None:
        found = (
            f"coordinates below 1 ({from_zero.name}): this set counts pixels from 0, its corners are taken as they are"
        )
        findings.append(Finding("note", "voc-from-zero", from_zero, found, "nothing to do if its boxes look right"))
    wanted = None if listed is None else _read_list(listed, {file.path.stem for file in files}, findings)
    kept = [file for file in files if wanted is None or file.path.stem in wanted]
    offset = 0.0 if from_zero is not None else 1.0
    pictures = tuple(_picture(file, number, root, names, offset) for number, file in enumerate(kept, start=1))
    return DetectionAnnotations("voc", path, root, tuple(names), pictures, tuple(findings))


def voc_root(path: Path) -> Path:
    """Return the folder of the data set that a VOC path belongs to: of a list in ImageSets/Main, the one above."""
    return path.parents[2] if path.is_file() and is_voc_list(path) else path


def is_voc_list(path: Path) -> bool:
    """Return whether the path is a text file inside ``ImageSets/Main``."""
    return path.suffix.lower() == ".txt" and path.parent.parts[-2:] == _LIST_FOLDER.parts


def part_list(path: Path, part: Part) -> Path | None:
    """Return the list file of a part, or None when all files are to be read."""
    if path.is_file():
        return path
    listed = path / _LIST_FOLDER / f"{part}.txt"
    return listed if part != "all" and listed.is_file() else None


def _read_list(path: Path, known: set[str], findings: list[Finding]) -> set[str]:
    """Return the picture names of a list; each line's first word counts, as class lists have a second one."""
    wanted = {words[0] for line in path.read_text(encoding="utf-8-sig").splitlines() if (words := line.split())}
    absent = sorted(wanted - known)
    if absent:
        found = f"{len(absent)} names of the list have no annotation file, first: {absent[0]}"
        findings.append(Finding("warning", "missing-annotation", path, found, "add the XML files or remove the names"))
    if not wanted & known:
        raise InvalidInputError(
            f"{path} must list names of annotation files without .xml, one a line; none of {len(wanted)} is known; "
            "check the list",
            path=path,
        )
    return wanted


def _index_pictures(root: Path) -> dict[str, Path]:
    """Return the pictures below the folder by stem; the shallowest wins, a mask folder of VOC never does."""
    masks = {"SegmentationClass", "SegmentationObject"}
    found = [path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and not masks & set(path.parts)]
    return {path.stem: path for path in sorted(found, key=lambda path: len(path.parts), reverse=True)}


def _read_file(xml: Path, root: Path, pictures: dict[str, Path], findings: list[Finding]) -> _File | None:
    """Return the parsed file, or None after reporting that it cannot be parsed."""
    try:
        element = parse_xml(xml)
    except InvalidInputError as exc:
        findings.append(Finding("error", "bad-xml", xml, str(exc), "export the annotation of this picture again"))
        return None
    objects, unusable = [], 0
    for number, item in enumerate(element.iter("object"), start=1):
        try:
            objects.append(_read_object(item, f"object {number}"))
        except ValueError as exc:
            unusable += 1
            fix = "give a name and bndbox with xmin, ymin, xmax, ymax, finite numbers of pixels"
            findings.append(Finding("error", "bad-row", xml, f"object {number} cannot be read: {exc}", fix))
    return _File(xml, _find_picture(element, xml, root, pictures), _declared_size(element), tuple(objects), unusable)


def parse_xml(path: Path) -> Any:
    """Return the root of a small XML file; a DTD is refused, since its entities can grow to gigabytes.

    Raises:
        InvalidInputError: too large, no well-formed XML, or a DTD in it.
    """
    if path.stat().st_size > MAX_XML_BYTES:
        raise InvalidInputError(f"{path.name} must have at most {MAX_XML_BYTES} bytes, has more", path=path)
    try:
        element = fromstring(path.read_bytes(), forbid_dtd=True)
    except DefusedXmlException as exc:
        raise InvalidInputError(f"{path.name} must be plain XML, has a DTD or entities", path=path) from exc
    except (ParseError, ValueError, LookupError) as exc:
        raise InvalidInputError(f"{path.name} must be XML, cannot parse it: {exc}", path=path) from exc
    if element.tag != "annotation":
        raise InvalidInputError(f"{path.name} must have the element annotation, got {element.tag}", path=path)
    return element


def _read_object(item: Element, place: str) -> _Object:
    name, box = (item.findtext("name") or "").strip(), item.find("bndbox")
    if not name:
        raise ValueError("it has no name")
    if box is None:
        raise ValueError("it has no bndbox")
    texts = [box.findtext(key) for key in ("xmin", "ymin", "xmax", "ymax")]
    if any(text is None for text in texts):
        raise ValueError("its bndbox lacks a corner")
    corners = [float(str(text)) for text in texts]
    if not all(math.isfinite(value) for value in corners):
        raise ValueError(f"its bndbox is {corners}")
    crowd = _flag(item, "iscrowd")
    # For tools that do not know iscrowd, a crowd is written as difficult too.
    return _Object(
        name,
        (corners[0], corners[1], corners[2], corners[3]),
        place,
        crowd=crowd,
        difficult=_flag(item, "difficult") and not crowd,
        truncated=_flag(item, "truncated"),
    )


def _flag(item: Element, name: str) -> bool:
    return (item.findtext(name) or "").strip().lower() in ("1", "true")


def _find_picture(element: Element, xml: Path, root: Path, pictures: dict[str, Path]) -> Path:
    """Return the picture of an annotation: by the file name in it, else by its own; tools often miss the suffix."""
    name = (element.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
    for folder in (root / "JPEGImages", root / "images", xml.parent):
        if name and (folder / name).is_file():
            return folder / name
    for stem in (xml.stem, Path(name).stem):
        if stem in pictures:
            return pictures[stem]
    return (root / "JPEGImages" if (root / "JPEGImages").is_dir() else xml.parent) / (name or f"{xml.stem}.jpg")


def _declared_size(element: Element) -> tuple[int, int] | None:
    try:
        width, height = (int(float(element.findtext(f"size/{key}") or "")) for key in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _counts_from_zero(files: Sequence[_File]) -> Path | None:
    """Return a file that shows that pixels are counted from 0, if any does; boxes in 0..1 show nothing."""
    for file in files:
        for item in file.objects:
            if 0 <= min(item.corners[:2]) < 1 < max(item.corners):
                return file.path
    return None


def _picture(file: _File, number: int, root: Path, names: list[str], offset: float) -> PictureAnnotations:
    inside = file.picture.is_relative_to(root)
    return PictureAnnotations(
        path=file.picture,
        name=file.picture.relative_to(root).as_posix() if inside else file.picture.name,
        image_id=number,
        source=file.path,
        declared_wh=file.declared_wh,
        rows=tuple(_row(item, names.index(item.name), offset) for item in file.objects),
        unusable=file.unusable,
    )


def _row(item: _Object, label: int, offset: float) -> BoxRow:
    x1, y1, x2, y2 = item.corners
    return BoxRow((x1 - offset, y1 - offset, x2, y2), label, item.place, item.crowd, item.difficult, item.truncated)
