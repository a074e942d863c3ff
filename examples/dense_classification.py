"""A classifier run over whole pictures: heat maps of one class, and what the single run saves over crops.

    python examples/dense_classification.py --out runs/heat
    python examples/dense_classification.py --out runs/heat --pictures street.jpg=cab

EfficientNet-Lite0 with its ImageNet weights becomes convolutional. ``heat.jpg`` has a row for each picture: the
picture, the map of windows of the native size, and that of small windows, with the highest probability below each. Then
every window of the first picture is classified as a crop of its own, and the times and answers are compared. Needs
``pip install 'stride32[train,examples]'``; the pictures without a path come with scikit-image.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vision.classification.classifier import LoadedNetwork
from vision.classification.config import ClassifierConfig
from vision.classification.heat import HeatMapper, build_heat_mapper, draw_heat
from vision.classification.imagenet import load_imagenet_network
from vision.classification.readout import read_logits
from vision.io.images import read_image
from vision.render import contact_sheet
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import EngineInput, build_engine
from vision.runtime.preprocess import preprocess
from vision.types import FloatArray, Frame, ImageArray

# Coffee: CC0, Rachel Michetti. Rocket: public domain, SpaceX. Astronaut: public domain, NASA.
PICTURES = ("coffee=espresso", "rocket=missile", "astronaut=space shuttle")
SMALL_WINDOW = 96
CROPS_AT_ONCE = 16


@dataclass(frozen=True)
class Cost:
    """One run over a picture beside a crop for each window: processor seconds, and how alike the answers are."""

    windows: int
    dense_s: float
    crops_s: float
    same_best: float
    correlation: float


def load_picture(name: str) -> Frame:
    """Return the file of that path, or the picture of that name that scikit-image ships."""
    if Path(name).is_file():
        return read_image(name)
    import skimage.data

    return Frame(np.ascontiguousarray(getattr(skimage.data, name)()[..., :3]))


def mapper_of(loaded: LoadedNetwork, window: int, long_side: int) -> HeatMapper:
    """Return the convolutional form with windows of ``window`` pixels, 0 for the native ones."""
    config = ClassifierConfig(heat_window=window, heat_long_side=long_side)
    return build_heat_mapper(loaded, config, RuntimeConfig(device="cpu", threads=1))


def heat_row(mappers: list[HeatMapper], frame: Frame, name: str) -> tuple[list[ImageArray], list[str]]:
    """Return a picture and its heat maps of the class, with captions."""
    pictures, captions = [frame.image], [name]
    for mapper in mappers:
        heat = mapper.heat(frame.image, mapper.readout.class_names.index(name))
        pictures.append(draw_heat(frame.image, heat))
        captions.append(f"windows of {mapper.grid.window_hw[0]} pixels: up to {heat.max():.2f}")
    return pictures, captions


def compare_with_crops(loaded: LoadedNetwork, mapper: HeatMapper, frame: Frame) -> Cost:
    """Return what one run costs and answers, beside classifying every window of its grid as a crop."""
    grid = mapper.grid
    batch = preprocess(frame.image, grid.letterbox(frame.size_hw), loaded.spec.normalization)
    (height, width), stride = grid.window_hw, grid.stride
    crops = np.stack(
        [
            batch[:, y : y + height, x : x + width]
            for y in range(0, batch.shape[1] - height + 1, stride)
            for x in range(0, batch.shape[2] - width + 1, stride)
        ]
    )
    engine = build_engine(
        loaded.network, EngineInput(grid.window_hw, False, loaded.digest), RuntimeConfig(device="cpu", threads=1)
    )

    def classify_crops() -> FloatArray:
        chunks = [crops[start : start + CROPS_AT_ONCE] for start in range(0, len(crops), CROPS_AT_ONCE)]
        return np.concatenate([read_logits(engine.run(chunk)[0], loaded.readout) for chunk in chunks])

    mapper.windows(frame.image)
    dense, dense_s = timed(lambda: mapper.windows(frame.image))
    literal, crops_s = timed(classify_crops)
    found = dense.reshape(len(dense), -1).T
    same = float((found.argmax(1) == literal.argmax(1)).mean())
    return Cost(len(crops), dense_s, crops_s, same, float(np.corrcoef(found.ravel(), literal.ravel())[0, 1]))


def timed(call: Callable[[], FloatArray]) -> tuple[FloatArray, float]:
    """Return the result of a call and the processor seconds that it took."""
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def main(argv: list[str] | None = None) -> Cost:
    """Draw the maps and compare with crops."""
    parser = argparse.ArgumentParser(description="Heat maps of a classifier made convolutional.")
    parser.add_argument("--out", type=Path, default=Path("runs/heat"))
    parser.add_argument("--pictures", nargs="+", default=list(PICTURES), metavar="PICTURE=CLASS")
    parser.add_argument("--long-side", type=int, default=ClassifierConfig().heat_long_side)
    parser.add_argument("--tile-width", type=int, default=320, help="pixels of a column of heat.jpg")
    options = parser.parse_args(argv)
    loaded = load_imagenet_network(ClassifierConfig().model)
    mappers = [mapper_of(loaded, window, options.long_side) for window in (0, SMALL_WINDOW)]
    tiles: list[ImageArray] = []
    captions: list[str] = []
    for text in options.pictures:
        source, _, name = text.rpartition("=")
        if name not in loaded.readout.class_names or not source:
            parser.error(f"give PICTURE=CLASS with a class of ImageNet, got {text}")
        pictures, texts = heat_row(mappers, load_picture(source), name)
        tiles += pictures
        captions += texts
    options.out.mkdir(parents=True, exist_ok=True)
    sheet = contact_sheet(tiles, len(mappers) + 1, options.tile_width, captions=captions)
    Image.fromarray(sheet).save(options.out / "heat.jpg", quality=85)
    cost = compare_with_crops(loaded, mappers[0], load_picture(options.pictures[0].rpartition("=")[0]))
    print(
        f"{cost.windows} windows: {cost.dense_s:.2f} s in one run, {cost.crops_s:.2f} s as crops, "
        f"{cost.crops_s / cost.dense_s:.0f} times; the same best class in {cost.same_best:.0%} of them, "
        f"correlation of all probabilities {cost.correlation:.2f}"
    )
    print(options.out / "heat.jpg")
    return cost


if __name__ == "__main__":
    main()
