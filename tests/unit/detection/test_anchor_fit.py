"""How well anchors fit: recall by hand, k-means on clear clusters, suggestions that fit better."""

from __future__ import annotations

import numpy as np
import pytest

from vision.detection.anchor_fit import anchor_sizes, cluster_sizes, measure_anchors, size_iou, suggest_anchors
from vision.detection.anchors import AnchorConfig, make_anchors

ONE = AnchorConfig(strides=(8,), scale=2.0, ratios=(1.0,))  # 16 x 16 pixels


def sizes(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, np.float32)


def people(count: int = 400, *, ratio: float = 2.5, seed: int = 0) -> np.ndarray:
    """Return upright boxes 8 to 60 pixels wide whose ratio varies by some 20 %."""
    rng = np.random.default_rng(seed)
    width = np.exp(rng.uniform(np.log(8), np.log(60), count))
    height = width * ratio * np.exp(0.2 * rng.normal(size=count))
    return np.stack([width, height], axis=1).astype(np.float32)


def test_sizes_are_those_of_the_anchors() -> None:
    config = AnchorConfig(strides=(8, 16), ratios=(0.5, 2.0), octaves=2, between=True)
    boxes = make_anchors(config, (16, 16)).boxes.numpy()
    cell = np.concatenate([boxes[:5], boxes[-5:]])
    np.testing.assert_allclose(anchor_sizes(config), cell[:, 2:] - cell[:, :2], rtol=1e-5)


def test_fit_by_hand() -> None:
    """16 x 16 against itself 1, against 16 x 8 exactly 0.5, against 16 x 4 a quarter."""
    objects = sizes((16, 16), (16, 8), (16, 4))
    np.testing.assert_allclose(size_iou(objects, anchor_sizes(ONE))[:, 0], [1, 0.5, 0.25])
    fit = measure_anchors(objects, anchor_sizes(ONE))
    assert fit.recall == pytest.approx(2 / 3)
    assert fit.mean_iou == pytest.approx(1.75 / 3)


def test_clear_clusters_are_found_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    true = sizes((10, 10), (20, 80), (100, 50))
    objects = np.repeat(true, 50, axis=0) * rng.uniform(0.95, 1.05, (150, 2)).astype(np.float32)
    for order in (np.arange(150), rng.permutation(150)):
        centres = cluster_sizes(objects[order], 3)
        np.testing.assert_allclose(centres[np.argsort(centres[:, 0])], true, rtol=0.03)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_more_clusters_than_objects(count: int) -> None:
    assert len(cluster_sizes(sizes((10, 20), (30, 40)), count)) == min(count, 2)


def test_anchors_that_fit_need_no_suggestion() -> None:
    assert suggest_anchors(people(), AnchorConfig(strides=(8, 16), scale=2.5, ratios=(2.5,), octaves=3)) is None


def test_a_suggestion_fits_better_and_keeps_the_levels() -> None:
    lying = people()[:, ::-1].copy()
    config = AnchorConfig()
    better = suggest_anchors(lying, config)
    assert better is not None
    assert better.strides == config.strides
    assert max(better.ratios) < 1
    before, after = (measure_anchors(lying, anchor_sizes(each)) for each in (config, better))
    assert after.recall > before.recall + 0.2
    assert after.mean_iou > before.mean_iou


def test_ratios_are_added_only_for_objects_that_need_them() -> None:
    config = AnchorConfig(strides=(4, 8, 16), scale=8.0, ratios=(1.0,), octaves=3)
    one = suggest_anchors(people(), config)
    two = suggest_anchors(np.concatenate([people(ratio=4.0), people(ratio=4.0)[:, ::-1]]), config)
    assert one is not None
    assert two is not None
    assert one.ratios == pytest.approx((2.5,), rel=0.1)
    assert two.ratios == pytest.approx((0.25, 4.0), rel=0.1)


def test_nothing_is_suggested_where_nothing_helps() -> None:
    """Objects far larger than the only level can reach at 16 cells."""
    assert suggest_anchors(sizes((900, 900), (1000, 1000)), AnchorConfig(strides=(8,), ratios=(1.0,))) is None
