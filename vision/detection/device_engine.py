"""Batches of an anchor detector on a device: from pictures that lie there to results on their way back.

What is the same for every task stands in ``vision.runtime.device_batches``; decoding and NMS are what a detector adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from vision.detection.anchors import AnchorConfig, Anchors, make_anchors
from vision.detection.config import DetectorConfig
from vision.detection.device_decode import SETTINGS, Effort, decode_batch
from vision.runtime.config import Precision
from vision.runtime.device_batches import DeviceBatches, HostCopy, PlacedPicture, side_by_side
from vision.runtime.device_graphs import Function, StaticCall
from vision.runtime.device_tuning import bucket_of
from vision.runtime.preprocess import Normalization
from vision.types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class DeviceInput(PlacedPicture):
    """One frame on its way to the device, and how the network's outputs for it are to be read.

    Attributes:
        config: thresholds of this frame.
        settings: float32 row of ``settings_row``.
    """

    config: DetectorConfig
    settings: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class LaunchedBatch:
    """A batch whose work is under way.

    Attributes:
        inputs: in the order in which the caller gave them.
        order: rows of ``inputs`` as they lie in the batch.
        results: float32 [bucket, 1 + W, COLUMNS].
        effort: that it was decoded with.
    """

    inputs: tuple[DeviceInput, ...]
    order: tuple[int, ...]
    results: HostCopy
    effort: Effort


class DeviceEngine:
    """A detector's network with all that comes before and after it, on one device. Safe to share by threads.

    Args: see DeviceDetector; ``num_classes`` is K.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        *,
        anchors: AnchorConfig,
        num_classes: int,
        normalization: Normalization,
        precision: Precision = "fp32",
        graphs: bool = True,
    ) -> None:
        self.device = device
        self._num_classes = num_classes
        self._batches = DeviceBatches(network, device, normalization=normalization, precision=precision, graphs=graphs)
        # A video has one size; a few more serve directories of pictures.
        self._anchors_for: Callable[[tuple[int, int]], Anchors] = lru_cache(maxsize=32)(
            lambda size_hw: make_anchors(anchors, size_hw, device)
        )

    @property
    def name(self) -> str:
        """Engine and device, for logs and records."""
        return self._batches.name

    @property
    def uses_graphs(self) -> bool:
        """Whether shapes that come often become CUDA graphs."""
        return self._batches.uses_graphs

    @property
    def graph_count(self) -> int:
        """CUDA graphs recorded by now."""
        return self._batches.graph_count

    def starting(self) -> AbstractContextManager[None]:
        """In this block graphs are recorded at once and given up last; for the warm-up, while no requests wait."""
        return self._batches.starting()

    def launch(self, inputs: tuple[DeviceInput, ...], effort: Effort, *, keep: bool = True) -> LaunchedBatch:
        """Start the work of a batch of one shape, at most as many as the largest bucket, without waiting for it.

        Without ``keep`` its buffers are for this batch alone, and no graph is recorded.

        Raises:
            DeviceMemoryError: the device has no room, even without the buffers and graphs of other shapes.
        """
        return self._batches.launch(len(inputs), lambda: self._enqueue(inputs, effort, keep), keep=keep)

    def close(self) -> None:
        """Give up what was recorded, which refers to this engine and so would outlive it."""
        self._batches.close()

    def _enqueue(self, inputs: tuple[DeviceInput, ...], effort: Effort, keep: bool) -> LaunchedBatch:
        order = side_by_side(inputs)
        bucket, size_hw = bucket_of(len(inputs)), inputs[0].letterbox.padded_hw
        calls, key = self._batches.calls, (bucket, size_hw, effort)
        call = calls.call(key, lambda: self._make_call(bucket, size_hw, effort), keep=keep)
        self._fill(call, [inputs[row] for row in order])
        return LaunchedBatch(inputs, order, self._batches.to_host(calls.run(call)), effort)

    def _make_call(
        self, bucket: int, size_hw: tuple[int, int], effort: Effort
    ) -> tuple[Function, tuple[Tensor, Tensor, Tensor]]:
        """Return the function of a batch's shape and its input buffers: pictures, settings and anchors."""
        settings = torch.zeros((bucket, SETTINGS + self._num_classes), device=self.device)

        def run(images_BCHW: Tensor, settings_BS: Tensor, anchors_A4: Tensor) -> Tensor:  # noqa: N803
            logits, deltas = self._batches.network(images_BCHW)
            return decode_batch(logits, deltas, anchors_A4, settings_BS, effort)

        return run, (self._batches.images(bucket, size_hw), settings, self._anchors_for(size_hw).boxes)

    def _fill(self, call: StaticCall, rows: Sequence[DeviceInput]) -> None:
        """Write the pictures and settings of a batch into the buffers of a call."""
        images, settings, _ = call.inputs
        self._batches.write(rows, images)
        # Unused places get settings of zeros, with which nothing is found.
        values = torch.zeros(settings.shape, pin_memory=self._batches.pins)
        values[: len(rows)] = torch.from_numpy(np.stack([item.settings for item in rows]))
        settings.copy_(values, non_blocking=True)
