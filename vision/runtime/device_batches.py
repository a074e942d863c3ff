"""Batches of pictures through a network on a device: what the tasks there have in common, whatever they read from it.

Pictures come as uint8 through pinned buffers, copied while the device computes the batch before. Resizing, network and
what the task makes of its outputs follow on one stream without the host looking at a number, and one copy brings the
results back: one wait a batch. Every step runs on the CPU as well, which is how it is tested without a GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import astuple, dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vision.errors import DeviceMemoryError, InvalidInputError
from vision.geometry.letterbox import Letterbox
from vision.runtime.config import Precision
from vision.runtime.device_graphs import StaticCalls
from vision.runtime.device_memory import DevicePicture, device_memory, new_stream
from vision.runtime.device_resize import DeviceResizer
from vision.runtime.device_tuning import BATCH_BUCKETS
from vision.runtime.preprocess import Normalization
from vision.runtime.torch_engine import AUTOCAST_TYPES

# Weights of these are kept in the type that autocast computes them in; otherwise each run would convert them anew.
CONVERTED = (nn.Conv2d, nn.Linear)

Launched = TypeVar("Launched")


@dataclass(frozen=True, slots=True, eq=False)
class PlacedPicture:
    """An input of a batch: a picture on its way to the device, and how the network sees it.

    Attributes:
        picture: on the device, of the frame's own size.
        letterbox: from the picture to the network's input.
        is_odd: it asks for what the model is seldom asked for, and runs apart from the others.
    """

    picture: DevicePicture
    letterbox: Letterbox
    is_odd: bool = field(default=False, kw_only=True)

    @property
    def shape_key(self) -> Hashable:
        """Inputs with equal keys can share a batch."""
        return (*self.letterbox.padded_hw, "odd") if self.is_odd else self.letterbox.padded_hw

    @property
    def nbytes(self) -> int:
        """Memory that waiting for the network takes, on the device."""
        return self.picture.pixels.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class HostCopy:
    """Results on their way to the host.

    Attributes:
        values: in host memory, complete after ``finished``.
        finished: None without CUDA.
    """

    values: Tensor
    finished: torch.cuda.Event | None

    def wait(self) -> Tensor:
        """Return the results once they are there: the one wait of a batch."""
        if self.finished is not None:
            self.finished.synchronize()
        return self.values


class DeviceBatches:
    """A network on one device, and the stream on which its batches run one after the other. Safe to share by threads.

    Args:
        network: it is moved to the device and must not be used elsewhere.
        device: where it runs.
        normalization: constants of the weights.
        precision: autocast type; fp32 without CUDA.
        graphs: whether shapes that come often become CUDA graphs.

    Attributes:
        calls: functions of batches at fixed shapes; for use inside ``launch`` alone.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        *,
        normalization: Normalization,
        precision: Precision = "fp32",
        graphs: bool = True,
    ) -> None:
        self.device = device
        self._autocast_type = AUTOCAST_TYPES.get(precision) if device.type == "cuda" else None
        self._network = place_network(network, device, self._autocast_type)
        self._resizer = DeviceResizer(device, normalization)
        self.calls = StaticCalls(device, graphs=graphs)
        self._turn = threading.Lock()
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
        return self.calls.graphs

    @property
    def graph_count(self) -> int:
        """CUDA graphs recorded by now."""
        return self.calls.graph_count

    @property
    def pins(self) -> bool:
        """Whether memory that is copied to and from the device must be pinned."""
        return self._stream is not None

    def starting(self) -> AbstractContextManager[None]:
        """In this block graphs are recorded at once and given up last; for the warm-up, while no requests wait."""
        return self.calls.starting()

    def launch(self, count: int, enqueue: Callable[[], Launched], *, keep: bool) -> Launched:
        """Return what ``enqueue`` returns, which starts a batch of ``count`` pictures without waiting for it.

        Args:
            count: of pictures, for the error.
            enqueue: called in the stream of this device, by one thread at a time, twice where memory is short.
            keep: whether its call is among those that are kept.

        Raises:
            DeviceMemoryError: the device has no room, even without the buffers and graphs of other shapes.
        """
        with self._turn:
            try:
                return self._run(count, enqueue)
            except DeviceMemoryError:
                others = len(self.calls) > keep
                self.calls.clear()
                if not others:
                    raise
            # Buffers and graphs of other shapes had taken what this batch needs.
            return self._run(count, enqueue)

    def _run(self, count: int, enqueue: Callable[[], Launched]) -> Launched:
        with device_memory(f"a batch of {count}"), torch.inference_mode(), torch.cuda.stream(self._stream):
            return enqueue()

    def network(self, images_BCHW: Tensor) -> Any:  # noqa: N803 - shape suffix
        """Return the network's outputs for float32 [B, 3, H, W]."""
        # Autocast's cache of converted weights would outlive a recorded graph; the weights are converted already.
        with torch.autocast(
            self.device.type, self._autocast_type, enabled=self._autocast_type is not None, cache_enabled=False
        ):
            return self._network(images_BCHW)

    def images(self, bucket: int, size_hw: tuple[int, int]) -> Tensor:
        """Return an input buffer of the network, float32 [bucket, 3, H, W], with nothing in it."""
        return torch.empty(
            (bucket, 3, *size_hw), device=self.device, memory_format=torch.channels_last, dtype=torch.float32
        )

    def write(self, rows: Sequence[PlacedPicture], images_BCHW: Tensor) -> None:  # noqa: N803
        """Write the pictures of a batch, those of one letterbox side by side, into a buffer of ``images``."""
        images_BCHW.zero_()  # what padding normalises to
        start = 0
        while start < len(rows):
            letterbox = rows[start].letterbox
            stop = next((i for i in range(start, len(rows)) if rows[i].letterbox != letterbox), len(rows))
            pictures = torch.stack([item.picture.receive() for item in rows[start:stop]])
            self._resizer.write(pictures, letterbox, images_BCHW[start:stop])
            start = stop

    def to_host(self, output: Tensor) -> HostCopy:
        """Return results as they travel to the host, behind all that was launched before."""
        if self._stream is None:
            return HostCopy(output, None)
        values = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
        values.copy_(output, non_blocking=True)
        return HostCopy(values, self._stream.record_event())

    def close(self) -> None:
        """Give up what was recorded, which refers to this object and so would outlive it."""
        with self._turn, suppress(RuntimeError):  # a lost device takes nothing back
            self.calls.clear()


def side_by_side(inputs: Sequence[PlacedPicture]) -> tuple[int, ...]:
    """Return the rows of a batch in an order in which pictures of one letterbox are resized together."""
    return tuple(sorted(range(len(inputs)), key=lambda row: astuple(inputs[row].letterbox)))


def check_batch(inputs: Sequence[PlacedPicture]) -> None:
    """Raise InvalidInputError unless the inputs can be one batch."""
    shapes = len({item.shape_key for item in inputs})
    if not 0 < len(inputs) <= BATCH_BUCKETS[-1] or shapes != 1:
        raise InvalidInputError(
            f"a batch must be 1 to {BATCH_BUCKETS[-1]} inputs of one shape_key, got {len(inputs)} of {shapes}; group "
            "them first"
        )


def place_network(network: nn.Module, device: torch.device, autocast_type: torch.dtype | None) -> nn.Module:
    """Return the network on its device, in the layout and with the weights that run fastest there."""
    network = network.eval().requires_grad_(False)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if autocast_type is not None:
        for module in network.modules():
            if isinstance(module, CONVERTED):
                module.to(autocast_type)
    return network
