"""A figure of what each skip of an FCN buys: picture, one column a model, truth; with mIoU and a legend.

    python benchmarks/draw_fcn_skips.py --models runs/fcn32s/street-fcn32s runs/fcn16s/street-fcn16s street-fcn8s \
        --pictures camvid/val/images/0016E5_07959.webp camvid/val/images/0016E5_08059.webp --out figure.png

The truth of a picture is the PNG of its name in ``--masks``, by default the folder "masks" beside that of the picture.
With ``--data DIR`` the mIoU of each model on the whole data stands above its column, else the one of its card. One
model gives overlays beside their truth; ``--crop X,Y,W,H`` draws a part of every picture, where the columns differ.
The mark @ after a picture takes a part of this picture alone: 0016E5_08059.webp@150,130,160,120.
"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from vision.build import build_segmenter
from vision.evaluation.segmentation import measure_segmenter
from vision.io.images import read_image
from vision.palette import mask_palette
from vision.render_segmentation import blend_segmentation, classes_shown
from vision.runtime.config import RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.store import find_model
from vision.training.datasets.masks import MaskFormat, read_mask
from vision.training.datasets.measured_masks import measured_format, measured_pictures
from vision.types import Frame, ImageArray, SegmentationMap

INK, FAINT, PAPER = (28, 30, 34), (105, 110, 118), (255, 255, 255)
GAP, MARGIN = 6, 10
IGNORE = 255
UNKNOWN = "not labelled"
UNKNOWN_RGB = (225, 225, 225)

Labels = npt.NDArray[np.uint8]
Part = tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """A picture, its true labels, and the part that is drawn (x, y, width, height), None for all."""

    image: ImageArray
    truth: Labels
    part: Part | None


@dataclass(frozen=True)
class Column:
    """A model's maps of the scenes, and what stands above them."""

    title: str
    score: str
    maps: list[SegmentationMap]


def read_scene(text: str, masks: Path | None, part: Part | None, names: tuple[str, ...]) -> Scene:
    """Return the scene that ``PICTURE`` or ``PICTURE@X,Y,W,H`` names, whose mask has the classes ``names``."""
    name, _, own = text.partition("@")
    path = Path(name)
    mask = (masks or path.parents[1] / "masks") / f"{path.stem}.png"
    image, truth = read_image(path).image, read_mask(mask, MaskFormat(names, IGNORE))
    if truth.shape != image.shape[:2]:
        raise SystemExit(
            f"{mask} must have the size of {path}, {image.shape[:2]}, got {truth.shape}; give its folder with --masks"
        )
    return Scene(image, truth, parse_part(own) if own else part)


def parse_part(text: str) -> Part:
    """Return x, y, width and height."""
    x, y, width, height = (int(number) for number in text.split(","))
    return x, y, width, height


def run_model(model: str, scenes: list[Scene], data: Path | None, title: str | None) -> Column:
    """Return a model's column; the score is its mIoU on the data, or the card's."""
    card = find_model(model, kind="segmenter")
    with closing(build_segmenter(SegmenterConfig(model=model), RuntimeConfig(device="cpu"))) as segmenter:
        maps = [segmenter.segment([Frame(scene.image)])[0] for scene in scenes]
        value = next((metric["value"] for metric in card.metrics if metric["name"] == "mIoU"), None)
        if data is not None:
            form = measured_format(data, card.labels, ignore=IGNORE)
            meter = measure_segmenter(segmenter, measured_pictures(data), form, borders=False)
            value = meter.scores()["mIoU"]
    print(json.dumps({"model": Path(model).name, "mIoU": value}))
    stride = card.architecture.get("stride")
    return Column(title or f"FCN-{stride}s", "" if value is None else f"mIoU {value:.3f}", maps)


def true_map(truth: Labels, names: tuple[str, ...]) -> SegmentationMap:
    """Return the truth as a map in which unknown pixels are a class without colour."""
    return SegmentationMap(np.where(truth == IGNORE, len(names), truth).astype(np.uint8), (*names, UNKNOWN))


