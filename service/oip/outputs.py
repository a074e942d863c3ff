"""Answers of a model as output tensors: the batch is the first dimension, detections are padded to the longest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from service.oip.limits import OipError
from service.oip.messages import InferRequest, RequestedOutput
from service.oip.schema import ModelSchema
from service.oip.tensors import Tensor
from vision.errors import closest_hint
from vision.types import Classification, Detections, FloatArray, SegmentationMap

# Labels of the rows behind num_detections; no class has it.
PADDING_LABEL = -1


def requested_outputs(request: InferRequest, schema: ModelSchema) -> tuple[RequestedOutput, ...]:
    """Return the outputs of an answer: those asked for, or all of the model's.

    Raises:
        OipError: an output is unknown, or has no classes to give.
    """
    known = [spec.name for spec in schema.outputs]
    if request.outputs is None:
        return tuple(RequestedOutput(name, request.binary_output) for name in known)
    for output in request.outputs:
        if output.name not in known:
            raise OipError(
                f"the outputs of {schema.name} must be among {', '.join(known)}, got {output.name!r}"
                f"{closest_hint(output.name, known)}; see the model's metadata"
            )
        if output.class_count and not (schema.task == "classify" and output.name == "scores"):
            raise OipError(
                f"classification must be asked of the scores of a classifier, got output {output.name!r} of a model "
                f"for {schema.task}; leave it out"
            )
    return request.outputs


def output_tensors(results: Sequence[Any], schema: ModelSchema, wanted: Sequence[RequestedOutput]) -> list[Tensor]:
    """Return the tensors of an answer in the order in which they were asked for.

    Args:
        results: what the model says of each picture: Detections, SegmentationMap, Classification, or embeddings [N, D].
        schema: of the model.
        wanted: outputs, known to ``schema``.

    Raises:
        OipError: pictures of different sizes were to be segmented in one request.
    """
    made = {"class_names": _names(schema.class_names), **_MAKERS[schema.task](results, schema)}
    tensors = []
    for output in wanted:
        tensor = made[output.name]
        tensors.append(_best_classes(tensor, output.class_count, schema) if output.class_count else tensor)
    return tensors


def _names(class_names: Sequence[str]) -> Tensor:
    return Tensor.of_strings("class_names", [len(class_names)], [name.encode() for name in class_names])


def _detections(results: Sequence[Detections], schema: ModelSchema) -> Mapping[str, Tensor]:
    """Return boxes, scores and labels padded with zeros and ``PADDING_LABEL`` to the most detections of a picture."""
    counts = np.array([len(found) for found in results], np.int32)
    most = int(counts.max(initial=0))
    boxes = np.zeros((len(results), most, 4), np.float32)
    scores = np.zeros((len(results), most), np.float32)
    labels = np.full((len(results), most), PADDING_LABEL, np.int64)
    for row, found in enumerate(results):
        boxes[row, : len(found)] = found.boxes
        scores[row, : len(found)] = found.scores
        labels[row, : len(found)] = found.labels
    return {
        "boxes": Tensor.of("boxes", "FP32", boxes),
        "scores": Tensor.of("scores", "FP32", scores),
        "labels": Tensor.of("labels", "INT64", labels),
        "num_detections": Tensor.of("num_detections", "INT32", counts),
    }


def _label_maps(results: Sequence[SegmentationMap], schema: ModelSchema) -> Mapping[str, Tensor]:
    sizes = sorted({found.labels.shape for found in results})
    if len(sizes) > 1:
        raise OipError(
            f"the pictures of one request to a segmenter must have one size, got {sizes[0]} and {sizes[-1]} (height, "
            "width); send a request for each size"
        )
    # One map alone is not copied.
    maps = np.stack([found.labels for found in results]) if len(results) > 1 else results[0].labels[np.newaxis]
    return {
        "labels": Tensor.of("labels", schema.label_datatype, maps),
        # Those of the answer: a request that keeps some classes numbers them anew.
        "class_names": _names(results[0].class_names),
    }


def _class_scores(results: Sequence[Classification], schema: ModelSchema) -> Mapping[str, Tensor]:
    """Return scores in the order of the class names, or the values of a regression."""
    if not schema.class_names:
        return {"value": Tensor.of("value", "FP32", np.array([found.value for found in results], np.float32))}
    scores = np.zeros((len(results), len(schema.class_names)), np.float32)
    for row, found in enumerate(results):
        scores[row, found.labels] = found.scores
    return {"scores": Tensor.of("scores", "FP32", scores)}


def _embeddings(results: Sequence[FloatArray], schema: ModelSchema) -> Mapping[str, Tensor]:
    # One row a picture, or all the rows of the one picture that has boxes.
    return {"embeddings": Tensor.of("embeddings", "FP32", np.concatenate(results))}


_MAKERS: Mapping[str, Callable[[Sequence[Any], ModelSchema], Mapping[str, Tensor]]] = {
    "detect": _detections,
    "segment": _label_maps,
    "classify": _class_scores,
    "embed": _embeddings,
}


def _best_classes(scores: Tensor, count: int, schema: ModelSchema) -> Tensor:
    """Return the classification extension's form of scores: BYTES [B, count] of ``score:label:name``, surest first."""
    values = scores.array
    count = min(count, values.shape[1])
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    texts = [
        f"{values[row, label]:f}:{label}:{schema.class_names[label]}".encode()
        for row, labels in enumerate(order.tolist())
        for label in labels
    ]
    return Tensor.of_strings(scores.name, [len(values), count], texts)
