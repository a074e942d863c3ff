"""The cache of exported networks: its key, damage, folders that cannot be written, processes that race."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import platformdirs
import pytest
import torch
from torch import nn

from vision.errors import ModelError
from vision.runtime import onnx_engine
from vision.runtime.engine import EngineInput
from vision.runtime.onnx_engine import OnnxEngine, cache_folder, cache_key, cached_export

REPOSITORY = Path(__file__).parents[3]
SPEC = EngineInput(example_hw=(32, 32), dynamic_hw=True, digest="weights-a")


def tiny_network(channels: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, channels, 3, padding=1).eval()


def assert_runs(model: bytes) -> None:
    batch = np.random.default_rng(0).standard_normal((3, 3, 16, 40)).astype(np.float32)
    with torch.inference_mode():
        expected = tiny_network()(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(OnnxEngine(model, threads=1).run(batch)[0], expected, atol=1e-5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path))
    return tmp_path / "onnx"


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[EngineInput]:
    """Count the exports."""
    real, seen = onnx_engine.export, []

    def counted(network: nn.Module, spec: EngineInput) -> bytes:
        seen.append(spec)
        return real(network, spec)

    monkeypatch.setattr(onnx_engine, "export", counted)
    return seen


def test_the_second_time_comes_from_the_cache(folder: Path, exports: list[EngineInput]) -> None:
    first = cached_export(tiny_network(), SPEC)
    second = cached_export(tiny_network(), SPEC)
    assert first == second
    assert len(exports) == 1
    assert [path.name for path in folder.iterdir()] == [f"{cache_key(tiny_network(), SPEC)}.onnx"]
    assert_runs(second)


def test_the_key_holds_all_that_shapes_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    key = cache_key(tiny_network(), SPEC)
    assert cache_key(tiny_network(), SPEC) == key
    others = [
        cache_key(tiny_network(), EngineInput(example_hw=(32, 32), dynamic_hw=True, digest="weights-b")),
        cache_key(tiny_network(), EngineInput(example_hw=(32, 32), dynamic_hw=False, digest="weights-a")),
        cache_key(tiny_network(), EngineInput(example_hw=(64, 32), dynamic_hw=True, digest="weights-a")),
        cache_key(tiny_network(channels=5), SPEC),
    ]
    for module, name in ((onnx_engine, "__version__"), (torch, "__version__"), (onnxruntime, "__version__")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, "0.0.0")
            others.append(cache_key(tiny_network(), SPEC))
    assert len({key, *others}) == len(others) + 1


@pytest.mark.parametrize("damage", ["cut short", "a changed byte", "empty", "another file"])
def test_a_damaged_file_is_exported_again(
    folder: Path, exports: list[EngineInput], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    intact = cached_export(tiny_network(), SPEC)
    (path,) = folder.iterdir()
    stored = path.read_bytes()
    path.write_bytes(
        {
            "cut short": stored[: len(stored) // 2],
            "a changed byte": bytes([stored[0] ^ 1]) + stored[1:],
            "empty": b"",
            "another file": b"no model" * 100,
        }[damage]
    )
    with caplog.at_level(logging.WARNING):
        assert_runs(cached_export(tiny_network(), SPEC))
    assert len(exports) == 2
    assert "is damaged; exporting it again" in caplog.text
    assert cached_export(tiny_network(), SPEC)[:64] == intact[:64]
    assert len(exports) == 2


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # A file in the folder's place stops everyone; permissions would not stop root.
    (tmp_path / "occupied").write_text("")
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path / "occupied"))
    with caplog.at_level(logging.WARNING):
        assert_runs(cached_export(tiny_network(), SPEC))
    assert "set STRIDE32_CACHE to a writable folder" in caplog.text


def test_a_file_that_cannot_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cached_export(tiny_network(), SPEC)
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Path, "read_bytes", refuse)
        model = cached_export(tiny_network(), SPEC)
    assert "cannot be read (Permission denied)" in caplog.text
    assert_runs(model)


def test_a_full_disk_leaves_no_partial_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Path, "replace", full)
        assert_runs(cached_export(tiny_network(), SPEC))
    assert "No space left on device" in caplog.text
    assert list(folder.iterdir()) == []


def test_the_folder_is_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STRIDE32_CACHE", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    assert cache_folder() == tmp_path / "stride32" / "onnx"


def test_bytes_that_are_no_model_are_refused_in_words() -> None:
    with pytest.raises(ModelError, match=r"cannot open the exported model.*delete the cache"):
        OnnxEngine(b"no model", threads=1)


RACER = """
import sys
import torch
from vision.runtime.engine import EngineInput
from vision.runtime.onnx_engine import OnnxEngine, cached_export
torch.manual_seed(0)
network = torch.nn.Conv2d(3, 4, 3, padding=1).eval()
print("ready", flush=True)
sys.stdin.readline()
model = cached_export(network, EngineInput(example_hw=(32, 32), dynamic_hw=True, digest="weights-a"))
OnnxEngine(model, threads=1)
print("done", len(model))
"""


def test_two_processes_that_race_leave_one_intact_file(folder: Path, exports: list[EngineInput]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for racer in racers:  # both have loaded torch before either starts to export
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    outputs = [racer.communicate(timeout=120) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], outputs
    assert all(stdout.startswith("done ") for stdout, _ in outputs)
    assert [path.suffix for path in folder.iterdir()] == [".onnx"]
    assert_runs(cached_export(tiny_network(), SPEC))
    assert exports == []
