"""Telling index masks of a segmentation from pictures: a palette or grey file of few values in large flat areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vision.errors import MediaError
from vision.io.image_header import ImageHeader
from vision.io.images import DECODE_ERRORS
from vision.training.datasets.findings import Finding

MASK_MODES = frozenset({"P", "L", "1", "I", "I;16"})
# More classes than public sets of index masks have; of 60 COCO pictures made grey, none has fewer than 163 values.
MAX_VALUES = 160
# Share of neighbours in a row that are equal: 0.98 in CamVid's masks; 0.28 in those grey pictures, 0.63 at most.
MIN_FLATNESS = 0.8
_SAMPLE = 8
# Pillow warns of larger ones by itself; no mask of a photograph has as many.
_MAX_PIXELS = 80_000_000


def find_masks(headers: Mapping[Path, ImageHeader | MediaError]) -> tuple[int, list[Finding]]:
    """Return how many of the pictures were looked at, a few spread evenly, and a finding for each that is a mask."""
    readable = [path for path, header in headers.items() if isinstance(header, ImageHeader)]
    sample = readable[:: max(1, len(readable) // _SAMPLE)][:_SAMPLE]
    suspects = [path for path in sample if may_be_mask(headers[path])]
    findings = [mask_finding(path, values) for path in suspects if (values := count_mask_values(path))]
    return len(sample), findings


def may_be_mask(header: ImageHeader | MediaError) -> bool:
    """Return whether the kind of pixels is one that index masks are stored in."""
    if not isinstance(header, ImageHeader) or header.stored_wh[0] * header.stored_wh[1] > _MAX_PIXELS:
        return False
    return header.format in ("PNG", "BMP", "TIFF") and header.mode in MASK_MODES


def count_mask_values(path: Path) -> int:
    """Return the number of values of an index mask, 0 if the file is a picture or cannot be decoded."""
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except DECODE_ERRORS:
        return 0
    count, flat = len(np.unique(values)), values[:, 1:] == values[:, :-1]
    return count if count <= MAX_VALUES and flat.size and flat.mean() >= MIN_FLATNESS else 0


def mask_finding(path: Path, values: int) -> Finding:
    """Return the finding for an index mask of so many values."""
    found = f"this is an index mask ({values} values in flat areas), not a picture"
    fix = "name the folder of the RGB pictures, often images/ or JPEGImages/ beside the masks"
    return Finding("error", "looks-like-mask", path, found, fix)


def all_masks(looked_at: int, findings: Sequence[Finding]) -> bool:
    """Return whether every picture that was looked at is a mask."""
    return looked_at > 0 and len(findings) == looked_at
