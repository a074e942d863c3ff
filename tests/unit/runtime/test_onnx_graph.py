"""Padding ends up inside the convolutions, and the function stays the same."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from vision.backbones.timm import SameConv2d
from vision.runtime.engine import EngineInput
from vision.runtime.onnx_engine import OnnxEngine, export


def operations_when_run(model: bytes, folder: Path) -> Counter[str]:
    """The node types that ONNX Runtime is left with after its own basic rewrites."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def test_padding_is_fused_and_results_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(SameConv2d(3, 4, 3, stride=2), SameConv2d(4, 2, 5, stride=2)).eval()
    model = export(network, EngineInput(example_hw=(16, 24), dynamic_hw=True, digest=""))
    assert operations_when_run(model, tmp_path) == {"Conv": 2}
    batch = np.random.default_rng(0).standard_normal((2, 3, 24, 8), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(OnnxEngine(model, threads=1).run(batch)[0], expected, atol=1e-5)
