"""The default detector is as good as its card says, on pictures that it was not trained on."""

from pathlib import Path

import pytest

from vision.build import build_detector
from vision.detection.config import DetectorConfig
from vision.evaluation.detection import evaluate_detector
from vision.runtime.config import RuntimeConfig
from vision.store import find_model
from vision.training.datasets.detection import read_detection_data


@pytest.mark.data
@pytest.mark.slow
def test_person_lite0_reaches_the_figures_of_its_card(data_dir: Path) -> None:
    detector = build_detector(DetectorConfig(conf=0.01, max_det=100), RuntimeConfig(device="cpu"))
    images, names = read_detection_data(data_dir / "coco-person" / "val.json", ("person",))
    scores = evaluate_detector(detector, images, names)
    stated = {row["name"]: row["value"] for row in find_model("person-lite0").metrics}
    assert scores["ap50"] == pytest.approx(stated["ap50"], abs=0.005)
    assert scores["ap"] == pytest.approx(stated["ap"], abs=0.005)
