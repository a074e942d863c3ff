"""The report from run folders made by hand: each kind of model, hostile names, and parts that fail."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from vision.card import ModelCard, read_card, write_card
from vision.errors import InvalidInputError
from vision.evaluation.segmentation import SegmentationMeter, class_scores, total_scores
from vision.training.datasets.mask_layouts import MaskedPicture
from vision.training.datasets.masks import MaskFormat
from vision.training.datasets.palettes import Palette
from vision.training.datasets.pictures import AnnotatedImage
from vision.training.report import write as report
from vision.training.report.answers import (
    ClassifierAnswers,
    EmbedderAnswers,
    load_detections,
    save_detections,
    save_embeddings,
    save_outputs,
)
from vision.training.report.segmenter import _painted, segmenter_content
from vision.training.report.segmenter_answers import SegmenterAnswers, answer_pictures, load_segmentation
from vision.training.report.write import report_run, write_report
from vision.training.run import finite, write_metrics
from vision.types import Detections, Frame, SegmentationMap

HOSTILE = ("<script>alert(1)</script>", "$\\frac{a}", '"onerror="x')


class Page(HTMLParser):
    """Collects tags, addresses and text, and checks that tags are closed in order."""

    VOID = frozenset({"meta", "img", "source", "br", "hr", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "srcset", "href"):
                self.addresses.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(out: Path) -> Page:
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import|https?:", text)
    assert "default-src 'none'" in text
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    return page


def run_folder(
    out: Path, kind: str, *, labels: tuple[str, ...] = (), architecture: dict[str, object] | None = None
) -> Path:
    """A finished run without its answers."""
    folder = out / "metrics" / "version_0"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("epoch,loss,step,val_ap\n0,2.0,9,\n0,1.0,19,0.2\n")
    (out / "config.toml").write_text('name = "mine"\nepochs = 2\ndata = "/home/alice/private/street"\n')
    (out / "metrics.json").write_text(json.dumps({"ap": 0.5, "ap_small": -1.0, "queries": 8.0}))
    card = ModelCard(
        name="mine",
        kind=kind,
        summary="<b>bold</b> & more",
        folder=out / "mine",
        architecture=architecture or {"backbone": "lenet5"},
        preprocess={"long_side": 64},
        sha256="0" * 64,
        licence="Apache-2.0",
        labels=labels,
        data=({"name": "street", "terms": "ours"},),
        training={"command": "stride32 train x --set 'a=<b>'"},
        metrics=({"name": "ap", "value": 0.5, "dataset": "val, 4 pictures", "command": "stride32 eval x"},),
    )
    write_card(out / "mine", card)
    return out


def picture(path: Path, size_hw: tuple[int, int] = (80, 120)) -> Path:
    cv2.imwrite(str(path), np.full((*size_hw, 3), 120, np.uint8))
    return path


def detector_run(tmp_path: Path) -> Path:
    out = run_folder(tmp_path / "run", "detector", labels=HOSTILE)
    boxes = np.array([[5, 5, 45, 45], [60, 10, 110, 60]], np.float32)
    images = [
        AnnotatedImage(picture(tmp_path / f"{number}.png"), number, boxes, np.array([number % 2, 1]))
        for number in range(4)
    ]
    found = {
        number: Detections(boxes + number, np.array([0.9, 0.4], np.float32), np.array([0, 1])) for number in range(3)
    }
    save_detections(out, images, found, HOSTILE)
    return out


def test_detector(tmp_path: Path) -> None:
    out = detector_run(tmp_path)
    assert write_report(out) == out / "report.html"
    page = read_page(out)
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {
        "loss.png", "validation.png", "precision-recall.png", "f1.png", "confusion.png", "predictions.png",
        "false.png", "missed.png",
    }  # fmt: skip
    assert page.tags.count("img") == len(figures)
    for words in (HOSTILE[0], "<b>bold</b> & more", "stride32 train x --set 'a=<b>'", "Errors by kind", "VOC area"):
        assert words in page.text
    assert "alice" not in page.text
    assert "private/street" in page.text


def test_answers_of_a_detector_survive_the_folder(tmp_path: Path) -> None:
    out = run_folder(tmp_path / "run", "detector", labels=("a", "b"))
    boxes = np.array([[5, 5, 45, 45], [60, 10, 110, 60]], np.float32)
    image = AnnotatedImage(
        picture(tmp_path / "1.png"), 7, boxes, np.array([1, 0]), difficult=np.array([True, False]),
        crowd_boxes=boxes[:1] + 1, crowd_labels=np.array([1]), areas=np.array([99.5, np.nan]),
    )  # fmt: skip
    save_detections(out, [image], {7: Detections(boxes, np.array([0.25, 0.5]), np.array([1, 1]))}, ("a", "b"))
    answers = load_detections(out)
    assert answers is not None
    truth, found = answers
    (again,) = truth.images
    assert truth.class_names == ("a", "b")
    assert again.path == image.path
    assert again.boxes.tolist() == boxes.tolist()
    assert again.labels.tolist() == [1, 0]
    assert again.areas is not None
    assert again.areas.tolist() == [99.5, 2500]
    assert again.difficult is not None
    assert again.difficult.tolist() == [True, False]
    assert again.crowd_boxes is not None
    assert again.crowd_boxes.tolist() == [[6, 6, 46, 46]]
    assert found[7].labels.tolist() == [1, 1]
    assert load_detections(tmp_path) is None


def test_embedder(tmp_path: Path) -> None:
    out = run_folder(tmp_path / "run", "embedder")
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(4), 4)
    vectors = np.eye(8)[people] + rng.normal(0, 0.6, (16, 8))
    embeddings = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    paths = tuple(picture(tmp_path / f"{number}.png", (64, 32)) for number in range(16))
    save_embeddings(out, EmbedderAnswers(embeddings, people, np.tile([0, 1], 8), paths))
    write_report(out)
    page = read_page(out)
    assert {"rank-curve.png", "distances.png", "confusions.png"} <= {path.name for path in (out / "figures").iterdir()}
    assert "rank-1" in page.text


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_classifier(tmp_path: Path, task: str) -> None:
    labels = () if task == "regression" else HOSTILE
    out = run_folder(tmp_path / "run", "classifier", labels=labels, architecture={"backbone": "lenet5", "task": task})
    rng = np.random.default_rng(0)
    if task == "regression":
        targets = rng.normal(0, 3, (9, 1)).astype(np.float32)
        outputs = targets + rng.normal(0, 1, (9, 1)).astype(np.float32)
    else:
        targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 9)]
        outputs = rng.dirichlet([1, 1, 1], 9).astype(np.float32)
    paths = tuple(picture(tmp_path / f"{number}.png", (8, 8)) for number in range(9))
    save_outputs(out, ClassifierAnswers(outputs, targets, paths))
    write_report(out)
    page = read_page(out)
    figures = {path.name for path in (out / "figures").iterdir()}
    assert "mistakes.png" in figures
    assert ("confusion.png" in figures) == (task == "multiclass")
    assert ("values.png" in figures) == (task == "regression")
    assert "lacks" not in page.text


class GuessingSegmenter:
    """Takes the upper rows for the first class and the lower ones for the second, whatever the picture shows."""

    class_names = HOSTILE

    def segment(self, frames: Sequence[Frame]) -> list[SegmentationMap]:
        labels = np.repeat([0, 1], 40).astype(np.uint8)[:, None].repeat(120, axis=1)
        return [SegmentationMap(labels, self.class_names) for _ in frames]

    def close(self) -> None:
        pass


def segmenter_run(tmp_path: Path, *, right: bool = False) -> tuple[Path, SegmentationMeter]:
    out = run_folder(tmp_path / "run", "segmenter", labels=HOSTILE)
    pairs = []
    for number in range(5):
        mask = np.zeros((80, 120), np.uint8)
        mask[40 if right else 20 + 8 * number :] = 1
        mask[:, :5] = 255
        cv2.imwrite(str(tmp_path / f"{number}_mask.png"), mask)
        pairs.append(MaskedPicture(picture(tmp_path / f"{number}.png"), tmp_path / f"{number}_mask.png"))
    return out, answer_pictures(out, GuessingSegmenter(), pairs, MaskFormat(HOSTILE))


def test_segmenter(tmp_path: Path) -> None:
    out, meter = segmenter_run(tmp_path)
    metrics = finite(meter.scores())
    assert not any(name.endswith(HOSTILE[2]) for name in metrics)  # it neither occurs nor was found
    write_metrics(out, metrics)
    write_report(out)
    page = read_page(out)
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {"iou.png", "confusion.png", "samples.png", "worst.png"} <= figures
    for words in (
        HOSTILE[0],
        "What is confused most",
        "share of all pixels whose class is right",
        f"{metrics['mIoU']:.3f}",
    ):
        assert words in page.text
    assert "iou/" not in page.text
    assert "lacks" not in page.text


def test_a_segmenter_that_is_always_right_has_no_worst_pictures(tmp_path: Path) -> None:
    out, _ = segmenter_run(tmp_path, right=True)
    content = segmenter_content(out, read_card(out / "mine"))
    assert [table.title for table in content.tables] == ["Classes"]
    assert [item.name for item in content.photos] == ["samples"]


def test_answers_of_a_segmenter_survive_the_folder(tmp_path: Path) -> None:
    out, meter = segmenter_run(tmp_path)
    answers = load_segmentation(out)
    assert answers is not None
    assert answers.class_names == HOSTILE
    assert answers.confusion.tolist() == meter.confusion.tolist()
    own = class_scores(answers.class_names, answers.confusion, answers.border_f1)
    assert [item.border_f1 for item in own] == pytest.approx([item.border_f1 for item in meter.classes()], nan_ok=True)
    expected = {name: value for name, value in meter.scores().items() if "/" not in name and name != "pictures"}
    assert total_scores(own, answers.confusion) == pytest.approx(expected)
    truth, found = answers.truth(1), answers.answer(1)
    assert (truth[:, :5] == -1).all()
    assert found.max() == 1
    known = truth >= 0
    assert answers.accuracy[1] == pytest.approx((truth == found)[known].mean())
    (out / "validation" / "found" / "old.png").write_bytes(b"of a run before")
    answer_pictures(out, GuessingSegmenter(), answers.pictures[:2], answers.form)
    assert [path.name for path in sorted((out / "validation" / "found").iterdir())] == ["00000_0.png", "00001_1.png"]
    colours = (((0, 0, 0),), ((1, 1, 1), (2, 2, 2)), ((9, 9, 9),))
    coloured = MaskFormat(HOSTILE, palette=Palette(HOSTILE, colours, ((3, 3, 3),), others=True))
    answer_pictures(out, GuessingSegmenter(), answers.pictures[:1], coloured)
    again = load_segmentation(out)
    assert again is not None
    assert again.form == coloured
    assert load_segmentation(tmp_path) is None


def test_pictures_that_are_gone_cost_the_pictures_alone(tmp_path: Path) -> None:
    out, _ = segmenter_run(tmp_path)
    (tmp_path / "0.png").unlink()
    content = segmenter_content(out, read_card(out / "mine"))
    assert content.notes == ["The validation pictures could not be read, so none are shown."]
    assert len(content.tables) == 2


@pytest.mark.parametrize("changed", ["0.png", "0_mask.png"])
def test_pictures_resized_since_the_run_cost_the_pictures_alone(
    tmp_path: Path, changed: str, caplog: pytest.LogCaptureFixture
) -> None:
    out, _ = segmenter_run(tmp_path)
    cv2.imwrite(str(tmp_path / changed), cv2.imread(str(tmp_path / changed), cv2.IMREAD_UNCHANGED)[::2, ::2])
    content = segmenter_content(out, read_card(out / "mine"))
    assert content.notes == ["The validation pictures could not be read, so none are shown."]
    assert content.photos == []
    assert "picture, truth and answer must have one size" in caplog.text


def test_unknown_pixels_stay_as_they_are_beside_256_classes() -> None:
    image, labels = np.full((8, 8, 3), 90, np.uint8), np.full((8, 8), -1, np.int16)
    answers = SegmenterAnswers(
        tuple(f"c{label}" for label in range(256)), np.zeros((256, 256), np.int64), np.zeros(256, np.float32),
        np.zeros(0, np.float32), (), MaskFormat(HOSTILE), (),
    )  # fmt: skip
    np.testing.assert_array_equal(_painted(image, labels, answers), image)


def test_a_run_without_answers_or_model_still_has_a_page(tmp_path: Path) -> None:
    out = run_folder(tmp_path / "run", "detector")
    write_report(out)
    assert "--data DATA makes them" in read_page(out).text
    (out / "mine" / "card.toml").unlink()
    (out / "metrics.json").unlink()
    write_report(out)
    assert "has exported no model yet" in read_page(out).text


def test_a_part_that_fails_costs_that_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = detector_run(tmp_path)
    (out / "validation" / "detections.json").write_text("{")
    (out / "metrics" / "version_0" / "metrics.csv").write_bytes(b"\xff\xfe\x00")
    with caplog.at_level(logging.WARNING):
        write_report(out)
    page = read_page(out)
    assert "This report lacks the evaluation" in page.text
    assert "This report lacks the curves" in page.text
    assert "AP: area below" in page.text  # the metrics are still there


def test_a_failing_report_ends_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run_folder(tmp_path / "run", "detector")

    def broken(*_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(report, "report_body", broken)
    with caplog.at_level(logging.WARNING):
        assert report_run(out) is None
    assert "no report was written, the model is complete: the disk is full" in caplog.text


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"must be the folder of a training run, it has no config\.toml"):
        write_report(tmp_path)