def draw(scene: Scene, found: SegmentationMap | None, width: int, opacity: float) -> ImageArray:
    """Return one tile: the picture, or the map above it, enlarged or reduced to ``width`` pixels.

    The labels are scaled before they are drawn: borders are then as thin in every tile.
    """
    x, y, w, h = scene.part or (0, 0, scene.image.shape[1], scene.image.shape[0])
    size_wh = width, round(width * h / w)
    shrinks = width < w
    image = cv2.resize(
        scene.image[y : y + h, x : x + w], size_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    if found is None:
        return np.asarray(image, np.uint8)
    labels = cv2.resize(found.labels[y : y + h, x : x + w], size_wh, interpolation=cv2.INTER_NEAREST)
    drawn = blend_segmentation(image, SegmentationMap(labels, found.class_names), opacity=opacity)
    if found.class_names[-1] == UNKNOWN:
        drawn[labels == len(found.class_names) - 1] = UNKNOWN_RGB
    return drawn


def compose(
    scenes: list[Scene], columns: list[Column], names: tuple[str, ...], *, width: int, opacity: float
) -> Image.Image:
    """Return the figure, ``width`` pixels wide."""
    count = len(columns) + 2
    tile = (width - 2 * MARGIN - (count - 1) * GAP) // count
    rows = [
        [
            draw(scene, None, tile, opacity),
            *(draw(scene, column.maps[number], tile, opacity) for column in columns),
            draw(scene, true_map(scene.truth, names), tile, opacity),
        ]
        for number, scene in enumerate(scenes)
    ]
    size = max(11, round(width / 68))
    title_font, font = ImageFont.load_default(round(1.15 * size)), ImageFont.load_default(size)
    head = MARGIN + round(1.5 * size) + (round(1.35 * size) if any(column.score for column in columns) else 0)
    heights = [row[0].shape[0] for row in rows]
    shown = {name for scene in scenes for name in classes_shown(true_map(scene.truth, names))}
    shown |= {name for column in columns for found in column.maps for name in classes_shown(found)}
    legend = lay_out([name for name in (*names, UNKNOWN) if name in shown], width, size, font)
    foot = round(len(legend) * 1.7 * size) + MARGIN
    figure = Image.new("RGB", (width, head + sum(heights) + (len(rows) - 1) * GAP + MARGIN + foot), PAPER)
    pen = ImageDraw.Draw(figure)
    titles = [("picture", ""), *((column.title, column.score) for column in columns), ("truth", "")]
    for number, (title, score) in enumerate(titles):
        middle = MARGIN + number * (tile + GAP) + tile / 2
        pen.text((middle, MARGIN + 0.6 * size), title, INK, title_font, anchor="mm")
        pen.text((middle, MARGIN + 2 * size), score, FAINT, font, anchor="mm")
    y = head
    for row, height in zip(rows, heights, strict=True):
        for number, picture in enumerate(row):
            figure.paste(Image.fromarray(picture), (MARGIN + number * (tile + GAP), y))
        y += height + GAP
    colours = dict(zip(names, mask_palette(names), strict=True)) | {UNKNOWN: UNKNOWN_RGB}
    draw_legend(pen, legend, colours, y + MARGIN - GAP, width, size, font)
    return figure


def lay_out(
    names: list[str], width: int, size: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> list[list[str]]:
    """Return the legend's names in rows that fit."""
    rows: list[list[str]] = [[]]
    for name in names:
        if rows[-1] and legend_width([*rows[-1], name], size, font) > width - 2 * MARGIN:
            rows.append([])
        rows[-1].append(name)
    return rows


def legend_width(names: list[str], size: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> float:
    """Return the pixels that one row takes."""
    return sum(font.getlength(name) + 2.5 * size for name in names) - size


def draw_legend(
    pen: ImageDraw.ImageDraw,
    rows: list[list[str]],
    colours: dict[str, tuple[int, int, int]],
    top: int,
    width: int,
    size: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draw the legend's rows, each centred."""
    for number, row in enumerate(rows):
        x, middle = (width - legend_width(row, size, font)) / 2, top + (number + 0.5) * 1.7 * size
        for name in row:
            pen.rounded_rectangle(
                (x, middle - 0.5 * size, x + size, middle + 0.5 * size), 2, fill=colours[name], outline=FAINT
            )
            pen.text((x + 1.4 * size, middle), name, INK, font, anchor="lm")
            x += font.getlength(name) + 2.5 * size


def main(argv: list[str] | None = None) -> None:
    """Run the models on the pictures and save the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, help="segmenters: names or folders, coarsest first")
    parser.add_argument("--titles", nargs="+", help="above the columns, in place of FCN-32s and so on")
    parser.add_argument("--pictures", nargs="+", required=True, metavar="PICTURE[@X,Y,W,H]")
    parser.add_argument("--masks", type=Path, help="folder of the true index masks")
    parser.add_argument("--data", type=Path, help="pictures and masks as for training, to measure mIoU on")
    parser.add_argument("--crop", type=parse_part, metavar="X,Y,W,H", help="part of every picture")
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--opacity", type=float, default=0.6)
    parser.add_argument("--out", type=Path, required=True, help=".png, .jpg or .webp")
    args = parser.parse_args(argv)
    if args.titles and len(args.titles) != len(args.models):
        parser.error(f"--titles must name each of the {len(args.models)} models, got {len(args.titles)}")
    labels = {find_model(model, kind="segmenter").labels for model in args.models}
    if len(labels) > 1:
        parser.error(f"the models must have the same classes, got {len(labels)} different lists")
    names = labels.pop()
    scenes = [read_scene(text, args.masks, args.crop, names) for text in args.pictures]
    titles = args.titles or [None] * len(args.models)
    columns = [run_model(model, scenes, args.data, title) for model, title in zip(args.models, titles, strict=True)]
    figure = compose(scenes, columns, names, width=args.width, opacity=args.opacity)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.save(args.out, **({"quality": 88} if args.out.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}))
    print(args.out)


if __name__ == "__main__":
    main()
