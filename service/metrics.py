"""What the service counts, as Prometheus metrics; one registry for each app, so that tests do not see each other.

``METRIC_NAMES`` is the contract with dashboards and alerts (docker/).
"""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from statistics import median

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vision import __version__
from vision.errors import ConfigError, InvalidInputError

METRIC_NAMES = (
    "stride32_requests_total",
    "stride32_request_seconds",
    "stride32_queue_items",
    "stride32_queue_bytes",
    "stride32_queue_wait_seconds",
    "stride32_batch_size",
    "stride32_batch_cap",
    "stride32_stage_seconds",
    "stride32_rejects_total",
    "stride32_dropped_total",
    "stride32_failures_total",
    "stride32_sessions",
    "stride32_jobs",
    "stride32_gpu_memory_bytes",
    "stride32_model_ready",
    "stride32_build_info",
)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
# Medians of the page's panel look at so many of the last values.
_RECENT = 200


class Metrics:
    """All metrics of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        # A second series of each counter with the time of its first count: nobody looks at it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.requests = Counter("stride32_requests", "Answered requests.", ["route", "method", "status"], registry=own)
        self.request_seconds = Histogram(
            "stride32_request_seconds", "From a request's head to the end of its answer.", ["route"],
            buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self.queue_items = Gauge("stride32_queue_items", "Inputs that wait for a model.", ["model"], registry=own)
        self.queue_bytes = Gauge("stride32_queue_bytes", "Bytes held by requests in the queue.", registry=own)
        self.queue_wait = Histogram(
            "stride32_queue_wait_seconds", "Wait of an input for the device.", ["model"], buckets=_SECONDS, registry=own
        )
        self.batch_size = Histogram(
            "stride32_batch_size", "Inputs in a batch.", ["model"], buckets=_BATCHES, registry=own
        )
        self.batch_cap = Gauge("stride32_batch_cap", "Most inputs in a batch at present.", ["model"], registry=own)
        self.stage_seconds = Histogram(
            "stride32_stage_seconds", "Time of one picture's decode and post, of one batch's infer.",
            ["stage", "model"], buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self.rejects = Counter("stride32_rejects", "Requests turned away, by reason.", ["reason"], registry=own)
        self.drops = Counter("stride32_dropped", "Queued work dropped before it ran.", ["reason"], registry=own)
        self.failures = Counter("stride32_failures", "Inputs on which a model failed.", ["model"], registry=own)
        self.sessions = Gauge("stride32_sessions", "Open tracking sessions.", registry=own)
        self.jobs = Gauge("stride32_jobs", "Video jobs by state.", ["state"], registry=own)
        self.model_ready = Gauge("stride32_model_ready", "1 where a model is loaded and well.", ["model"], registry=own)
        build = Gauge("stride32_build_info", "Version of the service.", ["version", "python"], registry=own)
        build.labels(__version__, platform.python_version()).set(1)
        self.registry.register(_GpuMemory())
        ProcessCollector(registry=own)
        self.started = time.monotonic()
        self.answered = 0
        self.rejected_total = 0
        self.models: dict[str, ModelMetrics] = {}
        self._request_children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._last_answered = (self.started, 0)
        self._rate = 0.0

    def model(self, name: str) -> ModelMetrics:
        """Return the metrics of a model; the same object for the same name."""
        return self.models.setdefault(name, ModelMetrics(self, name))

    def rejected(self, reason: str) -> None:
        """Count a request that was turned away."""
        self.rejected_total += 1
        self.rejects.labels(reason).inc()

    def answered_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self.answered += 1
        # Children by hand: a lookup through labels() costs as much as all that is counted here.
        key = (route, method, status)
        children = self._request_children.get(key)
        if children is None:
            children = (self.requests.labels(*key), self.request_seconds.labels(route))
            self._request_children[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def requests_per_s(self) -> float:
        """Return the rate since it was last asked for, over a second at least, for the page's panel."""
        now, (then, before) = time.monotonic(), self._last_answered
        if now - then >= 1.0:
            self._rate = (self.answered - before) / (now - then)
            self._last_answered = (now, self.answered)
        return self._rate

    def exposition(self) -> bytes:
        """Return the metrics as Prometheus reads them."""
        return generate_latest(self.registry)


