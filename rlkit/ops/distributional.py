"""Distributions of returns: the categorical projection of C51 and the quantile loss of QR-DQN and IQN.

Bellemare et al. 2017 (https://arxiv.org/abs/1707.06887); Dabney et al. 2018 (https://arxiv.org/abs/1710.10044 and
https://arxiv.org/abs/1806.06923). B transitions, K atoms or quantiles of the prediction, J of the target. Losses come
per transition, with their gradients by the prediction.
"""

from __future__ import annotations

import torch
from torch import Tensor


def categorical_projection(
    support: Tensor, r_t: Tensor, discount_t: Tensor, probabilities_t: Tensor, support_t: Tensor | None = None
) -> Tensor:
    """The distribution of r + discount * Z put back on evenly spaced atoms, [B, K] (Bellemare 2017, algorithm 1).

    Args:
        support: Atoms of the result, [K], evenly spaced.
        r_t: Rewards [B].
        discount_t: Discounts [B], zero where the episode terminated.
        probabilities_t: Probabilities of Z's atoms, [B, J].
        support_t: Z's atoms, [J] or [B, J]; by default `support`.
    """
    atoms = support if support_t is None else support_t
    step = support[1] - support[0]
    moved = (r_t[:, None] + discount_t[:, None] * atoms).clamp(support[0], support[-1])  # [B, J]
    position = ((moved - support[0]) / step).clamp(0, len(support) - 1)
    below, fraction = position.floor(), position.frac()
    low = below.long()
    high = (low + 1).clamp_max(len(support) - 1)  # where this clamps, the fraction is zero
    projected = torch.zeros(len(r_t), len(support), dtype=probabilities_t.dtype, device=r_t.device)
    projected.scatter_add_(1, low, probabilities_t * (1.0 - fraction))
    projected.scatter_add_(1, high, probabilities_t * fraction)
    return projected


def clipped_share(support: Tensor, r_t: Tensor, discount_t: Tensor, probabilities_t: Tensor) -> Tensor:
    """Part of r + discount * Z, mean over the batch, that lies outside the atoms and is moved to the outermost ones."""
    moved = r_t[:, None] + discount_t[:, None] * support
    tolerance = 1e-3 * (support[-1] - support[0])
    outside = (moved < support[0] - tolerance) | (moved > support[-1] + tolerance)
    return (probabilities_t * outside).sum(dim=1).mean()


def categorical_loss(logits_tm1: Tensor, target_tm1: Tensor) -> Tensor:
    """Cross entropy of predicted `logits_tm1` [B, K] against the target distribution [B, K], per transition [B]."""
    return -(target_tm1 * torch.log_softmax(logits_tm1, dim=1)).sum(dim=1)


def categorical_loss_gradient(logits_tm1: Tensor, target_tm1: Tensor) -> Tensor:
    """Gradient of `categorical_loss` by the logits: softmax minus target, [B, K]."""
    return torch.softmax(logits_tm1, dim=1) - target_tm1


def quantile_midpoints(count: int) -> Tensor:
    """(2i + 1) / 2K for i = 0 … K - 1: the levels whose quantiles QR-DQN predicts (Dabney 2018, lemma 2), [K].

    >>> quantile_midpoints(2)
    tensor([0.2500, 0.7500])
    """
    return (torch.arange(count) + 0.5) / count


def quantile_loss(
    quantiles_tm1: Tensor, levels_tm1: Tensor, targets_tm1: Tensor, threshold: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Quantile Huber loss, per transition [B]: summed over predictions, averaged over targets; and its gradient [B, K].

    Dabney et al. 2018, QR-DQN equation 10 and algorithm 1; IQN equation 3. The gradient is by the predicted quantiles.
    Both in one function, as the errors [B, K, J] and their weights are nearly all of the work.

    Args:
        quantiles_tm1: Predicted quantiles [B, K].
        levels_tm1: Their levels in (0, 1), [K] or [B, K].
        targets_tm1: Samples or quantiles of the target, [B, J].
        threshold: Where Huber's loss goes from squared to linear (κ); 0 gives the plain quantile loss.
    """
    error = targets_tm1[:, None, :] - quantiles_tm1[:, :, None]
    level = levels_tm1[..., None]
    weight = torch.where(error < 0, 1.0 - level, level)  # |level - 1{error < 0}|
    if threshold == 0.0:
        slope = weight * error.sign()
        return (slope * error).mean(dim=2).sum(dim=1), -slope.mean(dim=2)
    clamped = error.clamp(-threshold, threshold)
    slope = weight * clamped
    huber = slope * error.sub(clamped, alpha=0.5)  # c (e - c / 2) is e² / 2 up to κ, and κ (|e| - κ / 2) beyond
    return huber.mean(dim=2).sum(dim=1) / threshold, slope.mean(dim=2) / -threshold
