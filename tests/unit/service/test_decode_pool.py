"""The decode pool: order, both doors, failures, and an end that leaves nobody waiting."""

from __future__ import annotations

import threading

import pytest

from service.decode_pool import DecodePool


def test_calls_are_made_in_their_order() -> None:
    pool = DecodePool(1, "decode")
    made: list[int] = []
    for number in range(50):
        pool.run(lambda number=number: made.append(number))  # type: ignore[misc]
    pool.shutdown()
    assert made == list(range(50))


def test_submit_returns_what_comes_of_it() -> None:
    pool = DecodePool(2, "decode")
    assert pool.submit(divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result(5)
    pool.shutdown()


def test_a_call_that_fails_does_not_cost_a_thread(caplog: pytest.LogCaptureFixture) -> None:
    pool = DecodePool(1, "decode")
    pool.run(lambda: 1 // 0)
    assert pool.submit(threading.get_ident).result(5)
    pool.shutdown()
    assert "could not be told" in caplog.text


def test_what_waits_at_the_end_is_done_and_nothing_comes_after() -> None:
    pool = DecodePool(1, "decode")
    gate = threading.Event()
    held = pool.submit(gate.wait, 10)
    waiting = pool.submit(int, "7")
    cancelled = pool.submit(int, "8")
    cancelled.cancel()
    closing = threading.Thread(target=pool.shutdown)
    closing.start()
    gate.set()
    closing.join(10)
    assert (held.result(1), waiting.result(1)) == (True, 7)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.run(lambda: None)