class ModelMetrics:
    """The metrics of one model; what its batcher reports to (``BatchObserver``)."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        # Children are looked up once: labels() costs more than the observation.
        self._wait = metrics.queue_wait.labels(name)
        self._batch = metrics.batch_size.labels(name)
        self._infer = metrics.stage_seconds.labels("infer", name)
        self._decode = metrics.stage_seconds.labels("decode", name)
        self._post = metrics.stage_seconds.labels("post", name)
        self._failures = metrics.failures.labels(name)
        self._drops = metrics.drops
        self._name, self._ready = name, metrics.model_ready
        self.queue = metrics.queue_items.labels(name)
        self.batch_cap = metrics.batch_cap.labels(name)
        self.requests = 0
        self.failure_count = 0
        self.failures_in_a_row = 0
        self.last_error = ""
        self._failed_at = 0.0
        self._waits: deque[float] = deque(maxlen=_RECENT)
        self._infers: deque[float] = deque(maxlen=_RECENT)
        self._batches: deque[int] = deque(maxlen=_RECENT)

    def follow_readiness(self, readiness: Callable[[], float] | None) -> None:
        """Tell of a model that is wanted whether it is ready, and nothing of one that is not."""
        if readiness is not None:
            self._ready.labels(self._name).set_function(readiness)
        else:
            with suppress(KeyError):
                self._ready.remove(self._name)

    def waited(self, seconds: float) -> None:
        """One input's time in the queue."""
        self.requests += 1
        self._wait.observe(seconds)
        self._waits.append(seconds)

    def ran(self, batch: int, seconds: float) -> None:
        """One batch."""
        self.failures_in_a_row = 0
        self._batch.observe(batch)
        self._infer.observe(seconds)
        self._infers.append(seconds)
        self._batches.append(batch)

    def decoded(self, seconds: float) -> None:
        """One picture was decoded and made ready."""
        self._decode.observe(seconds)

    def finished(self, seconds: float) -> None:
        """One answer was written (JSON or a picture)."""
        self._post.observe(seconds)

    def dropped(self, reason: str) -> None:
        """Work that nobody wants any more."""
        self._drops.labels(reason).inc()

    def failed(self, error: BaseException) -> None:
        """The model failed on an input; one that it refuses with reason says nothing about its health."""
        self._failures.inc()
        self.failure_count += 1
        self.last_error = type(error).__name__
        self._failed_at = time.monotonic()
        if not isinstance(error, InvalidInputError | ConfigError):
            self.failures_in_a_row += 1

    def since_failure_s(self) -> float:
        """Return the seconds since the last failure."""
        return time.monotonic() - self._failed_at

    def summary(self) -> dict[str, float | None]:
        """Return medians over the last inputs in milliseconds, and the mean batch; None before the first."""
        waits, infers, batches = list(self._waits), list(self._infers), list(self._batches)
        return {
            "queue_wait_ms_p50": round(median(waits) * 1000, 2) if waits else None,
            "infer_ms_p50": round(median(infers) * 1000, 2) if infers else None,
            "batch_mean": round(sum(batches) / len(batches), 2) if batches else None,
        }


class _GpuMemory(Collector):
    """Memory that torch holds on each GPU, asked for when metrics are read."""

    def collect(self) -> list[Metric]:
        """Return one gauge."""
        import torch

        family = GaugeMetricFamily("stride32_gpu_memory_bytes", "Memory reserved on a GPU.", labels=["device"])
        if torch.cuda.is_available():
            for index in range(torch.cuda.device_count()):
                family.add_metric([f"cuda:{index}"], torch.cuda.memory_reserved(index))
        return [family]
