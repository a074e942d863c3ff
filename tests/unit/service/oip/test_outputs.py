"""Answers as tensors, and that they keep what the metadata promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.oip.limits import OipError
from service.oip.messages import InferRequest, RequestedOutput
from service.oip.outputs import PADDING_LABEL, output_tensors, requested_outputs
from service.oip.schema import ModelSchema
from service.oip.tensors import Tensor
from vision.types import Classification, Detections, SegmentationMap

DETECTOR = ModelSchema("d", "detect", ("person", "car"))
SEGMENTER = ModelSchema("s", "segment", ("road", "sky"))
CLASSIFIER = ModelSchema("c", "classify", ("cat", "dog", "fox"))
REGRESSION = ModelSchema("r", "classify", (), "mm")
EMBEDDER = ModelSchema("e", "embed")


def detections(count: int) -> Detections:
    corner = np.arange(count, dtype=np.float32)
    boxes = np.stack([corner, corner, corner + 1, corner + 2], axis=1)
    return Detections(boxes, np.linspace(0.9, 0.5, count, dtype=np.float32), np.arange(count) % 2)


def classification(scores: list[float]) -> Classification:
    order = np.argsort(-np.array(scores), kind="stable")
    names = tuple(CLASSIFIER.class_names[label] for label in order)
    return Classification(order, np.array(scores, np.float32)[order], names, 1)


RESULTS: list[tuple[ModelSchema, list[Any]]] = [
    (DETECTOR, [detections(2), detections(0), detections(3)]),
    (DETECTOR, [detections(0)]),
    (SEGMENTER, [SegmentationMap(np.ones((3, 4), np.uint8), ("road", "sky"))] * 2),
    (CLASSIFIER, [classification([0.1, 0.7, 0.2]), classification([0.5, 0.25, 0.25])]),
    (REGRESSION, [Classification(np.zeros(0), np.zeros(0), value=1.5, unit="mm")]),
    (EMBEDDER, [np.ones((1, 8), np.float32), np.zeros((1, 8), np.float32)]),
]


def ask(schema: ModelSchema, *outputs: RequestedOutput) -> tuple[RequestedOutput, ...]:
    return requested_outputs(InferRequest("", {}, (), outputs or None, True), schema)


def answer(schema: ModelSchema, results: list[Any], *outputs: RequestedOutput) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in output_tensors(results, schema, ask(schema, *outputs))}


@pytest.mark.parametrize(("schema", "results"), RESULTS)
def test_answers_are_what_the_metadata_promises(schema: ModelSchema, results: list[Any]) -> None:
    found = list(answer(schema, results).values())
    promised = schema.metadata()["outputs"]
    assert [tensor.name for tensor in found] == [row["name"] for row in promised]
    for tensor, row in zip(found, promised, strict=True):
        assert tensor.datatype == row["datatype"]
        assert len(tensor.shape) == len(row["shape"])
        assert all(want in (-1, have) for want, have in zip(row["shape"], tensor.shape, strict=True))


def test_detections_are_padded_to_the_longest() -> None:
    found = answer(DETECTOR, [detections(2), detections(0), detections(3)])
    assert found["num_detections"].array.tolist() == [2, 0, 3]
    assert found["boxes"].shape == (3, 3, 4)
    np.testing.assert_array_equal(found["boxes"].array[0, :2], detections(2).boxes)
    assert not found["boxes"].array[1].any()
    assert found["scores"].array[0, 2] == 0
    assert found["labels"].array[1].tolist() == [PADDING_LABEL] * 3
    assert found["class_names"].strings == (b"person", b"car")


def test_scores_are_in_the_order_of_the_labels() -> None:
    found = answer(CLASSIFIER, [classification([0.1, 0.7, 0.2])])
    np.testing.assert_array_equal(found["scores"].array, np.float32([[0.1, 0.7, 0.2]]))


@pytest.mark.parametrize(("count", "shape"), [(2, (2, 2)), (99, (2, 3))])
def test_the_classification_extension(count: int, shape: tuple[int, int]) -> None:
    results = [classification([0.1, 0.7, 0.2]), classification([0.5, 0.25, 0.25])]
    scores = answer(CLASSIFIER, results, RequestedOutput("scores", True, count))["scores"]
    assert (scores.datatype, scores.shape) == ("BYTES", shape)
    assert scores.strings[:2] == (b"0.700000:1:dog", b"0.200000:2:fox")
    assert scores.strings[shape[1]] == b"0.500000:0:cat"


def test_label_maps_of_two_sizes_have_no_tensor() -> None:
    maps = [SegmentationMap(np.zeros(shape, np.uint8), ("road", "sky")) for shape in ((3, 4), (4, 3))]
    with pytest.raises(OipError, match="one size"):
        answer(SEGMENTER, maps)


def test_class_names_of_a_map_are_its_own() -> None:
    kept = SegmentationMap(np.zeros((1, 1), np.uint8), ("other", "sky"))
    assert answer(SEGMENTER, [kept])["class_names"].strings == (b"other", b"sky")


def test_outputs_come_in_the_order_asked_for() -> None:
    wanted = (RequestedOutput("labels", False), RequestedOutput("boxes", True))
    assert list(answer(DETECTOR, [detections(1)], *wanted)) == ["labels", "boxes"]
    assert all(output.binary for output in ask(DETECTOR))


@pytest.mark.parametrize(
    ("schema", "output", "says"),
    [
        (DETECTOR, RequestedOutput("box"), "did you mean 'boxes'"),
        (EMBEDDER, RequestedOutput("scores"), "embeddings"),
        (DETECTOR, RequestedOutput("scores", class_count=1), "classifier"),
        (CLASSIFIER, RequestedOutput("class_names", class_count=1), "classifier"),
    ],
)
def test_outputs_that_are_not_there(schema: ModelSchema, output: RequestedOutput, says: str) -> None:
    with pytest.raises(OipError, match=says):
        ask(schema, output)


@pytest.mark.parametrize("schema", [DETECTOR, SEGMENTER, CLASSIFIER, REGRESSION, EMBEDDER])
def test_metadata_and_configuration_agree(schema: ModelSchema) -> None:
    metadata, config = schema.metadata(), schema.config()
    for plural, key in (("inputs", "input"), ("outputs", "output")):
        assert [row["name"] for row in metadata[plural]] == [row["name"] for row in config[key]]
        assert [row["shape"] for row in metadata[plural]] == [row["dims"] for row in config[key]]
    assert config["input"][0] == {"name": "image", "data_type": "TYPE_STRING", "dims": [-1], "optional": True}
    assert ("boxes" in {row["name"] for row in metadata["inputs"]}) == (schema.task == "embed")
    assert ("unit" in config["parameters"]) == (schema is REGRESSION)


def test_many_classes_need_wider_labels() -> None:
    assert ModelSchema("s", "segment", ("a",) * 256).label_datatype == "UINT8"
    assert ModelSchema("s", "segment", ("a",) * 257).label_datatype == "INT64"
