"""The order of training samples: a permutation for each epoch that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from torch.utils.data import Sampler


@runtime_checkable
class TrainingSampler(Protocol):
    """What the engine asks of a sampler so that runs resume within an epoch and share it among processes."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of ``epoch``; Lightning calls it before each epoch."""

    def skip(self, epoch: int, entries: int) -> None:
        """Leave out the first ``entries`` of this process's share when ``epoch`` comes: they were trained before."""

    def shard(self, rank: int, world: int) -> None:
        """Yield the share of process ``rank`` among ``world``; all shares have one length and no entry in common."""


class EpochSampler(Sampler[int]):
    """Yields ``epoch * length + index`` in a shuffled order; Lightning calls ``set_epoch`` before each epoch.

    Among several processes each sees its own share. The up to ``world - 1`` samples that cannot be shared evenly are
    left out, others in each epoch: a sample shown twice would be the alternative.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0
        self._skipped = (0, 0)
        self._rank, self._world = 0, 1

    def __len__(self) -> int:
        return self.length // self._world

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        share = order[: len(self) * self._world][self._rank :: self._world]
        epoch, entries = self._skipped
        if epoch == self.epoch:
            share = share[entries:]
        return iter((share + self.epoch * self.length).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of ``epoch``."""
        self.epoch = epoch

    def skip(self, epoch: int, entries: int) -> None:
        """Leave out the first ``entries`` samples of this process when ``epoch`` comes."""
        self._skipped = (epoch, entries)

    def shard(self, rank: int, world: int) -> None:
        """Yield every ``world``-th sample, beginning at ``rank``."""
        self._rank, self._world = rank, world
