"""Losses of policy gradient methods and their gradients by each log-probability and each value.

REINFORCE (Williams 1992, https://doi.org/10.1007/BF00992696), A2C (Mnih et al. 2016, https://arxiv.org/abs/1602.01783)
and PPO (Schulman et al. 2017, https://arxiv.org/abs/1707.06347). Every argument has shape [B]; losses are scalars.
"""

from __future__ import annotations

import torch
from torch import Tensor


def policy_gradient_loss(log_prob: Tensor, advantage: Tensor) -> Tensor:
    """Minus the mean of advantage times log-probability, whose gradient is minus the policy gradient."""
    return -(advantage * log_prob).mean()


def policy_gradient_loss_gradient(advantage: Tensor) -> Tensor:
    """Gradient of `policy_gradient_loss` by each log-probability: minus the advantage over B."""
    return advantage * (-1.0 / len(advantage))


def clipped_surrogate_loss(ratio: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """Minus the mean of min(ratio · A, clip(ratio, 1 ± clip_range) · A), PPO's equation 7.

    >>> clipped_surrogate_loss(torch.tensor([2.0]), torch.tensor([1.0]), 0.2)
    tensor(-1.2000)
    """
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return -torch.minimum(advantage * ratio, advantage * clipped).mean()


def clipped_surrogate_loss_gradient(ratio: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """Gradient of `clipped_surrogate_loss` by each log-probability: zero where the clip holds, else -ratio · A / B.

    The clip holds where the ratio is already beyond it on the side to which the advantage pushes.
    """
    beyond = torch.where(advantage > 0, ratio > 1.0 + clip_range, ratio < 1.0 - clip_range)
    return (advantage * ratio).mul_(-1.0 / len(ratio)).masked_fill_(beyond, 0.0)


def clip_fraction(ratio: Tensor, clip_range: float) -> Tensor:
    """Part of the ratios beyond the clip range, a scalar."""
    return ((ratio - 1.0).abs() > clip_range).to(ratio.dtype).mean()


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """Mean of ratio - 1 - log ratio: an unbiased estimate, never negative, of KL(old, new), a scalar.

    Schulman 2020, http://joschu.net/blog/kl-approx.html, the third estimator.
    """
    return (log_ratio.expm1() - log_ratio).mean()


def value_loss(value: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of the values."""
    return torch.nn.functional.mse_loss(value, target)


def value_loss_gradient(value: Tensor, target: Tensor) -> Tensor:
    """Gradient of `value_loss` by each value: 2 (V - target) / B."""
    return (value - target).mul_(2.0 / len(value))


def clipped_value(value: Tensor, old_value: Tensor, clip_range: float) -> Tensor:
    """Values kept within `clip_range` of what they were when the rollout was collected.

    Its gradient by `value` is 1 within the range and 0 beyond, see `value_within`.
    """
    return old_value + (value - old_value).clamp(-clip_range, clip_range)


def value_within(value: Tensor, old_value: Tensor, clip_range: float) -> Tensor:
    """Whether each value is within `clip_range` of the old one, bool."""
    return (value - old_value).abs() <= clip_range


def normalised(advantage: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 (with B - 1 in its denominator); a single one stays as it is."""
    if len(advantage) < 2:
        return advantage
    std, mean = torch.std_mean(advantage)
    return (advantage - mean) / (std + 1e-8)
