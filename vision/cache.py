"""The folder of files that can be made or fetched again: exported networks and downloaded weights."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "STRIDE32_CACHE"


def cache_folder(part: str) -> Path:
    """Return the folder ``part`` of the cache, below STRIDE32_CACHE or the user's cache folder; it may not exist."""
    root = os.environ.get(CACHE_VARIABLE)
    return (Path(root).expanduser() if root else Path(platformdirs.user_cache_dir("stride32"))) / part
