"""The order of samples: a permutation for each epoch, decided by seed and epoch."""

from __future__ import annotations

import pytest

from vision.training.sampling import EpochSampler


def order(length: int, seed: int, epoch: int) -> list[int]:
    sampler = EpochSampler(length, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("epoch", [0, 1, 7])
@pytest.mark.parametrize("length", [1, 2, 33])
def test_each_epoch_is_a_permutation_that_carries_its_number(length: int, epoch: int) -> None:
    assert sorted(order(length, 3, epoch)) == list(range(epoch * length, (epoch + 1) * length))
    assert len(EpochSampler(length, 3)) == length


def test_seed_and_epoch_decide_the_order() -> None:
    assert order(50, 3, 2) == order(50, 3, 2)
    assert order(50, 3, 2) != order(50, 4, 2)
    assert [item % 50 for item in order(50, 3, 2)] != [item % 50 for item in order(50, 3, 3)]


def test_a_resumed_run_continues_the_order() -> None:
    sampler = EpochSampler(20, 0)
    straight = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        straight += list(sampler)
    assert straight[40:] == order(20, 0, 2)
