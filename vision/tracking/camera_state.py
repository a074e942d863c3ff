"""What a camera-motion estimator remembers from one frame to the next, as a value: it can be kept, undone and saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.tracking.picture_motion import MotionFailure
from vision.types import FloatArray, ImageArray
from vision.validation import describe

FIELDS = ("grey", "corners", "size_hw", "counts", "last_failure")


@dataclass(frozen=True, slots=True, eq=False)
class CameraState:
    """The last picture and what happened so far. Its arrays are never written to.

    Attributes:
        grey: uint8 [h, w], the last picture, shrunk; None if there is none to compare with.
        corners: float32 [P, 2], corners of ``grey`` to follow; empty for ECC.
        size_hw: height and width in pixels of the last frame.
        frames: pictures seen.
        failures: how often each failure occurred; those that never did are left out.
        last_failure: the failure of the last picture, or None.
    """

    grey: ImageArray | None = None
    corners: FloatArray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    size_hw: tuple[int, int] = (0, 0)
    frames: int = 0
    failures: Mapping[MotionFailure, int] = field(default_factory=dict)
    last_failure: MotionFailure | None = None

    def then(
        self, grey: ImageArray, corners: FloatArray, size_hw: tuple[int, int], failure: MotionFailure | None
    ) -> Self:
        """Return the state after one more picture."""
        failures = dict(self.failures)
        if failure is not None:
            failures[failure] = failures.get(failure, 0) + 1
        return replace(
            self,
            grey=grey,
            corners=corners,
            size_hw=size_hw,
            frames=self.frames + 1,
            failures=failures,
            last_failure=failure,
        )

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of the state as arrays that ``from_arrays`` reads back."""
        counts = [self.frames, *(self.failures.get(failure, 0) for failure in MotionFailure)]
        return {
            "grey": np.zeros((0, 0), np.uint8) if self.grey is None else self.grey.copy(),
            "corners": self.corners.copy(),
            "size_hw": np.array(self.size_hw, np.int64),
            "counts": np.array(counts, np.int64),
            "last_failure": np.array(self.last_failure or ""),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the state that ``to_arrays`` gave; raises InvalidInputError when the arrays do not fit."""
        _check_arrays(arrays)
        frames, *counts = arrays["counts"].tolist()
        has_picture = arrays["grey"].size > 0
        height, width = arrays["size_hw"].tolist()
        last_failure = str(arrays["last_failure"])
        return cls(
            grey=arrays["grey"].copy() if has_picture else None,
            corners=arrays["corners"].copy(),
            size_hw=(height, width),
            frames=frames,
            failures={failure: count for failure, count in zip(MotionFailure, counts, strict=True) if count},
            last_failure=MotionFailure(last_failure) if last_failure else None,
        )


def _check_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise InvalidInputError unless the arrays have the form that ``to_arrays`` gives."""
    missing = [name for name in FIELDS if name not in arrays]
    if missing:
        raise InvalidInputError(f"camera state needs {', '.join(FIELDS)}, got no {missing[0]}; save it again")
    grey, corners, size_hw, counts = (arrays[name] for name in FIELDS[:4])
    fits = (
        _is(grey, np.uint8, 2)
        and (_is(corners, np.float32, 2) and corners.shape[1] == 2 and bool(np.isfinite(corners).all()))
        and (_is(size_hw, np.int64, 1) and len(size_hw) == 2)
        and (_is(counts, np.int64, 1) and len(counts) == 1 + len(MotionFailure) and bool((counts >= 0).all()))
        and (grey.size == 0 or bool((size_hw > 0).all()))
        and str(arrays["last_failure"]) in ("", *MotionFailure)
    )
    if not fits:
        found = ", ".join(f"{name} {describe(arrays[name])}" for name in FIELDS)
        raise InvalidInputError(
            f"camera state needs a grey picture, its corners, its size and counts as they were saved, got {found}; "
            "save it again"
        )


def _is(array: npt.NDArray[Any], dtype: type[np.generic], ndim: int) -> bool:
    return array.dtype == dtype and array.ndim == ndim
