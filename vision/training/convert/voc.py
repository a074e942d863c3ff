"""Writing Pascal VOC XML: one file a picture, pixels counted from 1."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from vision.training.convert.rows import ConvertedPicture
from vision.training.datasets.annotations import BoxRow

_DIGITS = 3


def write_voc(path: Path, picture: ConvertedPicture, name: str, class_names: tuple[str, ...]) -> None:
    """Write one XML file.

    Coordinates keep up to three decimals; readers that want whole pixels round them.

    Args:
        path: the file; its folder exists.
        picture: its picture and objects.
        name: file name of the picture in ``JPEGImages``.
        class_names: by label.
    """
    root = Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", name)
    size = SubElement(root, "size")
    for key, value in (("width", picture.size_wh[0]), ("height", picture.size_wh[1]), ("depth", 3)):
        _add(size, key, str(value))
    _add(root, "segmented", "0")
    for row in picture.rows:
        _add_object(root, row, class_names[row.label])
    indent(root, "  ")
    ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _add_object(root: Element, row: BoxRow, name: str) -> None:
    item = SubElement(root, "object")
    _add(item, "name", name)
    _add(item, "pose", "Unspecified")
    _add(item, "truncated", str(int(row.truncated)))
    # VOC has no crowds; difficult keeps its readers from counting the region as an object, iscrowd tells ours.
    _add(item, "difficult", str(int(row.difficult or row.crowd)))
    if row.crowd:
        _add(item, "iscrowd", "1")
    box = SubElement(item, "bndbox")
    x1, y1, x2, y2 = row.box
    for key, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
        _add(box, key, _number(value))


def _add(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = text


def _number(value: float) -> str:
    return f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".")
