"""The smallest worked example: a perceptron, a two-layer perceptron and LeNet-5 learn to read digits.

    python examples/digits.py --out runs/digits

scikit-learn's 1,797 digits of 8 x 8 pixels are written as folders of pictures, each network is trained from scratch on
1,438 of them as ``stride32 train classifier`` does, and the rest measure it. Prints a table and draws the curves of
loss and accuracy by epoch. Needs ``pip install 'stride32[train,examples]'``; takes about two minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vision.backbones.registry import build_classifier
from vision.training.classifier_config import ClassifierTrainingConfig
from vision.training.fit_classifier import train_classifier
from vision.training.run import read_metrics

NETWORKS = ("perceptron", "mlp", "lenet5")
# Validated colours, told apart by people with any colour vision; markers help where print is grey.
COLOURS = {"perceptron": "#2a78d6", "mlp": "#1baf7a", "lenet5": "#d64550"}
MARKERS = {"perceptron": "o", "mlp": "s", "lenet5": "^"}
VAL_EVERY = 5  # the fifth picture of five goes to validation


@dataclass(frozen=True)
class Result:
    """One trained network: weights, processor seconds of the run, accuracy at the end, and its curves by epoch."""

    network: str
    weights: int
    seconds: float
    accuracy: float
    val_loss: list[float]
    val_accuracy: list[float]


def write_digits(folder: Path, *, limit: int | None = None) -> Path:
    """Write the (first) digits as ``folder/train/7/0123.png`` and ``folder/val/7/...``, and return the folder."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:limit], digits.target[:limit], strict=True)):
        part = "val" if number % VAL_EVERY == VAL_EVERY - 1 else "train"
        path = folder / part / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Ink from 0 to 16 becomes white on black from 0 to 255.
        cv2.imwrite(str(path), np.round(image * 255 / 16).astype(np.uint8))
    return folder


def train_network(network: str, data: Path, out: Path, *, epochs: int) -> Result:
    """Train one network from scratch and return what came of it."""
    config = ClassifierTrainingConfig(
        data=data,
        out=out / network,
        name=network,
        backbone=network,
        pretrained=False,
        epochs=epochs,
        lr=3e-3,
        resize="stretch",
        crop_range=(0.8, 1.0),
        flip=False,  # a mirrored digit is none
        colour=0.0,
        resume=False,
        threads=1,
        device="cpu",
        data_name="scikit-learn digits",
        data_terms="UCI Optical Recognition of Handwritten Digits, CC BY 4.0",
    )
    start = time.process_time()
    train_classifier(config)
    seconds = time.process_time() - start
    losses, accuracies = read_curves(out / network / "metrics")
    weights = sum(weight.numel() for weight in build_classifier(network, 10).parameters())
    return Result(network, weights, seconds, read_metrics(out / network)["accuracy"], losses, accuracies)


def read_curves(metrics: Path) -> tuple[list[float], list[float]]:
    """Return loss and accuracy on the validation pictures after each epoch, from the newest log of a run."""
    newest = max(metrics.glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    columns: dict[str, list[float]] = {"val_loss": [], "val_accuracy": []}
    with newest.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, values in columns.items():
                if row.get(name):
                    values.append(float(row[name]))
    return columns["val_loss"], columns["val_accuracy"]


def draw_curves(results: list[Result], path: Path) -> None:
    """Draw loss and accuracy by epoch of all networks side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), dpi=100, layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for result in results:
        style = {"color": COLOURS[result.network], "marker": MARKERS[result.network], "markersize": 3.5}
        for axes, values in ((loss_axes, result.val_loss), (accuracy_axes, result.val_accuracy)):
            axes.plot(range(1, len(values) + 1), values, label=result.network, linewidth=1.5, **style)
    loss_axes.set(title="validation loss", xlabel="epoch", ylim=(0, None))
    accuracy_axes.set(title="validation accuracy", xlabel="epoch")
    for axes in (loss_axes, accuracy_axes):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    accuracy_axes.legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main(argv: list[str] | None = None) -> list[Result]:
    """Write the data, train the networks, print the table and draw the curves."""
    parser = argparse.ArgumentParser(description="Perceptron, MLP and LeNet-5 on scikit-learn's digits.")
    parser.add_argument("--out", type=Path, default=Path("runs/digits"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N digits")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = parser.parse_args(argv)
    data = write_digits(options.out / "data", limit=options.limit)
    results = [train_network(name, data, options.out, epochs=options.epochs) for name in options.networks]
    draw_curves(results, options.out / "curves.png")
    print("| network | weights | accuracy | CPU seconds |\n|---|---|---|---|")
    for result in results:
        print(f"| {result.network} | {result.weights:,} | {result.accuracy:.3f} | {math.ceil(result.seconds)} |")
    print(f"curves in {options.out / 'curves.png'}; models in {options.out}/NETWORK/NETWORK")
    return results


if __name__ == "__main__":
    main()
