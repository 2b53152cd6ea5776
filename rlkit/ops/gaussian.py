"""The Gaussian with independent dimensions: log-probability, entropy, and their gradients by mean and log std.

B rows of A dimensions; `log_std` [A] is the same in every row.
"""

from __future__ import annotations

import math

from torch import Tensor

_LOG_SQRT_TAU = 0.5 * math.log(2.0 * math.pi)


def log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Log-density [B] of actions [B, A]."""
    z = (action - mean) * (-log_std).exp()
    return z.square().sum(dim=1).mul_(-0.5) - (log_std.sum() + _LOG_SQRT_TAU * log_std.numel())


def entropy(log_std: Tensor) -> Tensor:
    """Entropy in nats, a scalar: the same for every mean. Its gradient by each `log_std` is 1."""
    return log_std.sum() + (0.5 + _LOG_SQRT_TAU) * log_std.numel()


def log_prob_gradient(mean: Tensor, log_std: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients [B, A] of each row's log-density, by the mean and by the log std: z / std and z² - 1."""
    inverse_std = (-log_std).exp()
    z = (action - mean) * inverse_std
    return z * inverse_std, z.square().sub_(1.0)
