"""Writing YOLO text files and their data.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from vision.geometry.boxes import xyxy_to_cxcywh
from vision.training.convert.rows import ConvertedPicture

# A share of the picture: 1e-7 of 10,000 pixels is a thousandth of one.
_DIGITS = 7


def write_yolo(path: Path, picture: ConvertedPicture) -> None:
    """Write the label file of one picture, whose boxes lie inside it; crowd regions have no place and are left out."""
    width, height = picture.size_wh
    lines = []
    for row in picture.rows:
        if row.crowd:
            continue
        shares = xyxy_to_cxcywh(np.asarray(row.box, np.float64)) / np.asarray([width, height, width, height])
        lines.append(" ".join([str(row.label), *(f"{share:.{_DIGITS}f}" for share in shares)]))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_settings(path: Path, parts: Sequence[str], class_names: Sequence[str]) -> None:
    """Write data.yaml. It has no ``path``: folders are relative to the file, so the data set can be moved."""
    document = {
        **{part: f"images/{part}" for part in parts},
        "nc": len(class_names),
        "names": dict(enumerate(class_names)),
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
