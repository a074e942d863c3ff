"""The Ray that a run uses: a cluster that is there, or one that is started on this machine and ended with the run."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vision.errors import ConfigError, MissingDependencyError
from vision.runtime.cpus import available_cpus

if TYPE_CHECKING:
    from vision.batch.run import RayOptions

# Nobody is told of a run; a call that comes after its end does not start Ray anew; and of what its C++ parts say, only
# what ends them: for each actor that can be started again they tell of an error which is none.
# Workers of Ray are nice by default, and starve beside anything else that computes.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",
}
_LOGGERS = ("ray", "ray.data")


@dataclass(frozen=True, slots=True)
class Share:
    """How a cluster is divided.

    Attributes:
        workers: actors. cpus, gpus: of each.
    """

    workers: int
    cpus: int
    gpus: float


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one here for an address of None, for as long as the block lasts.

    A program that has called ``ray.init`` itself keeps its cluster, whatever the address.

    Raises:
        MissingDependencyError: Ray is not installed. ConfigError: no cluster answers at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingDependencyError("ray", extra="ray", purpose="--engine ray")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        quieten()
        yield
        return
    try:
        with _silent_stderr():
            _start(address)
        quieten()
        yield
    finally:
        ray.shutdown()


def _start(address: str | None) -> None:
    import ray

    common = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            ray.init(address=address, **common)
            return
        # Its processes load what this one does: a checkout, too.
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        ray.init(
            # "local" and not None: that would look for a cluster first.
            address="local",
            num_cpus=available_cpus(),
            include_dashboard=False,
            runtime_env={"env_vars": variables},
            **common,
        )
    except (ConnectionError, ValueError, RuntimeError) as exc:
        found = " ".join(str(exc).split())
        raise ConfigError(
            f"--ray-address must be that of a running cluster, or be left out to start Ray here, got {address!r}: "
            f"{found}; ray status shows whether one is there"
        ) from exc


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep from the terminal what C++ writes there; Python's own errors come as exceptions."""
    sys.stderr.flush()
    before = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)
        os.close(nothing)


def quieten() -> None:
    """Leave the terminal to our own progress; errors of Ray come as exceptions all the same."""
    with warnings.catch_warnings():
        # Ray Data sets its own deprecated settings when it makes its context.
        warnings.simplefilter("ignore", DeprecationWarning)
        import ray.data

        context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def divide(options: RayOptions, nodes: Sequence[Mapping[str, Any]], *, is_fixed: bool) -> Share:
    """Return how many actors there are, and what each has.

    Args:
        options: what was asked for; 0 leaves it to the nodes.
        nodes: their resources, as ``ray.nodes()`` tells them under "Resources".
        is_fixed: the cluster never grows, so that what does not fit now never will.

    Raises:
        ConfigError: nothing like that fits on any node.
    """
    gpus = options.gpus
    fitting = [node for node in nodes if node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= gpus]
    cpus = options.cpus or min((_cpu_share(node, gpus) for node in fitting), default=1)
    room = sum(_room(node, cpus, gpus) for node in fitting)
    if not room or (is_fixed and options.workers > room):
        there = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes) or "none"
        wanted = f"{options.workers or 1} actors" if options.workers != 1 else "an actor"
        raise ConfigError(
            f"the nodes of Ray must have room for {wanted} with {cpus} CPUs and {gpus:g} GPUs each, they have: "
            f"{there}; give smaller --ray-workers, --ray-cpus or --ray-gpus"
        )
    return Share(options.workers or room, cpus, gpus)


def _cpu_share(node: Mapping[str, Any], gpus: float) -> int:
    """Return an actor's share of a node's CPUs: all, or as much as its share of the GPUs."""
    actors = int(node["GPU"] / gpus + 1e-6) if gpus else 1
    return max(1, int(node["CPU"]) // actors)


def _room(node: Mapping[str, Any], cpus: int, gpus: float) -> int:
    by_cpus = int(node["CPU"] // cpus)
    return min(by_cpus, int(node["GPU"] / gpus + 1e-6)) if gpus else by_cpus


def live_nodes() -> list[dict[str, Any]]:
    """Return the resources of the nodes that are there."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
