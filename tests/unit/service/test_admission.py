"""Admission: places and bytes are bounded, and come back whatever happens."""

from __future__ import annotations

import threading

import pytest

from service.admission import Admission
from service.errors import BodyTooLargeError, CancelledWorkError, QueueFullError, UnavailableError
from service.metrics import Metrics
from service.room import SharedRoom


def admission(items: int = 2, n_bytes: int = 1000, body: int = 600) -> Admission:
    return Admission(max_items=items, max_bytes=n_bytes, max_body_bytes=body, metrics=Metrics(), max_wait_s=30)


def state(own: Admission) -> tuple[int, int]:
    return own.items, own.bytes


def is_empty(own: Admission) -> bool:
    return (own.items, own.bytes, own.uploads.total, own.upload_bytes.total) == (0, 0, 0, 0)


def test_place_and_bytes_come_back() -> None:
    own = admission()
    with own.enter(100, "a") as ticket:
        assert state(own) == (0, 100)
        assert (own.uploads.total, own.upload_bytes.total) == (1, 100)
        ticket.arrived()
        ticket.arrived()
        ticket.grow(50)
        assert state(own) == (1, 150)
        assert (own.uploads.total, own.upload_bytes.total) == (0, 0)
        ticket.borrow(30)
        ticket.borrow(-30)
        assert state(own) == (1, 150)
    assert is_empty(own)
    ticket.release()
    assert is_empty(own)


@pytest.mark.parametrize("arrives", [True, False])
def test_bytes_come_back_after_an_error(arrives: bool) -> None:
    own = admission()

    def work() -> None:
        with own.enter(100, "a") as ticket:
            if arrives:
                ticket.arrived()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert is_empty(own)


def test_full_queue_refuses_before_and_behind_the_body() -> None:
    own = admission(items=2)
    with own.admit(1), own.enter(1) as second, own.enter(1) as third:
        second.arrived()
        with pytest.raises(QueueFullError):
            own.enter(1)
        with pytest.raises(QueueFullError):
            own.admit(1)
        with pytest.raises(QueueFullError):
            third.arrived()
        assert state(own) == (2, 3)
        second.release()
        third.arrived()
    assert is_empty(own)


@pytest.mark.parametrize(("latency_s", "seconds"), [(0.004, 1), (3.2, 4), (400.0, 30)])
def test_retry_after_is_the_time_of_one_request_under_the_present_load(latency_s: float, seconds: int) -> None:
    # With 128 in flight and answers after 3.2 s the device gives 40 a second: in 3.2 s all 128 have theirs.
    own = admission(items=128)
    for _ in range(400):
        own.observe(latency_s)
    places = [own.admit(0) for _ in range(128)]
    with pytest.raises(QueueFullError) as refused:
        own.enter(1)
    assert refused.value.headers == {"Retry-After": str(seconds)}
    for place in places:
        place.release()


def test_one_client_that_does_not_send_leaves_room_for_others() -> None:
    own = admission(items=16, n_bytes=10**6)
    stalled = [own.enter(100, "slow") for _ in range(16)]
    with pytest.raises(QueueFullError, match="your share"):
        own.enter(100, "slow")
    assert own.items == 0
    for _ in range(40):
        with own.enter(100, "other") as ticket:
            ticket.arrived()
    # Where there is none left for others, a client has an eighth.
    more = [own.enter(100, "second") for _ in range(4)]
    with pytest.raises(QueueFullError):
        own.enter(100, "second")
    for ticket in [*stalled, *more]:
        ticket.release()
    assert is_empty(own)


def test_one_client_cannot_announce_all_bytes() -> None:
    own = admission(items=16, n_bytes=1600, body=600)
    with own.enter(400, "slow"), own.enter(400, "slow"):
        with pytest.raises(QueueFullError, match="your share"):
            own.enter(200, "slow")
        assert state(own) == (0, 800)
        own.enter(600, "other").release()
    assert is_empty(own)


def test_share_of_a_room() -> None:
    room = SharedRoom(16)
    room.add("a", 8)
    assert not room.fits("a", 1)
    assert room.fits("", 8)  # many behind one proxy
    assert room.fits("b", 8)  # the first of a client may be of any size
    assert not room.fits("b", 9)
    room.add("a", -8)
    assert room.fits("a", 8)


@pytest.mark.parametrize(("length", "enters"), [(500, True), (501, False), (None, True)])
def test_announced_bytes_are_booked_before_the_body_is_read(length: int | None, enters: bool) -> None:
    own = admission()
    with own.enter(500):
        if enters:
            own.enter(length).release()
        else:
            with pytest.raises(QueueFullError):
                own.enter(length)
        assert state(own) == (0, 500)


def test_one_request_alone_may_be_larger_than_the_queue() -> None:
    own = admission(n_bytes=100)
    with own.enter(90) as ticket:
        ticket.grow(5000)
        with pytest.raises(QueueFullError):
            own.enter(1)
    assert state(own) == (0, 0)


def test_growing_beyond_the_limit_leaves_what_was_booked() -> None:
    own = admission()
    with own.admit(100), own.admit(100) as second:
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
    with own.enter(1) as ticket:
        own.draining = True
        with pytest.raises(UnavailableError) as refused:
            own.enter(1)
        with pytest.raises(UnavailableError):
            own.admit(1)
        ticket.arrived()
    assert refused.value.error_code == "draining"
    assert refused.value.headers["Retry-After"] == "1"


def test_rejects_are_counted_by_reason() -> None:
    own = admission(items=1)
    with own.admit(1), pytest.raises(QueueFullError):
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
            with own.enter(3, "a") as ticket:
                ticket.arrived()
                ticket.grow(4)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert state(own) == (0, 0)
