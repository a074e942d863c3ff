"""Memory of the device and the way into it: pictures go through pinned buffers on a copy stream of their own.

The threads that decode pictures also start their copies, so the pictures of the next batch travel while the device
computes the present one. Without CUDA the same calls keep the pictures where they are.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vision.errors import DeviceMemoryError
from vision.types import ImageArray

MEBIBYTE = 2**20
# What cuDNN and cuBLAS say in a plain RuntimeError when they find no room for themselves.
MEMORY_WORDS = ("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "out of memory")
# What CUDA says of errors after which every further call of the process fails.
LOST_WORDS = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "illegal address",
    "misaligned address",
    "invalid program counter",
    "hardware stack error",
    "address space",
    "unspecified launch failure",
    "launch timed out",
    "uncorrectable",
    "unknown error",
    "context is destroyed",
)


def is_device_lost(error: BaseException) -> bool:
    """Return whether this error, or one that it came from, says that the process must start again to use its GPU."""
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen) if isinstance(seen, RuntimeError) else ""
        if "CUDA" in text and any(word in text for word in LOST_WORDS):
            return True
        seen = seen.__cause__
    return False


@contextmanager
def device_memory(purpose: str) -> Iterator[None]:
    """Turn a lack of device memory in the block into DeviceMemoryError, with what the block held given back.

    Args:
        purpose: what the memory was for, such as ``"a batch of 32"``.
    """
    try:
        yield
        return
    except RuntimeError as exc:
        # torch.OutOfMemoryError is a RuntimeError too.
        if not isinstance(exc, torch.OutOfMemoryError) and not any(word in str(exc) for word in MEMORY_WORDS):
            raise
        cause = str(exc).partition("\n")[0].partition(". ")[0]
        # The frames of the traceback hold the tensors of the failed work. Neither they nor the exception may live on,
        # or there is nothing to give back.
        traceback.clear_frames(exc.__traceback__)
    release_cached()
    raise DeviceMemoryError(
        f"{purpose} needs room on the device, got: {cause}; take a smaller batch, smaller pictures, or a device that "
        "nothing else uses",
        expected=f"room for {purpose}",
        actual=cause,
    ) from None


def release_cached() -> None:
    """Give memory that torch keeps for later back to the device; nothing without CUDA."""
    if torch.cuda.is_available():
        # On a device that is lost nothing can be given back, and whoever uses it next is told so.
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


def new_stream(device: torch.device) -> torch.cuda.Stream:
    """Return a new stream of a CUDA device, on which work runs beside that of other streams."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, eq=False)
class DevicePicture:
    """A picture on its way to a device, or there.

    Attributes:
        pixels: uint8 [H, W, 3] on the device.
        arrived: the event after which the pixels are there; None if they are there now.
    """

    pixels: Tensor
    arrived: torch.cuda.Event | None

    def receive(self) -> Tensor:
        """Return the pixels, for work on the current stream: it waits for their arrival, the calling thread does not.

        The memory is not given to others before that work is done.
        """
        if self.arrived is not None:
            stream = torch.cuda.current_stream(self.pixels.device)
            stream.wait_event(self.arrived)
            # It was allocated for the copy stream, which knows nothing of who reads it.
            self.pixels.record_stream(stream)
        return self.pixels


class _Slot:
    """A pinned buffer, and the event of the last copy out of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.buffer: Tensor | None = None
        self.copied: torch.cuda.Event | None = None

    def room(self, size: int) -> Tensor:
        """Return ``size`` bytes of pinned memory that no copy reads any more."""
        if self.copied is not None:
            # Nearly always over long ago: as many pictures came since as there are slots.
            self.copied.synchronize()
        if self.buffer is None or len(self.buffer) < size:
            # Rounded up, so that pictures of slightly different sizes do not pin memory again and again.
            self.buffer = torch.empty(-(-size // MEBIBYTE) * MEBIBYTE, dtype=torch.uint8, pin_memory=True)
        return self.buffer[:size]


class PictureUploader:
    """Copies pictures to a device through a ring of pinned buffers. Safe to share by threads.

    Args:
        device: where to.
        slots: pinned buffers; as many copies can be under way at once.
        largest_slot: bytes that a buffer grows to; a larger picture is copied without one, and its thread waits.
    """

    def __init__(self, device: torch.device, *, slots: int = 8, largest_slot: int = 32 * MEBIBYTE) -> None:
        self.device = device
        self._largest_slot = largest_slot
        self._slots = [_Slot() for _ in range(slots)]
        self._next = 0
        self._turn = threading.Lock()
        self._stream = new_stream(device) if device.type == "cuda" else None

    def upload(self, image: ImageArray) -> DevicePicture:
        """Return a picture uint8 [H, W, 3] as it comes to lie on the device; the array may change afterwards.

        Raises:
            DeviceMemoryError: there is no room for it.
        """
        if self._stream is None:
            # A copy: torch warns of arrays that must not be written to, and a frame's image is one.
            return DevicePicture(torch.from_numpy(np.array(image)), None)
        height, width = image.shape[:2]
        with device_memory(f"a picture of {width} x {height}"), torch.cuda.stream(self._stream):
            pixels = torch.empty(image.shape, dtype=torch.uint8, device=self.device)
            if image.nbytes > self._largest_slot:
                pixels.copy_(torch.from_numpy(np.array(image)))
                return DevicePicture(pixels, self._stream.record_event())
            slot = self._take_slot()
            with slot.lock:
                staged = slot.room(image.nbytes).view(image.shape)
                np.copyto(staged.numpy(), image)
                pixels.copy_(staged, non_blocking=True)
                slot.copied = self._stream.record_event()
                return DevicePicture(pixels, slot.copied)

    def _take_slot(self) -> _Slot:
        with self._turn:
            slot = self._slots[self._next]
            self._next = (self._next + 1) % len(self._slots)
        return slot
