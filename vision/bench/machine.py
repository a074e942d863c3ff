"""The machine that a measurement was made on, in words: a time without it says nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from vision import __version__
from vision.runtime.cpus import available_cpus

PACKAGES = ("torch", "onnxruntime", "numpy", "opencv-python-headless")


def describe_machine() -> dict[str, Any]:
    """Return plain data: cpu, cores (that this process may use), gpus, load (of the last minute), system, versions.

    A load near or above the number of cores means that other work ran beside the measurement.
    """
    import torch

    return {
        "cpu": cpu_name(),
        "cores": available_cpus(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {"stride32": __version__, **_versions()},
    }


def cpu_name(info: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name as the system tells it, or its architecture where it tells none."""
    try:
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # another build of the same package, such as opencv-python
            continue
    return found
