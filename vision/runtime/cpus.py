"""How many CPUs this process may use: of containers that is often fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# Where the first version of control groups has the controller of CPUs.
_V1_FOLDERS = ("cpu", "cpu,cpuacct")


def available_cpus() -> int:
    """Return the CPUs this process may use: those it may run on, or the time its control group gets, if that is less.

    ``docker run --cpus 2`` and Kubernetes' ``limits.cpu: 2`` show the process all CPUs of the machine and stop it for
    the rest of each tenth of a second in which it has used up its two: more threads than that wait for each other.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return count if quota is None else min(count, max(1, math.ceil(quota)))


def cgroup_quota(groups: Path = _GROUPS, membership: Path = _MEMBERSHIP) -> float | None:
    """Return the CPUs whose time the control groups of this process allow, the smallest of all; None: no bound.

    Args:
        groups: where the control groups are mounted; both versions are understood.
        membership: which groups the process is in.
    """
    quotas = [_read_quota(folder / "cpu.max") for folder in _folders(groups, "", membership)]
    for name in _V1_FOLDERS:
        for folder in _folders(groups / name, "cpu", membership):
            quotas.append(_read_quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"))
    return min((quota for quota in quotas if quota is not None), default=None)


def _folders(root: Path, controller: str, membership: Path) -> Iterator[Path]:
    """Yield the folders of the process's group and of all above it, ``root`` being the last.

    Inside a container ``root`` often is the group itself, and the path in ``membership`` one that only the host has:
    what is not there is left out by the reader.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        group = PurePosixPath(path.lstrip("/"))
        if controller in names.split(",") and ".." not in group.parts:
            yield from (root / each for each in (group, *group.parents) if each.parts)
    yield root


def _read_quota(*files: Path) -> float | None:
    """Return quota / period from one file with both, or from two; None where there is none, or it is no bound."""
    try:
        quota, period = " ".join(file.read_text(encoding="ascii") for file in files).split()[:2]
        # Without a bound the first is "max", or -1.
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):
        return None
