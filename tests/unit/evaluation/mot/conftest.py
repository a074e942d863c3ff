"""Puts this folder on the path, so that tests here may import track_scenes."""

from __future__ import annotations

import sys
from pathlib import Path

# pytest's importlib mode leaves sys.path alone, and the scenes are used by several test files.
sys.path.insert(0, str(Path(__file__).parent))
