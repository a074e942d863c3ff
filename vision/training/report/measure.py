"""The answers of a run's model on validation data, for runs that kept none or whose data has changed."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vision.build import build_detector, build_embedder
from vision.card import CARD_FILE, ModelCard, read_card
from vision.detection.config import EVALUATION_CONF, EVALUATION_MAX_DET, DetectorConfig
from vision.errors import InvalidInputError
from vision.evaluation.detection import coco_metrics, detect_images
from vision.evaluation.ground_truth import RelabelledDetector, read_ground_truth
from vision.evaluation.reid import embed_folder, measure_crops
from vision.reid.config import EmbedderConfig
from vision.runtime.config import RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.segmenter import load_fcn
from vision.training.datasets.masks import check_masks
from vision.training.datasets.measured_masks import measured_format, measured_pictures
from vision.training.datasets.pictures import readable_images
from vision.training.embedder_config import HOLDOUT_PEOPLE
from vision.training.export_embedder import other_cameras
from vision.training.report.answers import EmbedderAnswers, save_detections, save_embeddings
from vision.training.report.document import CONFIG_FILE
from vision.training.report.segmenter_answers import answer_pictures
from vision.training.run import finite, write_metrics
from vision.training.segmenter_config import IGNORE, VAL_FRACTION

# Settings that say which people a run validated on, with their defaults.
_PEOPLE = {"holdout_people": HOLDOUT_PEOPLE, "exclude_people": 0}


def measure_run(out: Path, data: Path, on_image: Callable[[], None] = lambda: None) -> None:
    """Run the exported model of a run folder on validation data; replaces its metrics.json and validation/.

    The model's card keeps its metrics: they belong to the data that it names.

    Args:
        out: the run folder.
        data: as for training: annotated pictures for a detector, a folder of crops for an embedder, pictures with
            masks for a segmenter.
        on_image: called after each picture of a detector or segmenter.

    Raises:
        InvalidInputError: no run folder, no model in it, a kind that keeps its own answers, or unusable data.
    """
    card = _exported(out)
    if card.kind == "detector":
        config = DetectorConfig(model=str(card.folder), conf=EVALUATION_CONF, max_det=EVALUATION_MAX_DET)
        detector = build_detector(config, RuntimeConfig())
        truth = read_ground_truth(data, detector.class_names)
        truth = replace(truth, images=tuple(readable_images(truth.images)))
        relabelled = RelabelledDetector(detector, detector.class_names, truth.class_names)
        found = detect_images(relabelled, truth.images, on_image)
        write_metrics(out, coco_metrics(truth.images, found, truth.class_names))
        save_detections(out, truth.images, found, truth.class_names)
    elif card.kind == "embedder":
        embedder = build_embedder(EmbedderConfig(model=str(card.folder)), RuntimeConfig())
        assert embedder is not None
        settings = _settings(out)
        holdout, exclude = (int(settings.get(key, value)) for key, value in _PEOPLE.items())
        cameras = other_cameras(data, settings.get("cameras", ()))
        embeddings, crops = embed_folder(embedder, data, holdout=holdout, exclude=exclude, cameras=cameras)
        embedder.close()
        write_metrics(out, measure_crops(embeddings, crops))
        save_embeddings(out, EmbedderAnswers(embeddings, crops.person_ids, crops.camera_ids, crops.paths))
    elif card.kind == "segmenter":
        _measure_segmenter(out, card, data, on_image)
    else:
        raise InvalidInputError(
            f"--data is for detectors, embedders and segmenters, {card.name} is a {card.kind}, whose run keeps its "
            "outputs; leave --data out",
            path=out,
        )


def _measure_segmenter(out: Path, card: ModelCard, data: Path, on_image: Callable[[], None]) -> None:
    """Measure a segmenter on the val part of ``data``, or on all of it; of its own data on what it held out."""
    settings = _settings(out)
    own = not settings.get("val_data") and Path(str(settings.get("data", ""))).resolve() == data.resolve()
    pictures = measured_pictures(data, holdout=float(settings.get("val_fraction", VAL_FRACTION)) if own else 0.0)
    ignore, palette = int(settings.get("ignore", IGNORE)), str(settings.get("palette", "index"))
    form = measured_format(data, card.labels, ignore=ignore, palette=palette)
    check_masks(pictures, form)
    segmenter = load_fcn(card, SegmenterConfig(), RuntimeConfig())
    meter = answer_pictures(out, segmenter, pictures, form, on_image)
    segmenter.close()
    write_metrics(out, finite(meter.scores()))


def _exported(out: Path) -> ModelCard:
    """Return the card of the model that a run exported."""
    name = str(_settings(out).get("name", ""))
    if not (out / name / CARD_FILE).is_file():
        raise InvalidInputError(
            f"{out} must hold the exported model {name}, found none; finish the run with its train command", path=out
        )
    return read_card(out / name)


def _settings(out: Path) -> dict[str, Any]:
    path = out / CONFIG_FILE
    if not path.is_file():
        raise InvalidInputError(
            f"{out} must be the folder of a training run, it has no {CONFIG_FILE}; give what --out named", path=out
        )
    return tomllib.loads(path.read_text(encoding="utf-8"))
