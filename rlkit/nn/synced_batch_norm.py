"""Batch normalisation whose statistics are those of all ranks' rows, on a CPU too (torch's own needs a GPU)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlkit.nn.ranks import rank_and_ranks, sum_over_ranks


class SyncedBatchNorm(nn.Module):
    """As `BatchNorm1d` or `BatchNorm2d` (Ioffe and Szegedy 2015), of the rows of all ranks together.

    Args:
        norm: What it takes the place of; parameters and buffers are shared and keep their names.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.momentum is not None
        assert norm.track_running_stats
        self.weight: nn.Parameter | None = norm.weight  # None without an affine part
        self.bias: nn.Parameter | None = norm.bias
        self.eps, self.momentum = norm.eps, norm.momentum
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised [B, C] or [B, C, H, W]."""
        mean, variance = (
            self._statistics(x) if self.training else (self._buffer("running_mean"), self._buffer("running_var"))
        )
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        y = (x - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is None or self.bias is None:
            return y
        return y * self.weight.view(shape) + self.bias.view(shape)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        count = x.numel() // x.shape[1] * rank_and_ranks()[1]
        mean = sum_over_ranks(x.sum(axes)) / count
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        variance = sum_over_ranks((x - mean.view(shape)).square().sum(axes)) / count
        with torch.no_grad():
            self._buffer("running_mean").lerp_(mean, self.momentum)
            self._buffer("running_var").lerp_(variance * (count / max(count - 1, 1)), self.momentum)
            self._buffer("num_batches_tracked").add_(1)
        return mean, variance

    def _buffer(self, name: str) -> Tensor:
        return self.get_buffer(name)


def sync_norms_(module: nn.Module) -> None:
    """Give every batch norm in `module` the statistics of all ranks; the same parameters and state.

    Each rank must hold equally many rows.
    """
    for name, child in module.named_children():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            setattr(module, name, SyncedBatchNorm(child))
        else:
            sync_norms_(child)
