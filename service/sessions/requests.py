"""What clients send and get about sessions, as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BadRequestError, InvalidParameterError
from service.parameters import QueryParameters, describe_errors
from service.stream_options import StreamOptions

MAX_OPTIONS_BYTES = 64 << 10
"""Of the JSON that opens a session."""
MAX_SEQUENCE = 2**53 - 1
"""Frame numbers are exact in JSON and in the tracker's clock up to here."""
MAX_TIMESTAMP_S = 1e12
"""Far beyond any clock, and differences are still finite."""


class SessionRequest(StreamOptions):
    """A new session: the stream's options, and how long it lives without a frame."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"tracker": "bytetrack", "conf": 0.4, "ttl_s": 120.0}]},
    )

    ttl_s: float | None = Field(None, gt=0, description="Seconds without a frame after which it ends.")

    def stream_options(self) -> StreamOptions:
        """Return the options of the stream alone."""
        return StreamOptions.model_validate(self.model_dump(exclude={"ttl_s"}))


class FrameParameters(QueryParameters):
    """Number and time of a frame."""

    sequence: Annotated[int, Field(ge=0, le=MAX_SEQUENCE)] | None = Field(
        None, description="Number of the frame; the next one without it. Numbers left out are dropped frames."
    )
    timestamp_s: Annotated[float, Field(ge=0, le=MAX_TIMESTAMP_S)] | None = Field(
        None, description="Time of the frame in seconds; must rise."
    )


class SessionInfo(BaseModel):
    """A session as its owner sees it; times in seconds since 1970."""

    id: str
    created_at: float
    expires_at: float
    ttl_s: float
    next_sequence: int
    last_timestamp_s: float | None
    frames: int
    options: dict[str, Any]
    class_names: list[str]


class SessionList(BaseModel):
    """The sessions of the key that asks, oldest first."""

    sessions: list[SessionInfo]


class DetectionRow(BaseModel):
    """One detected object; box as x1, y1, x2, y2 in pixels of the upright picture."""

    box: tuple[float, float, float, float]
    score: float
    label: int
    class_name: str


class TrackRow(DetectionRow):
    """One track; ``detection`` is the row of the detection that it was matched with in this frame."""

    id: int
    state: Literal["tentative", "confirmed"]
    age: int
    time_since_update: int
    detection: int | None
    surface: str | None = None


class ImageSize(BaseModel):
    """Size of the upright picture in pixels."""

    width: int
    height: int


class FrameAnswer(BaseModel):
    """The answer to a frame."""

    session: str
    sequence: int
    timestamp_s: float | None
    image: ImageSize
    tracks: list[TrackRow]
    detections: list[DetectionRow]
    timings_ms: dict[str, float]


def read_options(body: bytes | bytearray) -> SessionRequest:
    """Return the options of a new session; raises BadRequestError and InvalidParameterError."""
    if not body.strip():
        return SessionRequest.model_validate({})
    try:
        return SessionRequest.model_validate_json(body, strict=True)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False)
    if any(error["type"] == "json_invalid" for error in errors):
        raise BadRequestError(
            'the body must be a JSON object such as {"tracker": "bytetrack"}, or empty, got something that cannot be '
            "read as JSON; correct it"
        )
    raise InvalidParameterError(describe_errors(errors, SessionRequest.model_fields))
