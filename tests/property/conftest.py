"""One hypothesis profile for all property tests."""

from __future__ import annotations

from hypothesis import settings

# No deadline: on a busy machine it fails tests for being slow once, which says nothing about the law.
settings.register_profile("stride32", deadline=None, print_blob=True)
settings.load_profile("stride32")
