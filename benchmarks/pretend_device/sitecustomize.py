"""Gives the inference processes of batch_device.py a device that takes time and no CPU, in place of networks.

Python runs this file when it starts with its folder on the path; in all other processes it does nothing.
"""

from __future__ import annotations

import os
import sys
import time
import types
from typing import Any

BATCH = 16


class PretendCore:
    """Detects one box in each picture, as fast as it is told to."""

    def __init__(self, config: Any) -> None:
        from vision.batch.facts import CoreFacts

        self._seconds = 1 / float(os.environ["PRETEND_DEVICE_PER_S"])
        self._free_s = 0.0
        self.facts = CoreFacts(
            task=config.task,
            config=config,
            models={"detection": {"name": "pretend", "sha256": "0" * 64}},
            class_names=("thing",),
            batch=BATCH,
        )

    def rows(self, works: Any) -> list[dict[str, Any]]:
        """Return rows when the device has had its time; one that waited for a batch has lost that time."""
        self._free_s = max(self._free_s, time.perf_counter()) + self._seconds * len(works)
        rows = [self._row(work) for work in works]
        time.sleep(max(0.0, self._free_s - time.perf_counter()))
        return rows

    def _row(self, work: Any) -> dict[str, Any]:
        import numpy as np

        height, width = work.frame.size_hw
        box = np.float32([[0, 0, width, height]])
        return {**work.head(), "boxes": box, "scores": np.float32([0.5]), "labels": np.zeros(1, np.int64)}

    def forget(self, stream: int) -> None:
        """Nothing is kept."""


if "vision.batch.infer_worker" in sys.orig_argv and "PRETEND_DEVICE_PER_S" in os.environ:
    module = types.ModuleType("vision.batch.core")
    module.open_core = lambda config, device=None, threads=0: PretendCore(config)  # type: ignore[attr-defined]
    sys.modules["vision.batch.core"] = module
