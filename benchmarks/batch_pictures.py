"""Pictures for the measurements of batch jobs: made from a seed, the same on every machine, of a photograph's size.

Soft noise, drawn shapes and pieces of the demonstration's photograph, so that JPEG has to work as for a photograph and
the detector finds people. 640 x 480, quality 90, about 75 kB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

PHOTOGRAPH = Path(__file__).parent.parent / "docs" / "images" / "demo.jpg"
WIDTH, HEIGHT, QUALITY = 640, 480, 90
IN_WORDS = f"made from a seed (batch_pictures.py): {WIDTH} x {HEIGHT}, JPEG of quality {QUALITY}"
Picture = npt.NDArray[np.uint8]


def write_pictures(folder: Path, count: int, *, distinct: int | None = None) -> list[Path]:
    """Write ``count`` pictures and return their paths, sorted.

    Args:
        folder: made if need be.
        count: of files.
        distinct: pictures that differ; the other files are further names of these, so that 10,000 need little disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06}.jpg" for number in range(count)]
    photograph = cv2.imread(str(PHOTOGRAPH))
    distinct = min(count, distinct or count)
    for number, path in enumerate(paths):
        if number < distinct:
            path.write_bytes(encode(draw(number, photograph)))
        else:
            os.link(paths[number % distinct], path)
    return paths


def damage(paths: Sequence[Path]) -> None:
    """Make pictures unreadable, each in another way: no picture, empty, cut short twice, a header of zeros."""
    ways = [
        lambda data: b"this is no picture",
        lambda data: b"",
        lambda data: data[:300],
        lambda data: data[:2] + bytes(600) + data[602:],
        lambda data: data[: len(data) // 2],
    ]
    for number, path in enumerate(paths):
        data = ways[number % len(ways)](path.read_bytes())
        # A new file: the old one may have other names.
        path.unlink()
        path.write_bytes(data)


def draw(number: int, photograph: Picture) -> Picture:
    """Return picture ``number``."""
    random = np.random.default_rng([32, number])
    image = _soft_noise(random)
    for points, colour in _shapes(random):
        cv2.fillPoly(image, [points], colour, cv2.LINE_AA)
    for _ in range(2):
        _paste(image, photograph, random)
    # The noise of a sensor: what most of a photograph's bytes are spent on.
    grain = random.integers(-12, 13, (HEIGHT // 2, WIDTH // 2), np.int16)
    grain = cv2.resize(grain, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    mixed: Picture = np.clip(image.astype(np.int16) + grain[..., None], 0, 255).astype(np.uint8)
    return mixed


def encode(image: Picture) -> bytes:
    """Return a picture as JPEG."""
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])


def _soft_noise(random: np.random.Generator) -> Picture:
    """Return noise whose strength falls with its frequency, as that of natural pictures does."""
    total = np.full((HEIGHT, WIDTH, 3), 128, np.float32)
    for cells, strength in ((3, 50), (9, 28), (27, 14), (81, 8)):
        small = random.normal(0, strength, (cells, cells * 4 // 3, 3)).astype(np.float32)
        total += cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    clipped: Picture = np.clip(total, 0, 255).astype(np.uint8)
    return clipped


def _shapes(random: np.random.Generator) -> Iterator[tuple[npt.NDArray[np.int32], Any]]:
    for _ in range(6):
        centre, reach = random.uniform((0, 0), (WIDTH, HEIGHT)), random.uniform(20, 120)
        points = centre + random.uniform(-reach, reach, (int(random.integers(3, 7)), 2))
        yield points.astype(np.int32), random.integers(0, 256, 3).tolist()


def _paste(image: Picture, photograph: Picture, random: np.random.Generator) -> None:
    """Put a piece of the photograph somewhere, larger or smaller, perhaps mirrored."""
    scale = random.uniform(0.9, 1.6)
    width, height = int(random.integers(180, 360) / scale), int(min(photograph.shape[0], 260 / scale))
    left = int(random.integers(0, photograph.shape[1] - width))
    piece = cv2.resize(photograph[-height:, left : left + width], None, fx=scale, fy=scale)[:HEIGHT, :WIDTH]
    if random.random() < 0.5:
        piece = piece[:, ::-1]
    x, y = int(random.integers(0, WIDTH - piece.shape[1])), int(random.integers(0, HEIGHT - piece.shape[0] + 1))
    image[y : y + piece.shape[0], x : x + piece.shape[1]] = piece
