"""The objects of a detection data set as a folder of pictures a class, to train a classifier on.

    python examples/crop_objects.py data/train.json crops/train --min-side 32 --min-count 20

Reads COCO JSON, VOC or YOLO data. Classes with fewer usable objects than ``--min-count`` are left out;
``--classes-from`` takes the classes of another folder instead, for the validation part.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from vision.training.datasets.detection import read_detection_data
from vision.training.datasets.pictures import load_rgb, readable_images


def write_crops(
    data: Path, out: Path, *, min_side: int, min_count: int, classes: set[str] | None = None
) -> Counter[str]:
    """Write ``out/CLASS/PICTURE-N.png`` for each object and return how many there are of each class.

    Args:
        data: detection data. out: a new folder.
        min_side: objects with a shorter side, in pixels, are left out.
        min_count: classes with fewer objects are left out, unless ``classes`` names those to keep.
    """
    images, names = read_detection_data(data, ())
    crops = []
    for image in readable_images(images):
        for number, (box, label) in enumerate(zip(image.boxes, image.labels.tolist(), strict=True)):
            if min(box[2] - box[0], box[3] - box[1]) >= min_side:
                crops.append((image.path, number, np.round(box).astype(int), names[label]))
    counts = Counter(name for *_, name in crops)
    kept = {name for name, count in counts.items() if count >= min_count} if classes is None else classes
    for path, number, (x1, y1, x2, y2), name in crops:
        if name in kept:
            target = out / name / f"{path.stem}-{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), load_rgb(path)[y1:y2, x1:x2, ::-1])
    return Counter({name: count for name, count in counts.items() if name in kept})


def main(argv: list[str] | None = None) -> None:
    """Read the options and write the crops."""
    parser = argparse.ArgumentParser(description="Objects of detection data as class folders.")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--min-side", type=int, default=32)
    parser.add_argument("--min-count", type=int, default=20)
    parser.add_argument("--classes-from", type=Path, metavar="DIR", help="keep the classes that this folder has")
    options = parser.parse_args(argv)
    if options.out.exists():
        parser.error(f"{options.out} exists already; give a new folder")
    classes = {path.name for path in options.classes_from.iterdir()} if options.classes_from else None
    counts = write_crops(
        options.data, options.out, min_side=options.min_side, min_count=options.min_count, classes=classes
    )
    print(
        f"{sum(counts.values())} crops of {len(counts)} classes: "
        + ", ".join(f"{n} {c}" for n, c in counts.most_common())
    )


if __name__ == "__main__":
    main()
