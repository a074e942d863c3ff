from __future__ import annotations

import pytest

from service.errors import SessionTooLargeError
from service.sessions.frames import StateBudget


def test_sessions_share_one_budget_and_the_greedy_one_is_refused() -> None:
    budget = StateBudget(100)
    budget.book("small", 20)
    budget.book("large", 70)
    budget.book("small", 25)
    with pytest.raises(SessionTooLargeError, match="share"):
        budget.book("large", 90)
    budget.book("small", 26)


def test_what_an_ended_session_held_is_free_again() -> None:
    budget = StateBudget(100)
    budget.book("a", 60)
    with pytest.raises(SessionTooLargeError):
        budget.book("b", 80)
    budget.forget("a")
    budget.forget("never seen")
    budget.book("b", 80)
