"""One inference request of the protocol from its body to its answer; pictures go the same way as those of ``/v1``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from service.admission import Admission, Ticket
from service.errors import CancelledWorkError, UnavailableError
from service.inference import Answer, ImageInference
from service.model_entry import ModelEntry
from service.oip.budget import AnswerCost, PictureBudget
from service.oip.compression import deflate, inflate, request_coding, response_coding
from service.oip.limits import OipLimits
from service.oip.messages import HEADER_LENGTH, InferRequest, InferResponse, decode_request, encode_response
from service.oip.outputs import output_tensors, requested_outputs
from service.oip.parameters import read_request_parameters
from service.oip.pictures import read_pictures
from service.oip.schema import VERSION, ModelSchema
from service.oip.statistics import Statistics
from service.registry import ModelRegistry
from service.settings import Settings
from service.uploads import enter_upload, read_body
from service.work import Served
from vision.errors import LimitExceededError, MediaError

# Below this, work on a body takes less time than the way to another thread and back.
INLINE_BYTES = 64 << 10
# A client that went away is looked for after this time, as in ImageInference.
WATCH_AFTER_S = 0.05

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class OipServer:
    """Answers inference requests; one for each app.

    Attributes:
        settings, registry, admission, inference: of the app, shared with ``/v1``.
        statistics: of the requests that came here.
        limits: of one message.
    """

    settings: Settings
    registry: ModelRegistry
    admission: Admission
    inference: ImageInference
    statistics: Statistics = field(default_factory=Statistics)
    limits: OipLimits = field(init=False)
    # Parsed JSON takes many times its bytes: one large body at a time.
    _parsing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __post_init__(self) -> None:
        body = self.settings.max_body_bytes
        self.limits = OipLimits(max_body_bytes=body, max_json_bytes=min(body, OipLimits().max_json_bytes))

    async def read(self, request: Request, ticket: Ticket) -> bytes:
        """Return a request's body, inflated.

        Raises:
            BodyTooLargeError, BodyTimeoutError, UnsupportedMediaTypeError, OipError: it is none that can be read.
        """
        # Before the body: a coding that is none needs no upload.
        coding = request_coding(request.headers.get("content-encoding"))
        body = await read_body(request, ticket, self.admission, self.settings.body_timeout_s)
        if coding is None:
            return body
        plain = await self._off_loop(lambda: inflate(body, coding, self.limits.max_body_bytes), len(body))
        ticket.grow(len(plain))
        return plain

    async def infer(self, request: Request, entry: ModelEntry) -> Response:
        """Return the answer to an inference request.

        Raises:
            OipError: the message is malformed or does not fit the model.
            VisionError: as ``read`` and ``ImageInference.ask``.
        """
        began = time.monotonic()
        statistics = self.statistics.of(entry.name)
        try:
            # A model that is not loaded needs no upload. The lease ends here: each picture takes one of its own, and a
            # slow upload must not keep a model that was replaced.
            entry.acquire().release()
            with enter_upload(request, self.admission) as ticket:
                message = await self._decode(await self.read(request, ticket), request.headers.get(HEADER_LENGTH))
                read_s = time.monotonic() - began
                answers, schema = await self._ask(request, entry, message, ticket, began)
                answered = time.monotonic()
                values = [answer.value for answer in answers]
                response = await self._respond(request, message, schema, values, began)
        except BaseException:
            statistics.failed(time.monotonic() - began)
            raise
        ended = time.monotonic()
        self.admission.observe(ended - began - read_s)
        entry.metrics.finished(ended - answered)
        statistics.succeeded(
            [Served(None, each.timings_ms["queue"], each.timings_ms["infer"], each.batch) for each in answers],
            total_s=ended - began,
            input_s=read_s + sum(each.timings_ms["decode"] for each in answers) / 1000,
            output_s=ended - answered,
        )
        return response

    async def _decode(self, body: bytes, header_length: str | None) -> InferRequest:
        """Return the checked message; large JSON is parsed in the pool, one at a time."""
        json_bytes = len(body)
        if header_length is not None and header_length.isascii() and header_length.isdigit():
            json_bytes = min(json_bytes, int(header_length[:12]))
        if json_bytes <= INLINE_BYTES:
            return decode_request(body, header_length, self.limits)
        async with self._parsing:
            return await self._off_loop(lambda: decode_request(body, header_length, self.limits), json_bytes)

    async def _ask(
        self, request: Request, entry: ModelEntry, message: InferRequest, ticket: Ticket, began: float
    ) -> tuple[list[Answer], ModelSchema]:
        """Return the model's answers to all pictures of a message, and what the outputs of that model are."""
        schema = schema_of(entry)
        parameters = read_request_parameters(message.parameters, schema.task)
        wanted = requested_outputs(message, schema)  # unknown ones are told before anything is computed
        asked = read_pictures(message.inputs, self.limits, takes_boxes=schema.task == "embed")
        options = parameters.options() if asked.boxes is None else asked.boxes
        timeout_s = max(0.0, parameters.timeout_s(self.settings.request_timeout_s) - (time.monotonic() - began))
        count = len(asked.pictures)
        as_json = any(output.name == "labels" and not output.binary for output in wanted)
        cost = AnswerCost.of(schema, as_json=as_json, max_json_labels=self.limits.max_json_labels)
        budget = PictureBudget(ticket, cost, self.admission.max_bytes // 2)
        for picture in asked.pictures:
            if isinstance(picture, np.ndarray):
                budget.take(picture.shape[0] * picture.shape[1])  # its bytes are those of the body
        if count == 1:
            only = self.inference.ask(
                entry, asked.pictures[0], options, ticket=budget, timeout_s=timeout_s, request=request
            )
            answers = [await only]
            return answers, schema_of_answers(schema, answers)
        asks = [
            _named(index, count, self.inference.ask(entry, picture, options, ticket=budget, timeout_s=timeout_s))
            for index, picture in enumerate(asked.pictures)
        ]
        answers = await _all_or_error(asks, request)
        return answers, schema_of_answers(schema, answers)

    async def _respond(
        self, request: Request, message: InferRequest, schema: ModelSchema, results: Sequence[Any], began: float
    ) -> Response:
        """Return the answer, compressed where the client accepts it; raises DeadlineError."""
        wanted = requested_outputs(message, schema)
        labels = sum(found.labels.nbytes for found in results) if schema.task == "segment" else 0
        tensors = await self._write(lambda: output_tensors(results, schema, wanted), labels, began)
        binary = frozenset(output.name for output in wanted if output.binary)
        answer = InferResponse(schema.name, VERSION, message.id, tensors, binary)
        accepted = request.headers.get("accept-encoding")
        size = sum(tensor.nbytes for tensor in tensors)
        return await self._write(lambda: _write(answer, accepted), size, began)

    async def _write(self, work: Callable[[], Result], size: int, began: float) -> Result:
        """Return what ``work`` makes of an answer of so many bytes, in time, and in a thread if they are many."""
        if size <= INLINE_BYTES:
            return work()
        return await self.inference.write(work, self.settings.request_timeout_s - (time.monotonic() - began))

    async def _off_loop(self, work: Callable[[], Result], size: int) -> Result:
        """Return what ``work`` on so many bytes gives; in the pool if they are many, so that others are not held up."""
        if size <= INLINE_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self.inference.pool, work)


