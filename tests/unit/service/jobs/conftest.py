"""The video that most jobs of these tests are about."""

from __future__ import annotations

import pytest
from job_fakes import write_video
from job_serving import FRAMES


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a video of FRAMES frames."""
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", FRAMES).read_bytes()
