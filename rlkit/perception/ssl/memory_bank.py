"""What is remembered of every picture, to tell pictures apart by: InstDisc's bank, and CMC's two."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rlkit.nn.ranks import gathered, rank_and_ranks
from rlkit.ops.noise_contrastive import bank_logits, drawn_noise, log_partition, uniform_bank, updated_rows


class MemoryBank(nn.Module):
    """Features of length one of each of n pictures, and the constant of what is compared with them.

    All of it is in the state: log Z is estimated once, before the first update, and the same for good.

    Args:
        size: n.
        width: D.
        generator: Source of the first rows.

    Attributes:
        rows: [n, D], the same on all ranks.
        log_z: A scalar, infinite before the first update.
    """

    rows: Tensor
    log_z: Tensor

    def __init__(self, size: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("rows", uniform_bank(size, width, generator))
        self.register_buffer("log_z", torch.tensor(torch.inf))
        self._log_z_of_last: Tensor | None = None

    def logits(self, features: Tensor, index: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """What `bank_logits` gives for features [B, D] and pictures `index` [B, 1 + K], own first, and log Z."""
        logits = bank_logits(features, self.rows, index, temperature)
        estimates = gathered(log_partition(logits[:, 1:], len(self.rows))[None])  # one of each rank
        estimate = estimates.logsumexp(dim=0) - math.log(len(estimates))
        self._log_z_of_last = torch.where(self.log_z.isinf(), estimate, self.log_z)
        return logits, self._log_z_of_last

    @torch.no_grad()
    def update(self, index: Tensor, features: Tensor, momentum: float) -> None:
        """Mix the features [B, D] that pictures `index` [B] have shown, on all ranks, into their rows; keep log Z."""
        if self._log_z_of_last is not None:
            self.log_z.copy_(self._log_z_of_last)
        index, features = gathered(index), gathered(features)
        self.rows[index] = updated_rows(self.rows[index], features, momentum)


def own_and_noise(index: Tensor, size: int, count: int, generator: torch.Generator) -> Tensor:
    """Each picture `index` [B] with `count` drawn from all n = `size`, int64 [B, 1 + K].

    Each rank draws for all and takes its part.
    """
    noise = drawn_noise(gathered(index), size, count, generator)
    rank, rows = rank_and_ranks()[0], len(index)
    return torch.cat([index[:, None], noise[rank * rows : (rank + 1) * rows]], dim=1)