def schema_of(entry: ModelEntry) -> ModelSchema:
    """Return what a model takes and gives; also of one that is not loaded, by its card."""
    unit = "" if entry.card is None else str(entry.card.architecture.get("unit", ""))
    return ModelSchema(entry.name, entry.task, entry.class_names, unit)


def schema_of_answers(schema: ModelSchema, answers: Sequence[Answer]) -> ModelSchema:
    """Return what the model that answered gives: the one that was asked may have been swapped since.

    Raises:
        UnavailableError: it was swapped between two pictures, whose answers do not go into one tensor.
    """
    widths = {answer.value.shape[1] for answer in answers} if schema.task == "embed" else set()
    names = {answer.class_names for answer in answers}
    if len(names) > 1 or len(widths) > 1:
        raise UnavailableError(
            f"the pictures of a request must be answered by one model, {schema.name} was replaced in between; send the "
            "request again"
        )
    return replace(schema, class_names=answers[0].class_names)


def _write(answer: InferResponse, accept_encoding: str | None) -> Response:
    body, header_length = encode_response(answer)
    headers = {} if header_length is None else {HEADER_LENGTH: str(header_length)}
    coding = response_coding(accept_encoding, len(body))
    if coding is not None:
        body = deflate(body, coding)
        headers |= {"Content-Encoding": coding, "Vary": "Accept-Encoding"}
    return Response(
        body, media_type="application/json" if header_length is None else "application/octet-stream", headers=headers
    )


async def _named(index: int, count: int, answer: Coroutine[Any, Any, Answer]) -> Answer:
    """Return the answer to one of several pictures; an error of the picture says which."""
    try:
        return await answer
    except (MediaError, LimitExceededError) as exc:
        raise type(exc)(f"picture {index} of {count}: {exc}") from exc


async def _all_or_error(asks: Sequence[Coroutine[Any, Any, Answer]], request: Request) -> list[Answer]:
    """Return all answers in order. The first error, or a client that went away, drops the pictures that still wait."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask) for ask in asks]
            watch = group.create_task(_watch(request))
            await asyncio.wait(tasks)
            watch.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _watch(request: Request) -> None:
    """Raise CancelledWorkError when the client has gone."""
    await asyncio.sleep(WATCH_AFTER_S)
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise CancelledWorkError("the client went away before its answer was there")
