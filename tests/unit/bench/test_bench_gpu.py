"""benchmarks/bench_gpu.py where there is no GPU: it says so, and measures nothing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not BENCHMARKS.is_dir():
        pytest.skip("needs the folder benchmarks of a checkout")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("bench_gpu", BENCHMARKS / "bench_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_gpu", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_says_so(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert script.main([]) == 3
    assert "needs a CUDA device, found none" in capsys.readouterr().err


def test_rates_count_pictures_not_batches(script: ModuleType) -> None:
    row = script.measure(lambda: 1000, script.Effort(seconds=0.001, repeats=3))
    assert row["repeats"] == 3
    assert row["images_per_s"] >= 1000


def test_all_clients_are_counted_and_ended(script: ModuleType) -> None:
    asked: set[int] = set()
    row = script.count_for(script.Effort(seconds=0.02, repeats=2), 3, asked.add)
    assert asked == {0, 1, 2}
    assert row["images_per_s"] > 0
