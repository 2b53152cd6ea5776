"""Deterministic policy gradient: losses of DDPG (Lillicrap et al. 2016, https://arxiv.org/abs/1509.02971).

Time suffixes: tm1 is the step acted in, t the next one. Every argument has shape [B].
"""

from __future__ import annotations

import torch
from torch import Tensor


def critic_loss(q_tm1: Tensor, target_tm1: Tensor) -> Tensor:
    """Mean squared error of the critic against fixed targets, a scalar (equation 4)."""
    return torch.nn.functional.mse_loss(q_tm1, target_tm1)


def deterministic_policy_loss(q_tm1: Tensor) -> Tensor:
    """Minus the mean of Q(s, mu(s)), a scalar whose gradient is minus equation 6's."""
    return -q_tm1.mean()


def critic_loss_gradient(q_tm1: Tensor, target_tm1: Tensor) -> Tensor:
    """Gradient of `critic_loss` by each Q(s, a): 2 (Q - y) / B, [B]."""
    return (q_tm1 - target_tm1).mul_(2 / len(q_tm1))


def deterministic_policy_loss_gradient(q_tm1: Tensor) -> Tensor:
    """Gradient of `deterministic_policy_loss` by each Q(s, mu(s)): -1 / B, [B]."""
    return torch.full_like(q_tm1, -1 / len(q_tm1))
