"""A store of sessions over networks that are not the point."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from square_streams import SquareBuilder


@pytest.fixture
def builder() -> SquareBuilder:
    return SquareBuilder()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Return threads that decode."""
    with ThreadPoolExecutor(2) as threads:
        yield threads
