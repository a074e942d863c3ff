"""The choice of engine and device, and the ranges of RuntimeConfig."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vision.errors import ConfigError, DeviceMemoryError
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import EngineInput, build_engine, default_threads, resolve_device
from vision.runtime.onnx_engine import ParallelOnnxEngine
from vision.runtime.torch_engine import TorchEngine

SPEC = EngineInput(example_hw=(32, 32), dynamic_hw=True, digest="engine-test")


def tiny_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU6())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path))


@pytest.fixture(autouse=True)
def no_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests state what happens without a GPU, also on a machine that has one."""
    if request.node.get_closest_marker("gpu"):
        return
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_a_lack_of_device_memory_is_an_error_of_ours() -> None:
    """By it the batcher makes batches smaller."""

    class Full(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 PiB. GPU 0 has 3 bytes")
            return images

    engine = TorchEngine(Full(), torch.device("cpu"), "fp32")
    with pytest.raises(DeviceMemoryError, match=r"a batch of 3 needs room on the device, got: CUDA out of memory;"):
        engine.run(np.zeros((3, 3, 8, 8), np.float32))
    assert engine.run(np.zeros((2, 3, 8, 8), np.float32))[0].shape == (2, 3, 8, 8)


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize(("engine", "name"), [("auto", "onnx:cpu"), ("onnx", "onnx:cpu"), ("torch", "torch:cpu")])
def test_engine_choice_on_the_cpu(device: str, engine: Any, name: str) -> None:
    assert build_engine(tiny_network(), SPEC, RuntimeConfig(device=device, engine=engine)).name == name


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_the_network_is_put_in_evaluation_mode(engine: Any) -> None:
    network = tiny_network().train()
    batch = np.random.default_rng(0).standard_normal((2, 3, 32, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(batch)).numpy()
    (output,) = build_engine(network.train(), SPEC, RuntimeConfig(engine=engine, device="cpu")).run(batch)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    assert output.dtype == np.float32
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_one_array_for_each_output(engine: Any) -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x * 2, x.mean(dim=(2, 3))

    outputs = build_engine(Two(), SPEC, RuntimeConfig(engine=engine, device="cpu")).run(
        np.ones((3, 3, 8, 8), np.float32)
    )
    assert [output.shape for output in outputs] == [(3, 3, 8, 8), (3, 3)]


def test_resolve_device() -> None:
    assert resolve_device("auto") == torch.device("cpu")
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device {name} needs a CUDA GPU, found 0 of them; use --device cpu or auto"):
        resolve_device(name)


def test_the_index_of_a_device_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="found 2 of them"):
        resolve_device("cuda:2")
    with pytest.raises(ConfigError, match=r"onnx engine runs on the CPU.*runtime\.engine=torch"):
        build_engine(tiny_network(), SPEC, RuntimeConfig(device="cuda:1", engine="onnx"))


def test_threads_reach_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    TorchEngine(tiny_network(), torch.device("cpu"), "fp32", threads=3)
    TorchEngine(tiny_network(), torch.device("cpu"), "fp32")
    assert chosen == [3]
    assert default_threads() >= 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"device": "gpu"}, "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "cuda:"}, "got 'cuda:'"),
        ({"device": "cuda:x"}, "got 'cuda:x'"),
        ({"device": "cuda:-1"}, "got 'cuda:-1'"),
        ({"device": ""}, "got ''"),
        ({"engine": "tensorrt"}, "engine must be one of .*got 'tensorrt'"),
        ({"precision": "int8"}, "precision must be one of .*got 'int8'"),
        ({"threads": -1}, "threads must be >= 0, got -1"),
    ],
)
def test_config_ranges(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RuntimeConfig(**fields)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_config_takes_every_device_name(device: str) -> None:
    assert RuntimeConfig(device=device).device == device


@pytest.mark.gpu
def test_torch_on_cuda_equals_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    batch = np.random.default_rng(0).standard_normal((2, 3, 32, 64)).astype(np.float32)
    reference = TorchEngine(tiny_network().eval(), torch.device("cpu"), "fp32").run(batch)[0]
    for precision, tolerance in (("fp32", 5e-3), ("fp16", 1e-2), ("bf16", 5e-2)):
        output = TorchEngine(tiny_network().eval(), torch.device("cuda"), precision).run(batch)[0]
        np.testing.assert_allclose(output, reference, atol=tolerance)


def test_passes_side_by_side_give_the_same_bits() -> None:
    batches = np.random.default_rng(0).standard_normal((24, 1, 3, 64, 64)).astype(np.float32)
    one = build_engine(tiny_network(), SPEC, RuntimeConfig(device="cpu", threads=2))
    several = build_engine(tiny_network(), SPEC, RuntimeConfig(device="cpu", threads=2, parallel=4))
    assert isinstance(several, ParallelOnnxEngine)
    assert several.name == one.name
    expected = [one.run(batch)[0] for batch in batches]
    alone = [several.run(batch)[0] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: several.run(batch)[0], batches))
    for own, first, second in zip(expected, alone, together, strict=True):
        np.testing.assert_array_equal(own, first)
        np.testing.assert_array_equal(own, second)


def test_a_pass_in_company_runs_on_one_thread_and_a_failed_one_is_no_company(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build_engine(tiny_network(), SPEC, RuntimeConfig(device="cpu", threads=2, parallel=2))
    assert isinstance(engine, ParallelOnnxEngine)
    used: list[str] = []
    inside: list[str] = []

    def wide(batch: Any) -> Any:
        used.append("wide")
        if not inside:
            inside.append("first")
            engine.run(batch)  # while this one is under way
        raise ValueError("broken")

    monkeypatch.setattr(engine._wide, "run", wide)
    monkeypatch.setattr(engine._narrow, "run", lambda batch: used.append("narrow"))
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            engine.run(np.zeros((1, 3, 32, 32), np.float32))
    assert used == ["wide", "narrow", "wide"]


def test_one_thread_needs_no_second_session() -> None:
    engine = build_engine(tiny_network(), SPEC, RuntimeConfig(device="cpu", threads=1, parallel=4))
    assert not isinstance(engine, ParallelOnnxEngine)


def test_parallel_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="parallel must be"):
        RuntimeConfig(parallel=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_too_large_for_the_gpu_leaves_it_of_use() -> None:
    engine = TorchEngine(tiny_network(), torch.device("cuda"), "fp32")
    one = np.zeros((1, 3, 64, 64), np.float32)
    before = engine.run(one)[0]
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 2**26) / total))
    try:
        with pytest.raises(DeviceMemoryError, match="a batch of 16 needs room on the device"):
            engine.run(np.zeros((16, 3, 1024, 1024), np.float32))
        np.testing.assert_allclose(engine.run(one)[0], before)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
