"""Losses of soft actor-critic and their gradients (Haarnoja et al. 2018b, https://arxiv.org/abs/1812.05905).

Time suffixes: tm1 is the step acted in, t the next one. B transitions, K critics; α is the temperature.
"""

from __future__ import annotations

import torch
from torch import Tensor


def soft_value(q_t: Tensor, log_pi_t: Tensor, temperature: Tensor) -> Tensor:
    """V(s') = min_i Q_i(s', a') - α log π(a'|s'), [B], of critics [K, B] (equation 3, with the least of them).

    >>> soft_value(torch.tensor([[1.0], [2.0]]), torch.tensor([-1.0]), torch.tensor(0.5)).tolist()
    [1.5]
    """
    return q_t.amin(dim=0).sub_(temperature * log_pi_t)


def soft_critics_loss(q_tm1: Tensor, target_tm1: Tensor) -> Tensor:
    """Half the sum over K critics of their mean squared errors, a scalar (equation 5)."""
    return (q_tm1 - target_tm1).square_().mean(dim=1).sum().mul_(0.5)


def soft_critics_loss_gradient(q_tm1: Tensor, target_tm1: Tensor) -> Tensor:
    """Gradient of `soft_critics_loss` by each Q(s, a): (Q - y) / B, [K, B]."""
    return (q_tm1 - target_tm1).div_(q_tm1.shape[1])


def least_value(q_tm1: Tensor) -> tuple[Tensor, Tensor]:
    """min_i Q_i(s, a), [B], and its gradient by the critics' values, [K, B]: one for the least, zero for others."""
    value, least = q_tm1.min(dim=0)
    return value, torch.zeros_like(q_tm1).scatter_(0, least[None], 1.0)


def soft_policy_loss(v_tm1: Tensor, log_pi_tm1: Tensor, temperature: Tensor) -> Tensor:
    """Mean of α log π(a|s) - Q(s, a) over drawn actions, a scalar (equation 9), given their values [B].

    Its gradient is -1/B by each value and α/B by each log π(a|s).
    """
    return (temperature * log_pi_tm1).sub_(v_tm1).mean()


def temperature_loss(log_temperature: Tensor, log_pi_tm1: Tensor, target_entropy: float) -> Tensor:
    """-log α (mean log π + H), a scalar: α grows while the entropy is below H (equation 18, by log α)."""
    return -log_temperature * (log_pi_tm1.mean() + target_entropy)


def temperature_loss_gradient(log_pi_tm1: Tensor, target_entropy: float) -> Tensor:
    """Gradient of `temperature_loss` by log α, a scalar."""
    return log_pi_tm1.mean().add_(target_entropy).neg_()
