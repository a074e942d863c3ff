from __future__ import annotations

import dataclasses
import math

import pytest

from vision.errors import ConfigError
from vision.tracking.config import CHI2_95_4DOF, PRESETS, TrackerConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_age", -1),
        ("n_init", 0),
        ("gallery_size", 0),
        ("max_cosine_distance", 2.1),
        ("max_cosine_distance", math.nan),
        ("gate", -1.0),
        ("gate", math.inf),
        ("max_iou_distance", -0.1),
        ("high_conf", math.nan),
        ("std_weight_position", 0.0),
        ("std_weight_velocity", -1.0),
        ("output_coasting", -1),
        ("nominal_fps", -25.0),
    ],
)
def test_values_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"tracking\.{field} must be .*default"):
        TrackerConfig(**{field: value})


def test_gate_is_the_chi_square_quantile() -> None:
    from scipy.stats import chi2

    assert pytest.approx(chi2.ppf(0.95, 4), abs=1e-4) == CHI2_95_4DOF


def test_presets_are_valid_and_sort_uses_no_appearance() -> None:
    assert PRESETS["deepsort"] == TrackerConfig()
    assert not PRESETS["sort"].appearance
    assert dataclasses.replace(PRESETS["sort"], max_age=3).max_age == 3
