"""A model by name to one that is ready: loaded, its first and slow runs done before requests come, and on a GPU the
batch size found that pays."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch

from service.models import KINDS, ServedModel
from vision.runtime.config import RuntimeConfig
from vision.runtime.device_tuning import COMMON_SIZES, BatchTuning, cap_for, tune_batch
from vision.runtime.engine import resolve_device
from vision.types import FloatArray, Frame

GREY = 114
WARM_UP_SIZES = ((360, 640), (640, 480))
# Of a frame with its boxes, which is one input of an embedder: as many as a street shows people.
BOXES = 4
# Runs of each batch size: fewer than where graphs are recorded on the way, for a model without them is a slower one.
RUNS_BEFORE, RUNS_MEASURED = 2, 5


def load_served(kind: str, model: str, runtime: RuntimeConfig) -> ServedModel:
    """Return the loaded model, which has run: the first forward pass is the slow one.

    Raises:
        DeviceMemoryError: the device has no room for it.
        ModelError, WeightsError, ConfigError, MissingDependencyError: it cannot be loaded.
    """
    served: ServedModel = KINDS[kind](model, runtime)
    warm_up(served, resolve_device(runtime.device))
    return served


def warm_up(served: ServedModel, device: torch.device) -> None:
    """Run the model on grey pictures of two shapes; on a GPU, find its ``max_batch`` first, up to 32 inputs.

    Raises:
        DeviceMemoryError: the device has no room for a single input.
    """
    if device.type == "cuda":
        served.max_batch = find_batch(served)
    for size_hw in WARM_UP_SIZES:
        served.run([grey_input(served, size_hw)])


def find_batch(served: ServedModel) -> int:
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


def grey_input(served: ServedModel, size_hw: tuple[int, int]) -> Any:
    """Return a grey picture as the model takes it, for embedders with boxes."""
    frame = Frame(np.full((*size_hw, 3), GREY, np.uint8), source="warm-up")
    return served.prepare(frame, upright_boxes(size_hw)) if served.task == "embed" else served.prepare(frame)


def upright_boxes(size_hw: tuple[int, int]) -> FloatArray:
    """Return boxes xyxy [BOXES, 4] side by side, twice as high as wide."""
    height, width = size_hw[0] / 2, size_hw[0] / 4
    lefts = np.linspace(0, size_hw[1] - width, BOXES)
    return np.stack([lefts, np.zeros(BOXES), lefts + width, np.full(BOXES, height)], axis=1).astype(np.float32)
