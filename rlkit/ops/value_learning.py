"""Targets and losses of deep Q-learning (Mnih et al. 2015, https://doi.org/10.1038/nature14236, and its improvements).

Time suffixes: tm1 is the step acted in, t the next one. B transitions, A actions. Losses come per transition; their
gradients by the predicted value stand beside them, because the networks are differentiated outside autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor


def td_target(r_t: Tensor, discount_t: Tensor, v_t: Tensor) -> Tensor:
    """Targets y = r + discount * V(s'), [B].

    `discount_t` is zero where the episode terminated and stays gamma where it was truncated. With n-step returns `r_t`
    is the discounted sum of rewards and `discount_t` is gamma^n.

    >>> td_target(torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([4.0]))
    tensor([3.])
    """
    return torch.addcmul(r_t, discount_t, v_t)


def allowed(q: Tensor, mask: Tensor | None) -> Tensor:
    """Action values [B, A] with minus infinity where `mask` [B, A] forbids the action."""
    return q if mask is None else q.masked_fill(~mask, -torch.inf)


def squared_loss(error: Tensor) -> Tensor:
    """The squared TD error, per transition [B]; `error` is prediction minus target."""
    return error.square()


def squared_loss_gradient(error: Tensor) -> Tensor:
    """Gradient of `squared_loss` by the prediction, [B]."""
    return 2.0 * error


def huber_loss(error: Tensor) -> Tensor:
    """Huber's loss (1964) with threshold 1, per transition [B].

    Its gradient is the TD error clipped to [-1, 1], which is what Mnih et al. 2015 describe under "error clipping".
    """
    return torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none")


def huber_loss_gradient(error: Tensor) -> Tensor:
    """Gradient of `huber_loss` by the prediction, [B]."""
    return error.clamp(-1.0, 1.0)


def dueling(value: Tensor, advantage: Tensor) -> Tensor:
    """Q = V + A - mean A (Wang et al. 2016, equation 9): value [B, 1, K] and advantage [B, A, K] to [B, A, K]."""
    return value + advantage - advantage.mean(dim=1, keepdim=True)


def log_policy(q: Tensor, temperature: float) -> Tensor:
    """Logarithm of softmax(Q / temperature), [B, A]; minus infinity for actions whose value is."""
    return torch.log_softmax(q / temperature, dim=1)


def soft_value(outputs_t: Tensor, log_pi_t: Tensor, temperature: float) -> Tensor:
    """Sum over actions of pi (Z - temperature log pi), [B, K] (Vieillard et al. 2020, equation 2).

    `outputs_t` [B, A, K] are values (K = 1) or quantiles, `log_pi_t` [B, A]; actions of probability zero count nothing.
    """
    log_pi = log_pi_t.unsqueeze(2)
    terms = log_pi.exp() * (outputs_t - temperature * log_pi)
    return terms.masked_fill(torch.isneginf(log_pi), 0.0).sum(dim=1)


def munchausen_bonus(log_pi_tm1: Tensor, temperature: float, alpha: float, lowest: float) -> Tensor:
    """The log-policy added to the reward, [B]: alpha times (temperature log pi(a|s), clipped to [lowest, 0]).

    Vieillard et al. 2020 (https://arxiv.org/abs/2007.14430), equation 2 and section 4; `log_pi_tm1` [B] is of the
    action taken.
    """
    return alpha * (temperature * log_pi_tm1).clamp(lowest, 0.0)
