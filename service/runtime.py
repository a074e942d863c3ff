"""How this server runs its models: what the operator's settings mean for an engine."""

from __future__ import annotations

import torch

from service.settings import Settings
from vision.runtime.config import RuntimeConfig
from vision.runtime.cpus import available_cpus


def served_runtime(settings: Settings) -> RuntimeConfig:
    """Return the device, engine and threads that all models of the server have."""
    return RuntimeConfig(
        device=settings.device,
        engine=settings.engine,
        precision=settings.precision,
        threads=settings.threads,
        parallel=_parallel_passes(settings),
    )


def _parallel_passes(settings: Settings) -> int:
    """Return how many forward passes of a model run at the same time: as many as there are CPUs, one on a GPU."""
    if settings.parallel:
        return settings.parallel
    on_gpu = settings.device.startswith("cuda") or (settings.device == "auto" and torch.cuda.is_available())
    return 1 if on_gpu or settings.engine == "torch" else settings.threads or available_cpus()
