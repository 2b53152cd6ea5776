"""A Gaussian squashed by tanh, with its gradients by hand (Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905).

The action is a = tanh(u) with u = m + σ ε; its log-density follows by the change of variables (appendix C). B rows, A
action dimensions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LOWEST_LOG_STD, HIGHEST_LOG_STD = -20.0, 2.0  # of the authors' code (softlearning)


class SquashedSample(NamedTuple):
    """One drawn action a row, with what its gradients need."""

    action: Tensor  # [B, A] in [-1, 1]
    log_prob: Tensor  # [B]
    spread: Tensor  # [B, A]: σ ε
    is_clamped: Tensor  # [B, A] bool: where the log standard deviation was cut


def squashed_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> SquashedSample:
    """tanh(m + σ ε) for standard normal noise ε, all [B, A], with `log_std` clamped to [-20, 2].

    The correction log(1 - a²) is written 2 (log 2 - u - softplus(-2u)), which stays exact where tanh rounds to one.
    The clamped values themselves count as free, as in `torch.clamp`.

    >>> zero = torch.zeros(1, 1)
    >>> round(float(squashed_gaussian(zero, zero, zero).log_prob), 4)
    -0.9189
    """
    clamped = log_std.clamp(LOWEST_LOG_STD, HIGHEST_LOG_STD)
    spread = clamped.exp().mul_(noise)
    before = mean + spread  # u
    correction = torch.nn.functional.softplus(-2.0 * before).add_(before).sub_(math.log(2.0)).mul_(2.0)
    terms = noise.square().mul_(-0.5).sub_(clamped).add_(correction)
    log_prob = terms.sum(dim=1).sub_(0.5 * math.log(2.0 * math.pi) * mean.shape[1])
    return SquashedSample(before.tanh_(), log_prob, spread, clamped != log_std)


def squashed_gaussian_gradient(sample: SquashedSample, by_action: Tensor, by_log_prob: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of a loss by the mean and by `log_std`, each [B, A], the noise being fixed.

    Args:
        sample: What `squashed_gaussian` returned.
        by_action: Gradient [B, A] by the action.
        by_log_prob: Gradient [B] by its log-probability.

    With ∂a/∂u = 1 - a² and ∂log π/∂u = 2a: by the mean g = (1 - a²) g_a + 2a g_π, by `log_std` σ ε g - g_π.
    """
    action, by_log_prob = sample.action, by_log_prob[:, None]
    by_mean = torch.addcmul(by_action, by_action * action, action, value=-1.0).addcmul_(action, by_log_prob, value=2.0)
    by_log_std = (by_mean * sample.spread).sub_(by_log_prob).masked_fill_(sample.is_clamped, 0.0)
    return by_mean, by_log_std
