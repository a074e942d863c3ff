"""The simulation behind docs/scaling.md: right where arithmetic knows the answer, near what was measured elsewhere."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
RECORD = BENCHMARKS / "results" / "batch.json"
PAGE = BENCHMARKS.parent / "docs" / "scaling.md"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return benchmarks/simulate_batch.py."""
    if not BENCHMARKS.is_dir():
        pytest.skip("needs the folder benchmarks of a checkout")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("simulate_batch", BENCHMARKS / "simulate_batch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "simulate_batch", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("machine", "costs", "per_s", "bottleneck"),
    [
        # Each stage in turn is the slowest, with cores enough.
        ({"cpus": 16, "decoders": 2, "inferers": 4}, {"decode": 10, "infer": 5, "coordinator": 0.1}, 200, "decoders"),
        ({"cpus": 16, "decoders": 8, "inferers": 2}, {"decode": 5, "infer": 20, "coordinator": 0.1}, 100, "inference"),
        ({"cpus": 16, "decoders": 8, "inferers": 8}, {"decode": 1, "infer": 1, "coordinator": 2}, 500, "coordinator"),
        # Two cores for everything.
        ({"cpus": 2, "decoders": 2, "inferers": 2}, {"decode": 4, "infer": 15, "coordinator": 1}, 100, "inference"),
        # A device takes time and no core; a batch at a time.
        (
            {"cpus": 16, "decoders": 15, "inferers": 1, "batch": 16},
            {"decode": 4, "infer": 0.1, "coordinator": 0.2, "device_per_s": 1000},
            1000,
            "inference",
        ),
        # A store that answers after 40 ms, asked by 8 threads.
        (
            {"cpus": 16, "decoders": 15, "inferers": 8, "fetchers": 8},
            {"decode": 4, "infer": 1, "coordinator": 0.2, "fetch_wait": 40},
            200,
            "fetchers",
        ),
        # Room for one picture: one stage after the other.
        (
            {"cpus": 4, "decoders": 2, "inferers": 2, "waiting": 1},
            {"decode": 4, "infer": 5, "coordinator": 1},
            100,
            "inference",
        ),
    ],
)
def test_what_arithmetic_knows(
    script: ModuleType, machine: dict[str, Any], costs: dict[str, Any], per_s: float, bottleneck: str
) -> None:
    found = script.simulate(script.Machine(**machine), script.Costs(**costs), 3000)
    assert found.per_s == pytest.approx(per_s, rel=0.02)
    assert found.bottleneck == bottleneck
    assert all(0 <= share <= 1 + 1e-9 for share in found.busy.values())


def test_the_spread_of_costs_changes_little_and_the_seed_nothing(script: ModuleType) -> None:
    machine = script.Machine(cpus=2, decoders=2, inferers=2, batch=8)
    even = script.simulate(machine, script.Costs(decode=4, infer=6, coordinator=1), 1003)
    costs = script.Costs(decode=4, infer=6, coordinator=1, decode_cv=0.5, infer_cv=0.5)
    uneven = script.simulate(machine, costs, 1003)
    assert uneven.per_s == pytest.approx(even.per_s, rel=0.1)
    assert uneven == script.simulate(machine, costs, 1003)


@pytest.fixture
def record() -> dict[str, Any]:
    """Return what bench_batch.py has measured."""
    if not RECORD.is_file():
        pytest.skip("needs benchmarks/results/batch.json, which benchmarks/bench_batch.py writes")
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def test_the_measured_run_is_predicted_within_a_tenth(script: ModuleType, record: dict[str, Any]) -> None:
    predicted, measured = script.check(record)
    assert predicted == pytest.approx(measured, rel=0.1)


def test_the_page_has_the_tables_of_the_script(script: ModuleType, record: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, table in script.tables(record, script.Assumptions()).items():
        assert table in page, f"{name} is not up to date; run benchmarks/simulate_batch.py --docs"
