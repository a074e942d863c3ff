"""The accuracy of a subject: measured on the user's data where there is some, else as its card states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vision.bench.rows import compared_metrics
from vision.bench.subjects import Subject
from vision.build import build_detector, build_embedder, build_segmenter
from vision.card import ModelCard
from vision.classification.classifier import load_classifier
from vision.detection.config import EVALUATION_CONF, EVALUATION_MAX_DET, DetectorConfig
from vision.evaluation.classification import evaluate_classifier
from vision.evaluation.detection import evaluate_detector
from vision.evaluation.reid import evaluate_reid
from vision.evaluation.segmentation import measure_segmenter
from vision.reid.config import EmbedderConfig
from vision.runtime.config import RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.training.datasets.detection import read_detection_data
from vision.training.datasets.masks import check_masks
from vision.training.datasets.measured_masks import measured_format, measured_pictures


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Where the accuracy of each kind of model comes from.

    Attributes:
        data: kind -> data to measure on; kinds without data take their card's figures.
        limit: pictures used of a detector's or segmenter's data; None uses all.
        runtime: what the networks run in; engines agree, so one is enough.
    """

    data: Mapping[str, Path] = field(default_factory=dict)
    limit: int | None = None
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def of(self, subject: Subject) -> tuple[Mapping[str, float], str]:
        """Return the metrics of a subject and their source; none for backbones, nor for sizes that no card speaks of.

        Raises:
            InvalidInputError: the data cannot be read or lacks the model's classes.
        """
        card, path = subject.card, self.data.get(subject.kind)
        if card is None:
            return {}, ""
        if path is None:
            return (stated_metrics(card), "card") if subject.own_size else ({}, "")
        measure = {
            "detector": self._detector,
            "embedder": self._embedder,
            "classifier": self._classifier,
            "segmenter": self._segmenter,
        }[subject.kind]
        found = measure(subject, card, path)
        wanted = compared_metrics(subject.kind)
        return {name: round(value, 4) for name, value in found.items() if name in wanted}, self._source(path)

    def _detector(self, subject: Subject, card: ModelCard, path: Path) -> Mapping[str, float]:
        config = DetectorConfig(
            model=str(card.folder),
            long_side=int(subject.size) if subject.size.isdigit() else 0,
            conf=EVALUATION_CONF,
            max_det=EVALUATION_MAX_DET,
        )
        images, names = read_detection_data(path, card.labels, part="val")
        return evaluate_detector(build_detector(config, self.runtime), images[: self.limit], names)

    def _embedder(self, subject: Subject, card: ModelCard, path: Path) -> Mapping[str, float]:
        embedder = build_embedder(EmbedderConfig(model=str(card.folder)), self.runtime)
        assert embedder is not None
        return evaluate_reid(embedder, path)

    def _classifier(self, subject: Subject, card: ModelCard, path: Path) -> Mapping[str, float]:
        return evaluate_classifier(load_classifier(card, runtime=self.runtime), path).metrics

    def _segmenter(self, subject: Subject, card: ModelCard, path: Path) -> Mapping[str, float]:
        long_side = int(subject.size) if subject.size.isdigit() else 0
        config = SegmenterConfig(model=str(card.folder), long_side=long_side)
        form = measured_format(path, card.labels)
        pairs = measured_pictures(path)[: self.limit]
        check_masks(pairs, form)
        return measure_segmenter(build_segmenter(config, self.runtime), pairs, form, borders=False).scores()

    def _source(self, path: Path) -> str:
        return f"{path.name}, first {self.limit} pictures" if self.limit else path.name


def stated_metrics(card: ModelCard) -> dict[str, float]:
    """Return the card's own figures of the metrics that its kind is compared by."""
    wanted = compared_metrics(card.kind)
    return {row["name"]: float(row["value"]) for row in card.metrics if row.get("name") in wanted and "value" in row}
