"""Batches of an anchor detector on a device: from pictures that lie there to results on their way back.

Pictures come as uint8 through pinned buffers, copied while the device computes the batch before. Resizing, network,
decoding and NMS follow on one stream without the host looking at a number, and one copy brings the results of the batch
back: one wait a batch. Every step runs on the CPU as well, which is how it is tested without a GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from vision.detection.anchors import AnchorConfig, Anchors, make_anchors
from vision.detection.config import DetectorConfig
from vision.detection.device_decode import SETTINGS, Effort, decode_batch
from vision.errors import DeviceMemoryError
from vision.geometry.letterbox import Letterbox
from vision.runtime.config import Precision
from vision.runtime.device_graphs import Function, StaticCall, StaticCalls
from vision.runtime.device_memory import DevicePicture, device_memory, new_stream
from vision.runtime.device_resize import DeviceResizer
from vision.runtime.device_tuning import bucket_of
from vision.runtime.preprocess import Normalization
from vision.runtime.torch_engine import AUTOCAST_TYPES
from vision.types import FloatArray

# Weights of these are kept in the type that autocast computes them in; otherwise each run would convert them anew.
CONVERTED = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True, slots=True, eq=False)
class DeviceInput:
    """One frame on its way to the device, and how the network's outputs for it are to be read.

    Attributes:
        picture: on the device, of the frame's own size.
        letterbox: in which the network sees it.
        config: thresholds of this frame.
        settings: float32 row of ``settings_row``.
        is_odd: it asks for what the model is seldom asked for, see ``DeviceDetector``.
    """

    picture: DevicePicture
    letterbox: Letterbox
    config: DetectorConfig
    settings: FloatArray
    is_odd: bool = False

    @property
    def shape_key(self) -> Hashable:
        """Inputs with equal keys can share a batch."""
        return (*self.letterbox.padded_hw, "odd") if self.is_odd else self.letterbox.padded_hw

    @property
    def nbytes(self) -> int:
        """Memory that waiting for the network takes, on the device."""
        return self.picture.pixels.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class LaunchedBatch:
    """A batch whose work is under way.

    Attributes:
        inputs: in the order in which the caller gave them.
        order: rows of ``inputs`` as they lie in the batch.
        results: float32 [bucket, 1 + W, COLUMNS] in host memory, complete after ``finished``.
        effort: that it was decoded with.
        finished: None without CUDA.
    """

    inputs: tuple[DeviceInput, ...]
    order: tuple[int, ...]
    results: Tensor
    effort: Effort
    finished: torch.cuda.Event | None


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
        self._autocast_type = AUTOCAST_TYPES.get(precision) if device.type == "cuda" else None
        self._network = place_network(network, device, self._autocast_type)
        self._resizer = DeviceResizer(device, normalization)
        self._calls = StaticCalls(device, graphs=graphs)
        self._turn = threading.Lock()
        # A video has one size; a few more serve directories of pictures.
        self._anchors_for: Callable[[tuple[int, int]], Anchors] = lru_cache(maxsize=32)(
            lambda size_hw: make_anchors(anchors, size_hw, device)
        )
        self._stream = new_stream(device) if device.type == "cuda" else None
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))

    @property
    def name(self) -> str:
        """Engine and device, for logs and records."""
        return f"device:{self.device}"

    @property
    def uses_graphs(self) -> bool:
        """Whether shapes that come often become CUDA graphs."""
        return self._calls.graphs

    @property
    def graph_count(self) -> int:
        """CUDA graphs recorded by now."""
        return self._calls.graph_count

    def starting(self) -> AbstractContextManager[None]:
        """In this block graphs are recorded at once and given up last; for the warm-up, while no requests wait."""
        return self._calls.starting()

    def launch(self, inputs: tuple[DeviceInput, ...], effort: Effort, *, keep: bool = True) -> LaunchedBatch:
        """Start the work of a batch of one shape, at most as many as the largest bucket, without waiting for it.

        Without ``keep`` its buffers are for this batch alone, and no graph is recorded.

        Raises:
            DeviceMemoryError: the device has no room, even without the buffers and graphs of other shapes.
        """
        with self._turn:
            try:
                return self._enqueue(inputs, effort, keep)
            except DeviceMemoryError:
                others = len(self._calls) > keep
                self._calls.clear()
                if not others:
                    raise
            # Buffers and graphs of other shapes had taken what this batch needs.
            return self._enqueue(inputs, effort, keep)

    def close(self) -> None:
        """Give up what was recorded, which refers to this engine and so would outlive it."""
        with self._turn, suppress(RuntimeError):  # a lost device takes nothing back
            self._calls.clear()

    def _enqueue(self, inputs: tuple[DeviceInput, ...], effort: Effort, keep: bool) -> LaunchedBatch:
        with device_memory(f"a batch of {len(inputs)}"), torch.inference_mode(), torch.cuda.stream(self._stream):
            return self._enqueue_here(inputs, effort, keep)

    def _enqueue_here(self, inputs: tuple[DeviceInput, ...], effort: Effort, keep: bool) -> LaunchedBatch:
        # Pictures of one size lie side by side, to be resized together.
        order = sorted(range(len(inputs)), key=lambda row: astuple(inputs[row].letterbox))
        rows = [inputs[row] for row in order]
        bucket, size_hw = bucket_of(len(inputs)), inputs[0].letterbox.padded_hw
        key = (bucket, size_hw, effort)
        call = self._calls.call(key, lambda: self._make_call(bucket, size_hw, effort), keep=keep)
        self._fill(call, rows)
        output = self._calls.run(call)
        if self._stream is None:
            return LaunchedBatch(inputs, tuple(order), output, effort, None)
        results = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
        results.copy_(output, non_blocking=True)
        return LaunchedBatch(inputs, tuple(order), results, effort, self._stream.record_event())

    def _make_call(
        self, bucket: int, size_hw: tuple[int, int], effort: Effort
    ) -> tuple[Function, tuple[Tensor, Tensor, Tensor]]:
        """Return the function of a batch's shape and its input buffers: pictures, settings and anchors."""
        images = torch.empty(
            (bucket, 3, *size_hw), device=self.device, memory_format=torch.channels_last, dtype=torch.float32
        )
        settings = torch.zeros((bucket, SETTINGS + self._num_classes), device=self.device)

        def run(images_BCHW: Tensor, settings_BS: Tensor, anchors_A4: Tensor) -> Tensor:  # noqa: N803
            # Its cache of converted weights would outlive a recorded graph; the weights are converted already.
            with torch.autocast(
                self.device.type, self._autocast_type, enabled=self._autocast_type is not None, cache_enabled=False
            ):
                logits, deltas = self._network(images_BCHW)
            return decode_batch(logits, deltas, anchors_A4, settings_BS, effort)

        return run, (images, settings, self._anchors_for(size_hw).boxes)

    def _fill(self, call: StaticCall, rows: Sequence[DeviceInput]) -> None:
        """Write the pictures and settings of a batch into the buffers of a call."""
        images, settings, _ = call.inputs
        images.zero_()  # what padding normalises to
        start = 0
        while start < len(rows):
            letterbox = rows[start].letterbox
            stop = next((i for i in range(start, len(rows)) if rows[i].letterbox != letterbox), len(rows))
            pictures = torch.stack([item.picture.receive() for item in rows[start:stop]])
            self._resizer.write(pictures, letterbox, images[start:stop])
            start = stop
        # Unused places get settings of zeros, with which nothing is found.
        values = torch.zeros(settings.shape, pin_memory=self._stream is not None)
        values[: len(rows)] = torch.from_numpy(np.stack([item.settings for item in rows]))
        settings.copy_(values, non_blocking=True)


def place_network(network: nn.Module, device: torch.device, autocast_type: torch.dtype | None) -> nn.Module:
    """Return the network on its device, in the layout and with the weights that run fastest there."""
    network = network.eval().requires_grad_(False)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if autocast_type is not None:
        for module in network.modules():
            if isinstance(module, CONVERTED):
                module.to(autocast_type)
    return network
