"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# pytest's importlib mode leaves sys.path alone, and tiny_segmenter is used by unit and integration tests.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of training data, or skip: it is never part of the repository."""
    configured = os.environ.get("STRIDE32_DATA")
    folder = Path(configured) if configured else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the training data: set STRIDE32_DATA (shared/data beside the repository is absent)")
    return folder
