"""Query parameters of the routes for pictures: one pydantic model each, which checks requests and describes itself.

Read by hand and not by the framework's injection, which costs more than the rest of a request to a small model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, Self, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from service.errors import InvalidParameterError
from service.stream_options import MAX_LONG_SIDE, ModelName
from vision.errors import closest_hint
from vision.types import FloatArray

MAX_BOXES = 1000

ParametersT = TypeVar("ParametersT", bound="QueryParameters")


class QueryParameters(BaseModel):
    """The parameters of a query: each once, none unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def of(cls, request: Request) -> Self:
        """Return the parameters of a request; raises InvalidParameterError."""
        query: bytes = request.scope["query_string"]
        if not query:
            defaults: Self = _defaults(cls)
            return defaults
        try:
            # Percent-encoded or, from a terminal, as it was typed.
            return cls.parse(query.decode())
        except UnicodeDecodeError:
            raise InvalidParameterError("the query must be UTF-8, it is not; percent-encode it") from None

    @classmethod
    def parse(cls, query: str) -> Self:
        """Return the parameters of a query; raises InvalidParameterError."""
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=50, errors="strict")
        except ValueError as exc:
            raise InvalidParameterError(f"the query must be name=value pairs, it is not ({exc}); correct it") from None
        values = dict(pairs)
        if len(values) < len(pairs):
            raise InvalidParameterError("each parameter must come once, one came twice; leave one out")
        try:
            return cls.model_validate(values)
        except ValidationError as exc:
            known = list(cls.model_fields)
            raise InvalidParameterError(describe_errors(exc.errors(), known)) from None


class ImageParameters(QueryParameters):
    """What all image routes take."""

    model: ModelName | None = Field(None, description="Model by name; the default one of the task without it.")
    timeout_ms: float | None = Field(
        None, gt=0, le=600_000, description="Milliseconds until the answer is of no use; the server's limit holds too."
    )

    def timeout_s(self, longest_s: float) -> float:
        """Return the seconds until the answer is of no use."""
        return longest_s if self.timeout_ms is None else min(longest_s, self.timeout_ms / 1000)


class DetectParameters(ImageParameters):
    """Thresholds of one picture; what is left out is the model's own."""

    conf: float | None = Field(None, ge=0, le=1, description="Lowest score kept.")
    iou: float | None = Field(None, gt=0, le=1, description="Overlap above which the lower score is dropped.")
    max_det: int | None = Field(None, ge=1, le=1000, description="Most detections.")
    classes: str | None = Field(None, max_length=4000, description="Names of the classes to keep, comma-separated.")
    class_agnostic: bool = Field(False, description="Let boxes of different classes suppress each other.")
    size: int = Field(0, ge=0, le=MAX_LONG_SIDE, description="Longer side in pixels of the network's input; 0: own.")


class SegmentParameters(ImageParameters):
    """What a map shows, and how a picture of it is drawn."""

    classes: str | None = Field(None, max_length=4000, description="Names of the classes to keep, comma-separated.")
    size: int = Field(0, ge=0, le=MAX_LONG_SIDE, description="Longer side in pixels of the network's input; 0: own.")
    render: Literal["mask", "overlay"] | None = Field(
        None, description="Of a picture as the answer: class numbers (PNG) or colours over the picture."
    )


class ClassifyParameters(ImageParameters):
    """How much of the answer is wanted."""

    top: int = Field(5, ge=0, le=10_000, description="Classes reported, surest first; 0: all.")


class EmbedParameters(ImageParameters):
    """What is embedded."""

    boxes: str | None = Field(
        None,
        max_length=100_000,
        description="Objects as x1,y1,x2,y2 in pixels, separated by semicolons; the whole picture without it.",
        examples=["10,20,110,320;200,30,280,310"],
    )

    def box_array(self) -> FloatArray | None:
        """Return the boxes float32 [N, 4], or None for the whole picture; raises InvalidParameterError."""
        if self.boxes is None:
            return None
        import numpy as np

        from vision.validation import as_boxes

        rows = [row for row in self.boxes.split(";") if row.strip()]
        try:
            values = [[float(number) for number in row.split(",")] for row in rows]
            if not 1 <= len(values) <= MAX_BOXES or any(len(row) != 4 for row in values):
                raise ValueError(f"found {len(rows)} boxes, or one without four numbers")
            return as_boxes(np.array(values, np.float64))
        except ValueError as exc:
            raise InvalidParameterError(
                f"boxes must be 1 to {MAX_BOXES} times x1,y1,x2,y2 separated by semicolons, {exc}; correct it"
            ) from None


@cache
def _defaults(cls: type[ParametersT]) -> ParametersT:
    """Return the value without any parameter, which most requests have."""
    return cls()


def split_names(text: str | None) -> tuple[str, ...]:
    """Return comma-separated names."""
    return () if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def describe_errors(errors: Iterable[Mapping[str, Any]], known: Iterable[str] = ()) -> str:
    """Return one line for what pydantic found wrong: where, what was expected, what came."""
    names = list(known)
    parts = []
    for error in list(errors)[:5]:
        place = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path")) or "the body"
        message = str(error["msg"]).removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            parts.append(
                f"{place[:100]} is unknown{closest_hint(place, names)}" + (f"; known: {', '.join(names)}" * bool(names))
            )
        else:
            found = repr(error.get("input"))
            parts.append(f"{place[:100]}: {message}, got {found[:60]}{'...' * (len(found) > 60)}")
    return "; ".join(parts) + "; correct the request"


def openapi_parameters(model: type[QueryParameters]) -> list[dict[str, Any]]:
    """Return the OpenAPI description of the query parameters."""
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": field.get("description", ""),
            "schema": {key: value for key, value in field.items() if key not in ("description", "title")},
        }
        for name, field in schema["properties"].items()
    ]
