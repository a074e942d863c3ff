"""The bundled segmenter on real pictures, and on one trunk with the bundled detector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from vision.build import build_pipeline, build_segmenter
from vision.cli.demo import find_clip
from vision.config import PipelineConfig
from vision.detection.config import DetectorConfig
from vision.evaluation.segmentation import measure_segmenter
from vision.io.sources import open_source
from vision.runtime.config import RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.from_maps import MapSegmenter
from vision.segmentation.segmenter import Segmenter
from vision.shared_trunk import find_common_stages
from vision.store import find_model
from vision.training.datasets.mask_layouts import find_parts
from vision.training.datasets.masks import MaskFormat
from vision.types import Frame


@pytest.fixture(scope="module")
def segmenter() -> Iterator[Segmenter]:
    with closing(build_segmenter(SegmenterConfig(), RuntimeConfig(device="cpu"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def street() -> Frame:
    """A frame of the demo clip: houses above, below them a street behind bicycles that are locked to a rail."""
    with open_source(str(find_clip())) as source:
        return next(islice(source, 180, None))


def test_a_street_has_houses_above_and_a_road_below(segmenter: Segmenter, street: Frame) -> None:
    found = segmenter.segment([street])[0]
    assert found.labels.shape == street.size_hw
    shares = [np.bincount(half.ravel(), minlength=11) / half.size for half in np.array_split(found.labels, 2)]
    road, building = found.class_names.index("road"), found.class_names.index("building")
    assert shares[0][building] > 0.6
    assert shares[0][road] < 0.05
    assert shares[1][road] > 0.35


def test_the_bundled_models_share_their_first_stages(street: Frame) -> None:
    common = find_common_stages(DetectorConfig(), SegmenterConfig())
    assert common is not None
    assert common.stride == 8
    with closing(build_pipeline(PipelineConfig(), track=False, segment=True)) as pipeline:
        assert isinstance(pipeline.segmenter, MapSegmenter)
        shared = pipeline.process(street)
    with closing(build_pipeline(PipelineConfig(), track=False)) as pipeline:
        alone = pipeline.process(street)
    assert shared.detections is not None
    assert alone.detections is not None
    np.testing.assert_allclose(shared.detections.boxes, alone.detections.boxes, atol=0.05)


def test_one_trunk_changes_nothing(segmenter: Segmenter, street: Frame) -> None:
    with closing(build_pipeline(PipelineConfig(), track=False, segment=True)) as pipeline:
        shared = pipeline.process(street).segmentation
    whole = segmenter.segment([street])[0]
    assert shared is not None
    assert (shared.labels == whole.labels).mean() > 0.999  # but for rounding


@pytest.mark.data
def test_the_card_tells_the_truth(segmenter: Segmenter, data_dir: Path) -> None:
    _, val = find_parts(data_dir / "camvid")
    form = MaskFormat(segmenter.class_names)
    meter = measure_segmenter(segmenter, val[::5], form, borders=False)
    stated = {row["name"]: row["value"] for row in find_model("street-fcn8s").metrics}
    assert stated["mIoU"] >= 0.62
    assert meter.scores()["mIoU"] == pytest.approx(stated["mIoU"], abs=0.04)  # every fifth picture
