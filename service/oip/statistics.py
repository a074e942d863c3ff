"""What ``/stats`` tells: counts and durations of the inference requests that came over this protocol, by model."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from service.oip.schema import VERSION
from service.work import Served


@dataclass(slots=True)
class Duration:
    """How often something happened, and the nanoseconds it took together."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        """Add ``count`` events that took ``seconds`` together."""
        self.count += count
        self.ns += round(seconds * 1e9)

    def to_dict(self) -> dict[str, int]:
        """Return the protocol's form."""
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class ModelStatistics:
    """The durations of one model, in the words of the protocol.

    Attributes:
        success, fail: whole requests.
        queue, compute_infer: pictures: wait for the device, and their batch on it.
        compute_input: pictures: reading, decoding and preparing.
        compute_output: requests: writing the answer.
        batches: pictures by the size of the batch they ran in; other clients' pictures are part of it.
        batch_seconds: of those batches, by size.
    """

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: Counter[int] = field(default_factory=Counter)
    batch_seconds: Counter[int] = field(default_factory=Counter)
    last_inference_ms: int = 0

    def succeeded(self, served: Sequence[Served], *, total_s: float, input_s: float, output_s: float) -> None:
        """Count an answered request."""
        self.success.add(total_s)
        self.compute_input.add(input_s, len(served))
        self.compute_output.add(output_s)
        self.last_inference_ms = round(time.time() * 1000)
        for each in served:
            self.queue.add(each.queue_ms / 1000)
            self.compute_infer.add(each.infer_ms / 1000)
            self.batches[each.batch] += 1
            self.batch_seconds[each.batch] += round(each.infer_ms * 1e6)

    def failed(self, total_s: float) -> None:
        """Count a request that got an error."""
        self.fail.add(total_s)

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return the row of a model in ``model_stats``.

        ``execution_count`` is the share of the device's runs that these pictures had: a batch of two of them is a run,
        a batch of one of them and one of another client is half a run.
        """
        runs = sum(count / size for size, count in self.batches.items())
        durations = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        return {
            "name": name,
            "version": VERSION,
            "last_inference": self.last_inference_ms,
            "inference_count": self.compute_infer.count,
            "execution_count": round(runs),
            "inference_stats": {key: getattr(self, key).to_dict() for key in durations},
            "batch_stats": [
                {"batch_size": size, "compute_infer": {"count": count, "ns": self.batch_seconds[size]}}
                for size, count in sorted(self.batches.items())
            ],
        }


class Statistics:
    """The statistics of all models of one server, counted in its event loop."""

    def __init__(self) -> None:
        self._models: dict[str, ModelStatistics] = {}

    def of(self, name: str) -> ModelStatistics:
        """Return the statistics of a model."""
        return self._models.setdefault(name, ModelStatistics())
