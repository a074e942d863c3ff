"""CPUs of the process: what control groups of either version allow, in and outside of containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from vision.runtime import cpus, engine
from vision.runtime.config import RuntimeConfig
from vision.runtime.cpus import available_cpus, cgroup_quota

V2, V1 = "0::/pod/own\n", "3:memory:/x\n2:cpu,cpuacct:/docker/own\n1:cpuset:/y\n"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (V2, {}, None),
        (V2, {"cpu.max": "max 100000\n"}, None),
        (V2, {"cpu.max": "250000 100000\n"}, 2.5),
        (V2, {"pod/own/cpu.max": "50000 100000\n", "pod/cpu.max": "400000 100000\n"}, 0.5),
        (V2, {"pod/own/cpu.max": "max 100000\n", "pod/cpu.max": "400000 100000\n"}, 4.0),
        (V2, {"another/cpu.max": "100000 100000\n"}, None),
        ("0::/../other\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("", {"cpu.max": "200000 100000\n"}, 2.0),
        ("nonsense", {"cpu.max": "nonsense\n"}, None),
        (V2, {"cpu.max": "100000 0\n"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.5),
        (V1, {"cpu/docker/own/cpu.cfs_quota_us": "300000\n", "cpu/docker/own/cpu.cfs_period_us": "100000\n"}, 3.0),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 3.0),
        (V1, {"cpu/cpu.cfs_quota_us": "150000\n"}, None),
    ],
    ids=[
        *("v2 nothing", "v2 no bound", "v2 container", "v2 own", "v2 above", "v2 another", "v2 outside"),
        *(
            "no membership",
            "nonsense",
            "no period",
            "v1 no bound",
            "v1 container",
            "v1 own",
            "v1 both controllers",
            "v1 half",
        ),
    ],
)
def test_quota_is_read(membership: str, files: dict[str, str], expected: float | None, tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.mkdir()
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    (tmp_path / "membership").write_text(membership)
    assert cgroup_quota(groups, tmp_path / "membership") == expected


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path / "none", tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("quota", "expected"), [(None, 8), (0.1, 1), (1.0, 1), (1.5, 2), (2.0, 2), (8.0, 8), (64.0, 8)]
)
def test_the_smaller_of_affinity_and_quota_counts(
    quota: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cpus, "cgroup_quota", lambda: quota)
    assert available_cpus() == expected


@pytest.mark.parametrize(
    ("configured", "available", "expected"),
    [(0, 2, [2]), (0, 8, []), (0, 64, []), (5, 2, [5])],
    ids=["quota", "as many", "more", "configured"],
)
def test_torch_takes_no_more_threads_than_there_are_cpus(
    configured: int, available: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(engine, "available_cpus", lambda: available)
    spec = engine.EngineInput((32, 32), dynamic_hw=False, digest="")
    engine.build_engine(torch.nn.Identity(), spec, RuntimeConfig(device="cpu", engine="torch", threads=configured))
    assert chosen == expected
