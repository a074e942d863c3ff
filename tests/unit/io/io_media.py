"""Small pictures and videos made on the spot; tests show only what matters about them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

TIME_BASE = Fraction(1, 90_000)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants(height: int = 48, width: int = 64) -> np.ndarray:
    """Return a picture whose corners are red, green (right), blue (below) and white, so that any turn shows."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, WHITE
    return image


def corners(image: np.ndarray) -> list[str]:
    """Return the colour names of the corners: top left, top right, bottom left, bottom right."""
    names = {RED: "red", GREEN: "green", BLUE: "blue", WHITE: "white"}
    picked = [image[3, 3], image[3, -4], image[-4, 3], image[-4, -4]]
    return [names[min(names, key=lambda rgb: int(np.abs(np.subtract(rgb, pixel)).sum()))] for pixel in picked]


def encode_image(image: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the picture as a file of that kind."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def bomb_png(width: int = 12_000, height: int = 12_000) -> bytes:
    """Return a short PNG whose header claims width x height pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def moving_picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return the quadrants with a grey bar whose place tells the frame."""
    image = quadrants(height, width)
    image[8:-8, (index * 3) % width :][:, :4] = 128
    return image


def write_clip(
    path: Path,
    times_s: Sequence[float],
    *,
    size_hw: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation: int | None = None,
    hflip: bool = False,
    options: dict[str, str] | None = None,
    time_base: Fraction = TIME_BASE,
) -> Path:
    """Write a clip with one frame at each time."""
    muxer = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=muxer) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = size_hw
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=hflip)
        for index, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(moving_picture(index, *size_hw), format="rgb24")
            frame.pts, frame.time_base = round(time_s / time_base), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def steady(n_frames: int, fps: float = 25) -> list[float]:
    """Return the times of a constant frame rate."""
    return [index / fps for index in range(n_frames)]
