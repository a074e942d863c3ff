"""A model's first runs: the slow ones, before requests come, and on a GPU the search for the batch size that pays."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from vision.runtime.device_tuning import COMMON_SIZES, BatchTuning, cap_for, tune_batch
from vision.types import FloatArray, Frame

GREY = 114
WARM_UP_SIZES = ((360, 640), (640, 480))
# Of a frame with its boxes, which is one input of an embedder: as many as a street shows people.
BOXES = 4
# Runs of each batch size: fewer than where graphs are recorded on the way, for a model without them is a slower one.
RUNS_BEFORE, RUNS_MEASURED = 2, 5


class WarmedModel(Protocol):
    """The parts of a served model that its first runs need; see ``service.models.ServedModel``."""

    task: str
    max_batch: int

    @property
    def engine(self) -> str:
        """What runs the network."""
        ...

    def prepare(self, frame: Frame, options: Any = None) -> Any:
        """Return one frame's input."""
        ...

    def run(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """Return one answer an input."""
        ...


def warm_up(served: WarmedModel, device: torch.device) -> None:
    """Run the model on grey pictures of two shapes; on a GPU, find its ``max_batch`` first, up to 32 inputs.

    Raises:
        DeviceMemoryError: the device has no room for a single input.
    """
    if device.type == "cuda":
        served.max_batch = find_batch(served)
    for size_hw in WARM_UP_SIZES:
        served.run([grey_input(served, size_hw)])


def find_batch(served: WarmedModel) -> int:
    """Return the batch size from which the model goes no faster, or finds no memory; that of its worst size."""
    launcher = getattr(served, "launcher", None)
    if launcher is not None:
        # Its graphs are recorded on the way.
        return int(launcher.start_up())

    def tune(size_hw: tuple[int, int]) -> BatchTuning:
        item = grey_input(served, size_hw)
        return tune_batch(lambda batch: served.run([item] * batch), warm_up=RUNS_BEFORE, repeats=RUNS_MEASURED)

    # Models that scale every picture to one size are measured once.
    sizes: dict[Hashable, tuple[int, int]] = {grey_input(served, size).shape_key: size for size in COMMON_SIZES}
    return cap_for(list(sizes.values()), tune, f"{served.task} with {served.engine}")


def grey_input(served: WarmedModel, size_hw: tuple[int, int]) -> Any:
    """Return a grey picture as the model takes it, for embedders with boxes."""
    frame = Frame(np.full((*size_hw, 3), GREY, np.uint8), source="warm-up")
    return served.prepare(frame, upright_boxes(size_hw)) if served.task == "embed" else served.prepare(frame)


def upright_boxes(size_hw: tuple[int, int]) -> FloatArray:
    """Return boxes xyxy [BOXES, 4] side by side, twice as high as wide."""
    height, width = size_hw[0] / 2, size_hw[0] / 4
    lefts = np.linspace(0, size_hw[1] - width, BOXES)
    return np.stack([lefts, np.zeros(BOXES), lefts + width, np.full(BOXES, height)], axis=1).astype(np.float32)
