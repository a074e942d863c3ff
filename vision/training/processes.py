"""Training in several processes (DDP): who is the first, and decisions that all must take together."""

from __future__ import annotations

import os
from typing import TypeVar

import torch
import torch.distributed as dist

ValueT = TypeVar("ValueT")

# Set by the launcher of Lightning in the processes it starts, by torchrun in all.
RANK_VARIABLES = ("RANK", "LOCAL_RANK")


def is_first_process() -> bool:
    """Return whether this is the process that writes files; before and after the processes know of each other."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return all(os.environ.get(name, "0") == "0" for name in RANK_VARIABLES)


def is_launched_from_outside() -> bool:
    """Return whether torchrun or a cluster started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def any_process(flag: bool) -> bool:
    """Return whether ``flag`` is set in any process; all must call this at the same place."""
    if not (dist.is_available() and dist.is_initialized()):
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    vote = torch.tensor(int(flag), device=device)
    dist.all_reduce(vote, op=dist.ReduceOp.MAX)
    return bool(vote.item())


def from_first_process(value: ValueT) -> ValueT:
    """Return the first process's ``value`` in all of them; all must call this at the same place."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    box: list[ValueT] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
