"""The exception tree of Stride32; every stage of a frame's path raises from here.

VisionError
  ConfigError            bad or inconsistent configuration
  InvalidInputError      wrong shape, dtype or range; unreadable image or video
    MediaError           the bytes are not a supported image or video
    LimitExceededError   too many pixels, bytes or frames
    OutputExistsError    an output is there already and overwriting was not asked for
  ModelError
    ModelNotFoundError   no model of that name; lists the known names and the closest one
    WeightsError         digest or key mismatch, with both sides
  DeviceMemoryError      the GPU has no memory left for a batch
  StateError             a closed pipeline, an expired session
  DivergenceError        training left the finite numbers
  MissingDependencyError an optional package is absent; says which extra installs it

Each message has three parts: what was expected, what was found, what to do. The same facts are attached as fields so
that a caller (the HTTP service, a batch report) need not parse text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class VisionError(Exception):
    """Base of all errors that Stride32 raises on purpose.

    Attributes:
        expected: what the code needed, in words, or None.
        actual: what it got, in words, or None.
        path: the file concerned, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        actual: str | None = None,
        path: str | Path | None = None,
    ) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual
        self.path = None if path is None else Path(path)


class ConfigError(VisionError):
    """A configuration value or key is unknown, out of range or contradicts another."""


class InvalidInputError(VisionError, ValueError):
    """An argument has the wrong shape, dtype or range, or an input cannot be read."""


class MediaError(InvalidInputError):
    """The bytes are not an image or a video that we can decode."""


class LimitExceededError(InvalidInputError):
    """An input is larger than the configured limit (pixels, bytes or frames)."""


class OutputExistsError(InvalidInputError):
    """An output file is there already and overwriting was not asked for."""


class ModelError(VisionError):
    """A model cannot be found, loaded or exported."""


class ModelNotFoundError(ModelError):
    """No model has the given name."""

    def __init__(self, name: str, known: Iterable[str], *, kind: str = "model") -> None:
        self.name = name
        self.known = tuple(sorted(known))
        listing = ", ".join(self.known) or "none"
        super().__init__(
            f"unknown {kind} {name!r}{closest_hint(name, self.known)}; known: {listing}; "
            "a path to a model folder works too (stride32 models list)",
            expected=f"one of {listing}",
            actual=name,
        )


class WeightsError(ModelError):
    """Weights do not fit the network or the card: digest, key or shape mismatch."""


class DeviceMemoryError(VisionError):
    """The device has no memory left for a batch; a smaller one may fit."""


class StateError(VisionError):
    """An object is used after it was closed, or a session has expired."""


class DivergenceError(VisionError):
    """Training left the finite numbers: the loss or a weight is NaN or infinite."""


class MissingDependencyError(VisionError):
    """An optional package is not installed."""

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed; run: pip install 'stride32[{extra}]'",
            expected=package,
        )


def closest_hint(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known word nearest to ``word``, or an empty string."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {match[0]!r}?)" if match else ""
