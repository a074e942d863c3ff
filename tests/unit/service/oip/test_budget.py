"""What the pictures of one request may hold together."""

from __future__ import annotations

import pytest

from service.admission import Admission, Ticket
from service.errors import QueueFullError
from service.metrics import Metrics
from service.oip.budget import AnswerCost, PictureBudget
from service.oip.schema import ModelSchema
from vision.errors import LimitExceededError

DETECTOR = ModelSchema("d", "detect", ("person",))
SEGMENTER = ModelSchema("s", "segment", ("road", "sky"))
WIDE_SEGMENTER = ModelSchema("s", "segment", tuple(map(str, range(300))))


def ticket(max_bytes: int = 1000) -> Ticket:
    return Admission(max_items=4, max_bytes=max_bytes, max_body_bytes=600, metrics=Metrics()).enter(None)


@pytest.mark.parametrize(
    ("schema", "as_json", "cost"),
    [
        (DETECTOR, True, AnswerCost()),
        (SEGMENTER, False, AnswerCost(4, None)),
        (SEGMENTER, True, AnswerCost(10, 99)),
        (WIDE_SEGMENTER, False, AnswerCost(32, None)),
    ],
)
def test_label_maps_cost_by_the_pixel(schema: ModelSchema, as_json: bool, cost: AnswerCost) -> None:
    assert AnswerCost.of(schema, as_json=as_json, max_json_labels=99) == cost


def test_pictures_and_their_answers_are_booked() -> None:
    own = ticket()
    budget = PictureBudget(own, AnswerCost(4), 500)
    budget.grow(30)
    assert own.bytes == 30 + 10 * 4
    budget.take(10)  # pixels that came with the body
    assert own.bytes == 70 + 40


def test_one_picture_may_be_as_large_as_any_and_two_may_not() -> None:
    own = ticket(max_bytes=1000)
    budget = PictureBudget(own, AnswerCost(), 500)
    budget.grow(3000)  # the server is otherwise idle
    for _ in range(2):
        with pytest.raises(LimitExceededError, match="spread them over requests"):
            budget.grow(3)
    assert own.bytes == 3000


def test_a_queue_that_is_full_is_full_for_now() -> None:
    own = Admission(max_items=4, max_bytes=1000, max_body_bytes=900, metrics=Metrics())
    with own.enter(800), own.enter(100) as second, pytest.raises(QueueFullError):
        PictureBudget(second, AnswerCost(), 500).grow(300)
    assert own.bytes == 0


def test_maps_in_json_have_an_end() -> None:
    budget = PictureBudget(ticket(), AnswerCost(0, 100), 500)
    budget.take(60)
    with pytest.raises(LimitExceededError, match="binary_data"):
        budget.take(60)
    with pytest.raises(LimitExceededError, match="binary_data"):
        PictureBudget(ticket(), AnswerCost(0, 100), 500).take(101)
