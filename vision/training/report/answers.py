"""What the exported model answered on the validation data, kept in the run folder for the report and for anybody.

Detectors leave COCO files, which ``stride32 eval detector --gt --results`` reads as well; embedders and classifiers one
.npz, segmenters another beside masks (segmenter_answers.py). So the report can be made again without the model, and
without running it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vision.evaluation.ground_truth import GroundTruth, read_ground_truth
from vision.evaluation.results import read_results, write_results
from vision.geometry.boxes import xyxy_to_xywh
from vision.training.datasets.pictures import AnnotatedImage
from vision.types import Detections, FloatArray, IntArray

ANSWERS_FOLDER = "validation"
GROUND_TRUTH_FILE = "ground_truth.json"
DETECTIONS_FILE = "detections.json"
EMBEDDINGS_FILE = "embeddings.npz"
OUTPUTS_FILE = "outputs.npz"


@dataclass(frozen=True, slots=True, eq=False)
class EmbedderAnswers:
    """Embeddings float32 [N, D], people and cameras int64 [N], and the path of each crop."""

    embeddings: FloatArray
    person_ids: IntArray
    camera_ids: IntArray
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ClassifierAnswers:
    """Outputs and targets float32 [N, K], and the path of each picture."""

    outputs: FloatArray
    targets: FloatArray
    paths: tuple[Path, ...]


def save_detections(
    out: Path, images: Sequence[AnnotatedImage], found: Mapping[int, Detections], class_names: Sequence[str]
) -> None:
    """Write the validation pictures as COCO ground truth, with absolute paths, and the detections as COCO results."""
    folder = _folder(out)
    ids = range(1, len(class_names) + 1)
    annotations: list[dict[str, object]] = []
    for image in images:
        annotations += _annotation_rows(image, first_id=len(annotations) + 1)
    document = {
        "images": [{"id": image.image_id, "file_name": str(image.path.absolute())} for image in images],
        "annotations": annotations,
        "categories": [{"id": key, "name": name} for key, name in zip(ids, class_names, strict=True)],
    }
    (folder / GROUND_TRUTH_FILE).write_text(json.dumps(document) + "\n", encoding="utf-8")
    write_results(folder / DETECTIONS_FILE, found, ids, overwrite=True)


def load_detections(out: Path) -> tuple[GroundTruth, dict[int, Detections]] | None:
    """Return what ``save_detections`` wrote, or None."""
    folder = out / ANSWERS_FOLDER
    if not (folder / GROUND_TRUTH_FILE).is_file() or not (folder / DETECTIONS_FILE).is_file():
        return None
    truth = read_ground_truth(folder / GROUND_TRUTH_FILE)
    return truth, read_results(folder / DETECTIONS_FILE, truth)


def save_embeddings(out: Path, answers: EmbedderAnswers) -> None:
    """Write the embeddings of the held-out crops."""
    save_arrays(
        out,
        EMBEDDINGS_FILE,
        embeddings=answers.embeddings,
        person_ids=answers.person_ids,
        camera_ids=answers.camera_ids,
        paths=_texts(answers.paths),
    )


def load_embeddings(out: Path) -> EmbedderAnswers | None:
    """Return what ``save_embeddings`` wrote, or None."""
    table = load_arrays(out, EMBEDDINGS_FILE)
    if table is None:
        return None
    return EmbedderAnswers(table["embeddings"], table["person_ids"], table["camera_ids"], _paths(table["paths"]))


def save_outputs(out: Path, answers: ClassifierAnswers) -> None:
    """Write the outputs on the validation pictures."""
    save_arrays(
        out, OUTPUTS_FILE, outputs=answers.outputs, targets=answers.targets, paths=_texts(answers.paths)
    )  # fmt: skip


def load_outputs(out: Path) -> ClassifierAnswers | None:
    """Return what ``save_outputs`` wrote, or None."""
    table = load_arrays(out, OUTPUTS_FILE)
    return None if table is None else ClassifierAnswers(table["outputs"], table["targets"], _paths(table["paths"]))


def _annotation_rows(image: AnnotatedImage, first_id: int) -> list[dict[str, object]]:
    boxes = xyxy_to_xywh(image.boxes.astype(np.float64))
    areas = boxes[:, 2] * boxes[:, 3]
    if image.areas is not None:
        areas = np.where(np.isnan(image.areas), areas, image.areas)
    difficult = np.zeros(len(boxes), np.bool_) if image.difficult is None else image.difficult
    columns = list(zip(boxes, image.labels, areas, np.zeros(len(boxes), np.int64), difficult, strict=True))
    if image.crowd_boxes is not None and image.crowd_labels is not None:
        regions = xyxy_to_xywh(image.crowd_boxes.astype(np.float64))
        ones, zeros = np.ones(len(regions), np.int64), np.zeros(len(regions), np.bool_)
        columns += zip(regions, image.crowd_labels, regions[:, 2] * regions[:, 3], ones, zeros, strict=True)
    return [
        {
            "id": first_id + index,
            "image_id": image.image_id,
            "category_id": int(label) + 1,
            "bbox": box.tolist(),
            "area": float(area),
            "iscrowd": int(crowd),
            "difficult": bool(hard),
        }
        for index, (box, label, area, crowd, hard) in enumerate(columns)
    ]


def _folder(out: Path) -> Path:
    folder = out / ANSWERS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_arrays(out: Path, name: str, **arrays: np.ndarray) -> None:
    """Write arrays as ``out/validation/NAME``, an .npz that appears when it is complete."""
    path = _folder(out) / name
    part = path.with_name(f"{name}.part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stubs take the names for options
    part.replace(path)


def load_arrays(out: Path, name: str) -> dict[str, np.ndarray] | None:
    """Return the arrays that ``save_arrays`` wrote, or None."""
    path = out / ANSWERS_FOLDER / name
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _texts(paths: Sequence[Path]) -> np.ndarray:
    return np.asarray([str(path.absolute()) for path in paths], dtype=np.str_)


def _paths(texts: np.ndarray) -> tuple[Path, ...]:
    return tuple(Path(str(text)) for text in texts)
