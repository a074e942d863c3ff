"""Settings of the inference engines; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vision.errors import ConfigError

EngineName = Literal["auto", "torch", "onnx"]
Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """Where and with what the networks run.

    Attributes:
        device: "auto" (CUDA when there is a device, else the CPU), "cpu", "cuda" or "cuda:N".
        engine: "auto" (ONNX Runtime on the CPU, torch on CUDA), "torch" or "onnx".
        precision: autocast type on CUDA; the CPU always computes in fp32.
        threads: CPU threads of one engine; 0 uses the CPUs this process may use.
        parallel: forward passes that callers may ask for at the same time, of the onnx engine. With more than 1 such
            passes run on one thread each, which does more in all than one after the other on all threads; a pass
            without company has all threads as before. Takes the weights' memory twice.
    """

    device: str = "auto"
    engine: EngineName = "auto"
    precision: Precision = "fp32"
    threads: int = 0
    parallel: int = 1

    def __post_init__(self) -> None:
        index = self.device.removeprefix("cuda:")
        if self.device not in ("auto", "cpu", "cuda") and not (index != self.device and index.isdigit()):
            raise ConfigError(
                f"runtime.device must be auto, cpu, cuda or cuda:N, got {self.device!r}; auto picks for you"
            )
        if self.engine not in get_args(EngineName):
            raise ConfigError(f"runtime.engine must be one of {get_args(EngineName)}, got {self.engine!r}")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"runtime.precision must be one of {get_args(Precision)}, got {self.precision!r}")
        if self.parallel < 1:
            raise ConfigError(f"runtime.parallel must be >= 1, got {self.parallel}; 1 is the default")
        if self.threads < 0:
            raise ConfigError(f"runtime.threads must be >= 0, got {self.threads}; 0 uses the CPUs this process may use")
