"""The memory that processes share: nobody is given what another has, and what is given back is used again."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import numpy as np
import pytest

from vision.batch.arena import Arena, ArenaView
from vision.errors import StateError

PAGE = 4096


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena((64 * 1024 * 1024,))
    yield made
    made.close()


def test_the_first_gap_that_fits_is_taken(arena: Arena) -> None:
    first, second, third = (arena.allocate(size) for size in (PAGE, 3 * PAGE, 1))
    assert (first, second, third) == (0, PAGE, 4 * PAGE)
    arena.free(second)
    assert arena.allocate(2 * PAGE) == PAGE
    assert arena.allocate(2 * PAGE) == 5 * PAGE
    assert arena.allocate(PAGE) == 3 * PAGE


def test_no_two_blocks_overlap_whatever_comes_and_goes(arena: Arena) -> None:
    chance = random.Random(1)
    held: dict[int, int] = {}
    for _ in range(2000):
        if held and chance.random() < 0.48:
            start = chance.choice(list(held))
            arena.free(start)
            del held[start]
        else:
            size = chance.randint(1, 5 * PAGE)
            start = arena.allocate(size)
            assert all(start + size <= other or other + length <= start for other, length in held.items())
            held[start] = size
    for start in held:
        arena.free(start)
    assert arena.in_use == 0


def test_a_full_arena_says_so_and_goes_on(arena: Arena) -> None:
    whole = arena.allocate(arena.capacity)
    with pytest.raises(StateError, match="lower max_waiting_mb"):
        arena.allocate(1)
    arena.free(whole)
    assert arena.allocate(1) == 0


def test_others_see_what_is_written(arena: Arena) -> None:
    view = ArenaView(os.dup(arena.fd))
    start = arena.allocate(2 * 3 * 3)
    picture = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    view.picture(start, (2, 3))[...] = picture
    np.testing.assert_array_equal(ArenaView(os.dup(arena.fd)).picture(start, (2, 3)), picture)
    arena.write(start, b"abc")
    assert view.read(start, 3) == b"abc"


def test_large_blocks_give_their_pages_back(arena: Arena) -> None:
    size = 32 * 1024 * 1024
    start = arena.allocate(size)
    arena.write(start, b"x" * size)
    before = os.fstat(arena.fd).st_blocks
    arena.free(start)
    assert os.fstat(arena.fd).st_blocks < before / 4


def test_less_is_taken_where_much_is_refused() -> None:
    arena = Arena((1 << 62, 8 * PAGE))
    assert arena.capacity == 8 * PAGE
    arena.close()
    with pytest.raises(StateError, match="addresses must be allowed"):
        Arena((1 << 62,))
