"""What a model of each task takes and gives: metadata and configuration of the protocol.

A dimension of -1 is free. Batches have no configured limit (``max_batch_size`` 0 and an explicit first dimension): the
server forms its own batches out of all requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from service.oip.pictures import BOXES, IMAGE, PIXELS
from service.oip.tensors import BYTES

# A model has one version here: who replaces it gives the new one a name, or loads it in the old one's place.
VERSION = "1"
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, datatype and shape (-1: free) of an input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False

    def metadata(self) -> dict[str, Any]:
        """Return the tensor's row in a model's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def config(self) -> dict[str, Any]:
        """Return the tensor's row in a model's configuration."""
        kind = "STRING" if self.datatype == BYTES else self.datatype
        row: dict[str, Any] = {"name": self.name, "data_type": f"TYPE_{kind}", "dims": list(self.shape)}
        return row | {"optional": True} if self.optional else row


@dataclass(frozen=True, slots=True)
class ModelSchema:
    """What one model takes and gives.

    Attributes:
        name: of the model.
        task: "detect", "segment", "classify" or "embed".
        class_names: the name of each label; empty for an embedder and for a regression.
        unit: of a regression's value.
    """

    name: str
    task: str
    class_names: tuple[str, ...] = ()
    unit: str = ""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs; ``image`` and ``pixels`` are optional because a request has one of them."""
        pictures = (TensorSpec(IMAGE, BYTES, (-1,), True), TensorSpec(PIXELS, "UINT8", (-1, -1, -1, 3), True))
        return (*pictures, TensorSpec(BOXES, "FP32", (-1, 4), True)) if self.task == "embed" else pictures

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, in the order of an answer."""
        if self.task == "embed":
            return (TensorSpec("embeddings", "FP32", (-1, -1)),)
        names = TensorSpec("class_names", BYTES, (len(self.class_names),))
        if self.task == "detect":
            return (
                TensorSpec("boxes", "FP32", (-1, -1, 4)),
                TensorSpec("scores", "FP32", (-1, -1)),
                TensorSpec("labels", "INT64", (-1, -1)),
                TensorSpec("num_detections", "INT32", (-1,)),
                names,
            )
        if self.task == "segment":
            return (TensorSpec("labels", self.label_datatype, (-1, -1, -1)), TensorSpec("class_names", BYTES, (-1,)))
        if not self.class_names:
            return (TensorSpec("value", "FP32", (-1,)),)
        return (TensorSpec("scores", "FP32", (-1, len(self.class_names))), names)

    @property
    def label_datatype(self) -> str:
        """The datatype of a segmenter's labels: bytes, as long as they can tell the classes apart."""
        return "UINT8" if len(self.class_names) <= 256 else "INT64"

    def metadata(self) -> dict[str, Any]:
        """Return the body of ``GET /v2/models/NAME``."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": f"stride32_{self.task}",
            "inputs": [spec.metadata() for spec in self.inputs],
            "outputs": [spec.metadata() for spec in self.outputs],
        }

    def config(self) -> dict[str, Any]:
        """Return the body of ``GET /v2/models/NAME/config``."""
        texts = {"task": self.task, "class_names": orjson.dumps(self.class_names).decode()}
        if self.unit:
            texts["unit"] = self.unit
        return {
            "name": self.name,
            "platform": f"stride32_{self.task}",
            "backend": "stride32",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": 0,
            "input": [spec.config() for spec in self.inputs],
            "output": [spec.config() for spec in self.outputs],
            "parameters": {key: {"string_value": text} for key, text in texts.items()},
        }


def server_metadata(version: str, extensions: Sequence[str] = EXTENSIONS) -> dict[str, Any]:
    """Return the body of ``GET /v2``."""
    return {"name": "stride32", "version": version, "extensions": list(extensions)}
