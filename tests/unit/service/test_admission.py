"""Admission: places and bytes are bounded, and come back whatever happens."""

from __future__ import annotations

import threading

import pytest

from service.admission import Admission
from service.errors import BodyTooLargeError, CancelledWorkError, QueueFullError, UnavailableError
from service.metrics import Metrics


def admission(items: int = 2, n_bytes: int = 1000, body: int = 600) -> Admission:
    return Admission(max_items=items, max_bytes=n_bytes, max_body_bytes=body, metrics=Metrics())


def state(own: Admission) -> tuple[int, int]:
    return own.items, own.bytes


def test_place_and_bytes_come_back() -> None:
    own = admission()
    with own.enter(100) as ticket:
        ticket.grow(50)
        assert state(own) == (1, 150)
    assert state(own) == (0, 0)
    ticket.release()
    assert state(own) == (0, 0)


def test_bytes_come_back_after_an_error() -> None:
    own = admission()
    with pytest.raises(RuntimeError), own.enter(100):
        raise RuntimeError
    assert state(own) == (0, 0)


def test_full_queue_refuses_and_says_when_to_come_back() -> None:
    own = admission(items=2)
    own.mean_service_s = 1.6
    with own.enter(1), own.enter(1):
        with pytest.raises(QueueFullError) as refused:
            own.enter(1)
        assert refused.value.headers == {"Retry-After": "4"}  # two requests of 1.6 s, rounded up
        assert state(own) == (2, 2)
    own.enter(1).release()


@pytest.mark.parametrize(("length", "enters"), [(500, True), (501, False), (None, True)])
def test_announced_bytes_are_booked_before_the_body_is_read(length: int | None, enters: bool) -> None:
    own = admission()
    with own.enter(500):
        if enters:
            own.enter(length).release()
        else:
            with pytest.raises(QueueFullError):
                own.enter(length)
        assert state(own) == (1, 500)


def test_one_request_alone_may_be_larger_than_the_queue() -> None:
    own = admission(n_bytes=100)
    with own.enter(90) as ticket:
        ticket.grow(5000)
        with pytest.raises(QueueFullError):
            own.enter(1)
    assert state(own) == (0, 0)


def test_growing_beyond_the_limit_leaves_what_was_booked() -> None:
    own = admission()
    with own.enter(100), own.enter(100) as second:
        with pytest.raises(QueueFullError):
            second.grow(900)
        assert state(own) == (2, 200)
        second.grow(800)
    assert state(own) == (0, 0)


def test_late_decoder_books_nothing_on_a_place_that_was_given_back() -> None:
    own = admission()
    ticket = own.enter(100)
    ticket.release()
    with pytest.raises(CancelledWorkError):
        ticket.grow(50)
    assert state(own) == (0, 0)


@pytest.mark.parametrize("length", [601, 10**18])
def test_body_beyond_the_limit_is_refused_by_its_announcement(length: int) -> None:
    own = admission()
    with pytest.raises(BodyTooLargeError, match=str(length)):
        own.enter(length)
    assert state(own) == (0, 0)


def test_draining_takes_no_new_work() -> None:
    own = admission()
    with own.enter(1):
        own.draining = True
        with pytest.raises(UnavailableError) as refused:
            own.enter(1)
    assert refused.value.error_code == "draining"
    assert refused.value.headers["Retry-After"] == "1"


def test_rejects_are_counted_by_reason() -> None:
    own = admission(items=1)
    with own.enter(1), pytest.raises(QueueFullError):
        own.enter(1)
    with pytest.raises(BodyTooLargeError):
        own.enter(10**6)
    assert own.metrics.rejected_total == 2
    text = own.metrics.exposition().decode()
    assert 'stride32_rejects_total{reason="queue_full"} 1.0' in text
    assert 'stride32_rejects_total{reason="body_too_large"} 1.0' in text


def test_threads_that_grow_and_release_at_once_lose_nothing() -> None:
    own = admission(items=100, n_bytes=10**9)

    def work() -> None:
        for _ in range(200):
            with own.enter(3) as ticket:
                ticket.grow(4)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert state(own) == (0, 0)
