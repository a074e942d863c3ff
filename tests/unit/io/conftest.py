"""Puts this folder on the path, so that tests here and below may import io_media and io_results."""

from __future__ import annotations

import sys
from pathlib import Path

# pytest's importlib mode leaves sys.path alone, and the makers are used by several test files.
sys.path.insert(0, str(Path(__file__).parent))
