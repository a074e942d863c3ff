"""The parameters of a request: thresholds as of ``/v1``, and those that Triton's clients may send with any request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from service.oip.fields import check_misspelt
from service.oip.limits import OipError, quote
from service.parameters import split_names as split_query_names
from service.stream_options import MAX_LONG_SIDE, ClassName
from vision.classification.config import ClassifierConfig
from vision.detection.config import DetectorConfig
from vision.segmentation.config import SegmenterConfig

SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")


class CommonParameters(BaseModel):
    """What a request to any model may set."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    timeout_ms: float | None = Field(None, gt=0, description="Milliseconds in which the answer is wanted.")
    timeout: int | None = Field(None, ge=0, description="The same in microseconds, as Triton's clients say it.")
    priority: int = Field(0, ge=0, description="Accepted for Triton's clients; all requests are equal.")

    def timeout_s(self, longest: float) -> float:
        """Return the seconds until the answer is wanted, at most ``longest``."""
        asked = [longest]
        if self.timeout_ms is not None:
            asked.append(self.timeout_ms / 1000)
        if self.timeout:
            asked.append(self.timeout / 1e6)
        return min(asked)

    def options(self) -> Any:
        """Return what the model's ``prepare`` takes; None for its defaults."""
        return None


class DetectParameters(CommonParameters):
    """Thresholds of a detector; what is left out is the model's own."""

    conf: float | None = Field(None, ge=0, le=1, description="Lowest score of a detection kept.")
    iou: float | None = Field(None, gt=0, le=1, description="Overlap above which the lower score is dropped.")
    max_det: int | None = Field(None, ge=1, le=1000, description="Most detections of a picture.")
    classes: tuple[ClassName, ...] | None = Field(None, max_length=1000, description="Names of the classes to keep.")
    class_agnostic: bool | None = Field(None, description="Whether boxes of different classes suppress each other.")
    size: int | None = Field(None, ge=0, le=MAX_LONG_SIDE, description="Longer side in pixels of the network's input.")

    @field_validator("classes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return split_names(value)

    def options(self) -> DetectorConfig | None:
        """Return the thresholds, None where nothing is set."""
        names = {"size": "long_side"}
        given = {
            names.get(name, name): value
            for name in ("conf", "iou", "max_det", "classes", "class_agnostic", "size")
            if (value := getattr(self, name)) is not None
        }
        return DetectorConfig(**given) if given else None


class SegmentParameters(CommonParameters):
    """Choices of a segmenter."""

    classes: tuple[ClassName, ...] | None = Field(
        None, max_length=255, description="Classes to keep, labelled 1, 2, ... in this order; all else is 0, other."
    )
    size: int = Field(0, ge=0, le=MAX_LONG_SIDE, description="Longer side in pixels of the network's input; 0: own.")

    @field_validator("classes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return split_names(value)

    def options(self) -> SegmenterConfig | None:
        """Return the choices, None where there are none."""
        if self.classes is None and not self.size:
            return None
        return SegmenterConfig(classes=self.classes or (), long_side=self.size)


class ClassifyParameters(CommonParameters):
    """A classifier has no choices here: the classification extension says how many classes are wanted."""

    def options(self) -> ClassifierConfig:
        """Return the choice of all classes: scores are given in the order of the labels."""
        return ClassifierConfig(top=0)


PARAMETERS: Mapping[str, type[CommonParameters]] = {
    "detect": DetectParameters,
    "segment": SegmentParameters,
    "classify": ClassifyParameters,
    "embed": CommonParameters,
}
_OURS = frozenset(name for kind in PARAMETERS.values() for name in kind.model_fields)
MEANT: Mapping[str, str] = {
    **dict.fromkeys(("confidence", "threshold", "score_threshold", "conf_threshold", "confidence_threshold"), "'conf'"),
    **dict.fromkeys(("iou_threshold", "nms_threshold"), "'iou'"),
    "max_detections": "'max_det'",
    **dict.fromkeys(("top", "top_k"), "the parameter classification of the output scores"),
}
"""What other programs call what we have: who sends it must not believe that it had an effect."""


def read_request_parameters(parameters: Mapping[str, Any], task: str) -> CommonParameters:
    """Return the checked parameters of a request to a model for ``task``.

    Raises:
        OipError: one is of the wrong type or out of range, is meant for another task, or is one of ours misspelt; or
            the request belongs to a sequence. What else is unknown is ignored.
    """
    kind = PARAMETERS[task]
    # Clients that know sequences say 0 or nothing where there is none.
    if any(parameters.get(name) not in (None, 0, "") for name in SEQUENCE):
        raise OipError("a request must stand alone, got a sequence_id; tracking over frames is at /v1/sessions")
    for name in parameters:
        if name not in kind.model_fields and (name in _OURS or name in MEANT):
            meant = MEANT.get(name, "")
            hint = f" (did you mean {meant}?)" if meant else ""
            raise OipError(
                f"parameters for {task} must be among {', '.join(sorted(kind.model_fields))}, got {quote(name)}{hint}; "
                "correct it"
            )
    check_misspelt(f"parameters for {task}", parameters, {*kind.model_fields, *SEQUENCE})
    try:
        return kind(**{name: value for name, value in parameters.items() if name in kind.model_fields})
    except ValidationError as exc:
        first = exc.errors()[0]
        name = str(first["loc"][0])
        message = first["msg"].removeprefix("Value error, ")
        raise OipError(
            f"parameter {name} must be right, got {quote(parameters[name])}: {message}; correct it"
        ) from None


def split_names(value: Any) -> Any:
    """Read ``a,b`` as two names; the protocol's parameters are texts, numbers and flags, lists come from kind clients.

    >>> split_names("person, car")
    ('person', 'car')
    """
    if isinstance(value, str):
        return split_query_names(value)
    return tuple(value) if isinstance(value, list) else value
