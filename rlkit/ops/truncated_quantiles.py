"""Targets and losses of truncated quantile critics (Kuznetsov et al. 2020, https://arxiv.org/abs/2005.04269).

K critics predict N quantiles each of the return's distribution for B transitions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.ops.distributional import quantile_loss, quantile_midpoints


def truncated_quantiles(quantiles: Tensor, dropped: int) -> Tensor:
    """Quantiles [K, B, N] pooled and sorted, without the largest `dropped` for each critic, [B, K (N - dropped)].

    Dropping the right tail of the mixture is what keeps values from being overestimated.

    >>> truncated_quantiles(torch.tensor([[[5.0, 1.0]], [[3.0, 9.0]]]), 1)
    tensor([[1., 3.]])
    """
    critics, rows, count = quantiles.shape
    pooled = quantiles.transpose(0, 1).reshape(rows, critics * count)
    return pooled.sort(dim=1).values[:, : critics * (count - dropped)]


def soft_quantile_target(
    r_t: Tensor, discount_t: Tensor, quantiles_t: Tensor, log_pi_t: Tensor, temperature: Tensor
) -> Tensor:
    """Targets r + γ (z(s', a') - α log π(a'|s')) of quantiles [B, J], [B, J]."""
    soft = quantiles_t - (temperature * log_pi_t)[:, None]
    return torch.addcmul(r_t[:, None], discount_t[:, None], soft)


def quantile_critics_loss(quantiles_tm1: Tensor, target_tm1: Tensor) -> tuple[Tensor, Tensor]:
    """Quantile Huber loss of predictions [K, B, N] against the same targets [B, J], averaged over all.

    With its gradient by the predictions, [K, B, N].
    """
    levels = quantile_midpoints(quantiles_tm1.shape[2]).to(quantiles_tm1)
    parts = [quantile_loss(quantiles, levels, target_tm1) for quantiles in quantiles_tm1]
    losses, gradients = (torch.stack(part) for part in zip(*parts, strict=True))  # [K, B], [K, B, N]
    return losses.mean() / len(levels), gradients.div_(quantiles_tm1.numel())


def mean_value(quantiles: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over all quantiles, [B], which the actor climbs, and its gradient by them, [K, B, N]."""
    weight = 1.0 / (quantiles.shape[0] * quantiles.shape[2])
    return quantiles.mean(dim=(0, 2)), torch.full_like(quantiles, weight)
