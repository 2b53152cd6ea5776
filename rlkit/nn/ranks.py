"""Several processes that learn one encoder together: gathered rows, sums and means over all.

Every process (rank) draws the same global batch and learns from its part of it, so that W ranks give the losses of one.
Without `torch.distributed` there is one rank, and all of this does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


@contextmanager
def joined_ranks(device: str) -> Iterator[None]:
    """Join the processes that `torchrun` started for this one; alone where it started none."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Go on when every rank has come here."""
    if rank_and_ranks()[1] > 1:
        dist.barrier()


def rank_and_ranks() -> tuple[int, int]:
    """Number of this process, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gathered(x: Tensor) -> Tensor:
    """Rows [W · B, ...] of all ranks in order, from this one's [B, ...]; gradients flow back to each.

    The backward pass sums what all ranks' losses ask of these rows. The mean over ranks of the gradients that come of
    it (`mean_over_ranks`) is the gradient of the mean loss.
    """
    if rank_and_ranks()[1] == 1:
        return x
    found: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]
    return found


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of all ranks' tensors of this shape; gradients flow back to each."""
    if rank_and_ranks()[1] == 1:
        return x
    found: Tensor = _SumOverRanks.apply(x)  # type: ignore[no-untyped-call]
    return found


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of a tensor without gradient over all ranks."""
    ranks = rank_and_ranks()[1]
    if ranks == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total / ranks


class _Gather(Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = _summed(gradient)
        rank, ranks = rank_and_ranks()
        rows = len(total) // ranks
        return total[rank * rows : (rank + 1) * rows]


class _SumOverRanks(Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(x: Tensor) -> Tensor:
    total = x.contiguous().clone()
    dist.all_reduce(total)
    return total
