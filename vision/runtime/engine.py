"""The protocol of inference engines, and the choice of engine, device and threads from a RuntimeConfig.

An engine runs one network on batches. It is stateless between calls and may be shared by threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from vision.errors import ConfigError
from vision.runtime.config import RuntimeConfig
from vision.runtime.cpus import available_cpus
from vision.types import FloatArray


class Engine(Protocol):
    """Runs a network: a batch in, one array for each output of the network."""

    def run(self, batch: FloatArray) -> list[FloatArray]:
        """Return the outputs for float32 [B, C, H, W], C being 3 for pictures; each output's first axis is B."""
        ...

    @property
    def name(self) -> str:
        """Engine and device, for logs and records, for example ``onnx:cpu``."""
        ...


@dataclass(frozen=True, slots=True)
class EngineInput:
    """What an engine must accept.

    Attributes:
        example_hw: height and width of a valid input, used to trace the network.
        dynamic_hw: whether other sizes come too (multiples of the network's coarsest stride).
        digest: identifies the weights; exported models are cached under it.
        channels: of the input; 3 for pictures.
    """

    example_hw: tuple[int, int]
    dynamic_hw: bool
    digest: str
    channels: int = 3


def build_engine(network: nn.Module, input_spec: EngineInput, config: RuntimeConfig) -> Engine:
    """Return the engine for a network: ONNX Runtime on the CPU, torch on CUDA, unless the configuration says otherwise.

    The network is switched to evaluation mode and must not be trained afterwards.
    """
    device = resolve_device(config.device)
    network = network.eval().requires_grad_(False)
    if config.engine == "torch" or (config.engine == "auto" and device.type == "cuda"):
        from vision.runtime.torch_engine import TorchEngine

        # torch knows of CPUs that it may not run on, but nothing of quotas.
        cpus = available_cpus()
        bound = cpus if cpus < torch.get_num_threads() else 0
        return TorchEngine(network, device, config.precision, threads=config.threads or bound)
    if device.type != "cpu":
        raise ConfigError(
            f"the onnx engine runs on the CPU, got device {device}; use runtime.engine=torch (or auto) on CUDA"
        )
    from vision.runtime.onnx_engine import OnnxEngine, ParallelOnnxEngine, cached_export

    model, threads = cached_export(network, input_spec), config.threads or default_threads()
    if config.parallel > 1 and threads > 1:
        return ParallelOnnxEngine(model, threads=threads)
    return OnnxEngine(model, threads=threads)


def resolve_device(name: str) -> torch.device:
    """Return the torch device for auto, cpu, cuda or cuda:N; raises ConfigError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name} needs a CUDA GPU, found {torch.cuda.device_count()} of them; use --device cpu or auto"
        )
    return device


def default_threads() -> int:
    """Return how many threads an engine on the CPU takes unless it is told: one for each CPU this process may use."""
    return available_cpus()
