"""Small detection data sets in each format; tests show only what matters about them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 60, 40


def write_picture(
    path: Path, seed: int = 0, *, size_wh: tuple[int, int] = (WIDTH, HEIGHT), orientation: int = 1
) -> Path:
    """Write a picture of smooth noise, another for each seed; the size is that of the stored pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif} if orientation != 1 else {}
    Image.fromarray(cells).resize(size_wh, Image.Resampling.BICUBIC).save(path, **options)
    return path


def coco_object(image_id: int, bbox: Sequence[float], category_id: int = 1, **fields: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), **fields}


def write_coco(
    path: Path,
    objects: Sequence[Mapping[str, Any]] = (),
    *,
    pictures: int = 3,
    categories: Mapping[int, str] | None = None,
    size: bool = True,
    first_seed: int = 1,
) -> Path:
    """Write pictures 1.png, 2.png ... (ids from 1) in a folder of the file's name, and the COCO file."""
    rows: list[dict[str, Any]] = []
    for number in range(1, pictures + 1):
        name = f"{path.stem}/{number}.png"
        write_picture(path.parent / name, first_seed + number)
        rows.append({"id": number, "file_name": name} | ({"width": WIDTH, "height": HEIGHT} if size else {}))
    names = {1: "car", 2: "bus"} if categories is None else categories
    document = {
        "images": rows,
        "annotations": [{"id": number, **row} for number, row in enumerate(objects, start=1)],
        "categories": [{"id": key, "name": name} for key, name in names.items()],
    }
    path.write_text(json.dumps(document))
    return path


def voc_object(name: str, corners: Sequence[float], **fields: int) -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    flags = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items())
    return f"<object><name>{name}</name>{flags}<bndbox>{box}</bndbox></object>"


def voc_xml(name: str, *objects: str, size_wh: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    size = f"<size><width>{size_wh[0]}</width><height>{size_wh[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size}{''.join(objects)}</annotation>"


def write_voc(root: Path, objects: Mapping[str, Sequence[str]], **lists: Sequence[str]) -> Path:
    """Write a VOC folder of pictures by stem with their objects, and lists such as ``train=["a"]``."""
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    for seed, (stem, rows) in enumerate(objects.items()):
        write_picture(root / "JPEGImages" / f"{stem}.jpg", seed)
        (root / "Annotations" / f"{stem}.xml").write_text(voc_xml(f"{stem}.jpg", *rows))
    for name, stems in lists.items():
        path = root / "ImageSets" / "Main" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{stem}\n" for stem in stems))
    return root


def write_yolo(root: Path, labels: Mapping[str, str], settings: str | None = None, *, suffix: str = ".png") -> Path:
    """Write pictures below ``images`` by their name without suffix, their label files, and data.yaml if given."""
    for seed, (name, text) in enumerate(labels.items()):
        write_picture(root / "images" / f"{name}{suffix}", seed)
        path = root / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if settings is not None:
        (root / "data.yaml").write_text(settings)
    return root
