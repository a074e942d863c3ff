"""Eager torch engine: the reference on the CPU and the default on CUDA (channels_last, autocast by choice)."""

from __future__ import annotations

import torch
from torch import nn

from vision.runtime.config import Precision
from vision.runtime.device_memory import device_memory
from vision.types import FloatArray

AUTOCAST_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class TorchEngine:
    """Runs a network with torch on one device; float32 in and out whatever happens between."""

    def __init__(self, network: nn.Module, device: torch.device, precision: Precision, *, threads: int = 0) -> None:
        self.device = device
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.autocast_type = AUTOCAST_TYPES.get(precision) if device.type == "cuda" else None
        if threads and device.type == "cpu":
            torch.set_num_threads(threads)

    @property
    def name(self) -> str:
        """Engine and device."""
        return f"torch:{self.device}"

    def run(self, batch: FloatArray) -> list[FloatArray]:
        """Return the outputs for float32 [B, 3, H, W]; raises DeviceMemoryError where the device has no room."""
        with device_memory(f"a batch of {len(batch)}"):
            return self._run(batch)

    @torch.inference_mode()
    def _run(self, batch: FloatArray) -> list[FloatArray]:
        images = torch.from_numpy(batch).to(self.device, memory_format=torch.channels_last, non_blocking=True)
        with torch.autocast(self.device.type, self.autocast_type, enabled=self.autocast_type is not None):
            outputs = self.network(images)
        tensors = outputs if isinstance(outputs, tuple | list) else (outputs,)
        return [output.float().cpu().numpy() for output in tensors]
