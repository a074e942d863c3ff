"""One picture in, one answer out: /v1/detect, /v1/segment, /v1/classify, /v1/embed.

A request gets its place in the queue before its body is read, and gives it back when the answer is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from service import convert
from service.admission import Ticket
from service.errors import BodyTimeoutError, DeadlineError, InvalidParameterError, NotAcceptableError, ServiceError
from service.fetch import MAX_ADDRESS
from service.inference import Answer
from service.model_entry import ModelEntry
from service.parameters import (
    ClassifyParameters,
    DetectParameters,
    EmbedParameters,
    ImageParameters,
    SegmentParameters,
    split_names,
)
from service.pictures import Form, accepted_form, draw, mask_png
from service.routes.descriptions import describe_image_route
from service.state import Service, service_of
from service.uploads import enter_upload, read_image_body, read_small_body
from vision.classification.config import ClassifierConfig
from vision.detection.config import DetectorConfig
from vision.segmentation.config import SegmenterConfig
from vision.types import FrameResult

router = APIRouter(tags=["images"])

# An address and the JSON around it; a parser is not to be given more.
MAX_ADDRESS_BODY = MAX_ADDRESS + 100

Content = bytes | Mapping[str, Any]
# Up to so many, JSON is written on the spot in about a third of a millisecond; more would hold up the event loop.
FEW_DETECTIONS, FEW_EMBEDDINGS = 300, 6


@router.post("/v1/detect", **describe_image_route("detect", DetectParameters))
async def detect(request: Request) -> Response:
    """Detect objects in a picture."""
    parameters = DetectParameters.of(request)
    form = accepted_form(request)
    entry = service_of(request).registry.resolve("detect", parameters.model)
    options = detector_options(parameters)

    def finish(answer: Answer) -> Content:
        if answer.frame is not None:
            result = FrameResult(0, size_hw=answer.size_hw, detections=answer.value)
            return draw(answer.frame, result, answer.class_names, form)
        return {"detections": convert.detections_json(answer.value, answer.class_names)}

    return await answer_picture(
        request, entry, parameters, options, form, finish, is_slow=lambda found: len(found) > FEW_DETECTIONS
    )


@router.post("/v1/segment", **describe_image_route("segment", SegmentParameters))
async def segment(request: Request) -> Response:
    """Give every pixel of a picture a class."""
    parameters = SegmentParameters.of(request)
    form = accepted_form(request)
    render = parameters.render or ("mask" if form is Form.PNG else "overlay")
    if form is Form.JPEG and render == "mask":
        raise InvalidParameterError("render=mask needs Accept: image/png, JPEG changes class numbers; ask for a PNG")
    entry = service_of(request).registry.resolve("segment", parameters.model)
    options = None
    if parameters.classes is not None or parameters.size:
        options = SegmenterConfig(classes=split_names(parameters.classes), long_side=parameters.size)

    def finish(answer: Answer) -> Content:
        if form is Form.JSON:
            return convert.segmentation_json(answer.value)
        if render == "mask" or answer.frame is None:
            return mask_png(answer.value)
        result = FrameResult(0, size_hw=answer.size_hw, segmentation=answer.value)
        return draw(answer.frame, result, answer.value.class_names, form)

    return await answer_picture(request, entry, parameters, options, form, finish, is_slow=lambda _: True)


@router.post("/v1/classify", **describe_image_route("classify", ClassifyParameters))
async def classify(request: Request) -> Response:
    """Say what a whole picture shows."""
    parameters = ClassifyParameters.of(request)
    form = accepted_form(request)
    entry = service_of(request).registry.resolve("classify", parameters.model)
    options = ClassifierConfig(top=parameters.top)

    def finish(answer: Answer) -> Content:
        if answer.frame is not None:
            result = FrameResult(0, size_hw=answer.size_hw, classification=answer.value)
            return draw(answer.frame, result, answer.class_names, form)
        return convert.classification_json(answer.value)

    return await answer_picture(request, entry, parameters, options, form, finish)


@router.post("/v1/embed", **describe_image_route("embed", EmbedParameters))
async def embed(request: Request) -> Response:
    """Give objects of a picture, or the whole of it, unit vectors of their looks."""
    parameters = EmbedParameters.of(request)
    form = accepted_form(request)
    if form is not Form.JSON:
        raise NotAcceptableError("embeddings are numbers and come as application/json only; leave Accept out")
    entry = service_of(request).registry.resolve("embed", parameters.model)
    boxes = parameters.box_array()

    def finish(answer: Answer) -> Content:
        height, width = answer.size_hw
        return {
            "dim": int(answer.value.shape[1]),
            "boxes": [[0.0, 0.0, float(width), float(height)]] if boxes is None else boxes.tolist(),
            "embeddings": answer.value.tolist(),
        }

    return await answer_picture(
        request, entry, parameters, boxes, form, finish, is_slow=lambda rows: len(rows) > FEW_EMBEDDINGS
    )


# What the border of the app answers itself, past the framework's stack.
FAST_ROUTES = {"/v1/detect": detect, "/v1/segment": segment, "/v1/classify": classify, "/v1/embed": embed}


def detector_options(parameters: DetectParameters) -> DetectorConfig | None:
    """Return the thresholds of a request, None where it has none of its own."""
    if parameters.model_fields_set <= {"model", "timeout_ms"}:
        return None
    return DetectorConfig(
        conf="auto" if parameters.conf is None else parameters.conf,
        iou="auto" if parameters.iou is None else parameters.iou,
        max_det=parameters.max_det or DetectorConfig().max_det,
        classes=split_names(parameters.classes),
        class_agnostic=parameters.class_agnostic,
        long_side=parameters.size,
    )


async def answer_picture(
    request: Request,
    entry: ModelEntry,
    parameters: ImageParameters,
    options: Any,
    form: Form,
    finish: Callable[[Answer], Content],
    *,
    is_slow: Callable[[Any], bool] | None = None,
) -> Response:
    """Read the picture, ask the model, and return the answer in its form.

    Args:
        request, entry, parameters, options, form: of the question.
        finish: from the model's answer to the encoded picture, or to what the JSON says beside model and size.
        is_slow: says of the model's answer whether its JSON takes milliseconds, too, and belongs into a thread.
    """
    service = service_of(request)
    began = time.monotonic()
    timeout_s = parameters.timeout_s(service.settings.request_timeout_s)
    # A model that is not loaded needs no upload; the lease that counts is taken when the picture is here.
    entry.acquire().release()
    with enter_upload(request, service.admission) as ticket:
        try:
            body = await read_picture(request, service, ticket, timeout_s)
            ticket.arrived()
            arrived = time.monotonic()
            asking = service.inference.ask(
                entry,
                body,
                options,
                ticket=ticket,
                timeout_s=timeout_s - (arrived - began),
                request=request,
                keep_frame=form is not Form.JSON,
            )
            del body  # or it would be held until the answer
            answer = await asking
            request.scope["state"]["timings_ms"] = answer.timings_ms  # for traces
            post = time.monotonic()
            if form is Form.JSON and not (is_slow is not None and is_slow(answer.value)):
                content = write_answer(entry, answer, finish)
            else:
                writing = partial(write_answer, entry, answer, finish)
                content = await service.inference.write(writing, timeout_s - (post - began))
        except ServiceError as exc:
            count_refusal(service, exc)
            raise
    now = time.monotonic()
    entry.metrics.finished(now - post)
    service.admission.observe(now - arrived)
    return PlainReply(content, form)


class PlainReply(Response):
    """An answer of one piece; its headers are two that are known, and not made from text each time."""

    def __init__(self, content: bytes, form: Form) -> None:
        self.status_code, self.body, self.background = 200, content, None
        self.raw_headers = [(b"content-length", b"%d" % len(content)), (b"content-type", form.value.encode())]


def write_answer(entry: ModelEntry, answer: Answer, finish: Callable[[Answer], Content]) -> bytes:
    """Return the body of an answer: the picture that ``finish`` makes, or JSON."""
    content = finish(answer)
    if isinstance(content, bytes):
        return content
    reply = {
        "model": entry.name,
        "image": convert.image_size(answer.size_hw),
        **content,
        "timings_ms": answer.timings_ms,
    }
    return orjson.dumps(reply)


async def read_picture(request: Request, service: Service, ticket: Ticket, timeout_s: float) -> bytes:
    """Return the encoded picture: the body, a part of it, or what is at the address that a JSON body names."""
    deadline = time.monotonic() + timeout_s
    body_s = min(service.settings.body_timeout_s, timeout_s)
    try:
        if not request.headers.get("content-type", "").startswith("application/json"):
            return await read_image_body(request, ticket, service.admission, body_s)
        # Before the body: where nothing is fetched, it need not be read.
        service.fetcher.require_hosts()
        address = picture_address(await read_small_body(request, MAX_ADDRESS_BODY, body_s))
    except BodyTimeoutError:
        if timeout_s > service.settings.body_timeout_s:
            raise
        # The body was not slow: the answer was wanted sooner than it could come.
        raise DeadlineError(
            f"the answer was wanted within {1000 * timeout_s:g} ms, the body was not read by then; wait longer"
        ) from None
    picture = await service.fetcher.get(address, deadline, request.receive)
    ticket.grow(len(picture))
    return picture


def picture_address(body: bytes | bytearray) -> str:
    """Return the address in ``{"url": "https://..."}``; raises InvalidParameterError."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or value.keys() != {"url"} or not isinstance(value["url"], str):
        raise InvalidParameterError('a JSON body must be {"url": "https://..."}, it is not; or send the picture itself')
    address: str = value["url"]
    return address


def count_refusal(service: Service, error: ServiceError) -> None:
    """Count what was turned away after its admission."""
    if error.status in (503, 504):
        service.metrics.rejected(error.error_code)
