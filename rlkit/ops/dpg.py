"""Deterministic policy gradient: losses of DDPG (Lillicrap et al. 2016, https://arxiv.org/abs/1509.02971).

And of TD3, its twin delayed form (Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477).

Time suffixes: tm1 is the step acted in, t the next one. Arguments have shape [B], those of K critics [K, B].
"""

from __future__ import annotations

import torch
from torch import Tensor


def critic_loss(q_tm1: Tensor, target_tm1: Tensor) -> Tensor:
    """Mean squared error of the critic against fixed targets, a scalar (equation 4)."""
    return (q_tm1 - target_tm1).square_().mean()


def deterministic_policy_loss(q_tm1: Tensor) -> Tensor:
    """Minus the mean of Q(s, mu(s)), a scalar whose gradient is minus equation 6's."""
    return -q_tm1.mean()


def critic_loss_gradient(q_tm1: Tensor, target_tm1: Tensor) -> Tensor:
    """Gradient of `critic_loss` by each Q(s, a): 2 (Q - y) / B, [B]."""
    return (q_tm1 - target_tm1).mul_(2 / len(q_tm1))


def deterministic_policy_loss_gradient(q_tm1: Tensor) -> Tensor:
    """Gradient of `deterministic_policy_loss` by each Q(s, mu(s)): -1 / B, [B]."""
    return torch.full_like(q_tm1, -1 / len(q_tm1))


def smoothed_action(a_t: Tensor, noise: Tensor, sigma: float, clip: float) -> Tensor:
    """Target actions a' + clip(sigma * noise, -clip, clip) within [-1, 1], [B, A], for standard normal noise.

    Fujimoto et al. 2018, section 5.3: similar actions should have similar values.

    >>> smoothed_action(torch.tensor([0.0, 0.9]), torch.tensor([9.0, 1.0]), 0.2, 0.5).tolist()
    [0.5, 1.0]
    """
    return a_t.add((sigma * noise).clamp_(-clip, clip)).clamp_(-1.0, 1.0)


def clipped_value(q_t: Tensor) -> Tensor:
    """Least of K critics' values, [B] (Fujimoto et al. 2018, equation 10: clipped double Q-learning)."""
    return q_t.amin(dim=0)


def critics_loss(q_tm1: Tensor, target_tm1: Tensor) -> Tensor:
    """Sum over K critics of their mean squared errors against the same targets [B], a scalar."""
    return (q_tm1 - target_tm1).square_().mean(dim=1).sum()


def critics_loss_gradient(q_tm1: Tensor, target_tm1: Tensor) -> Tensor:
    """Gradient of `critics_loss` by each Q(s, a): 2 (Q - y) / B, [K, B]."""
    return (q_tm1 - target_tm1).mul_(2 / q_tm1.shape[1])
