"""The categorical distribution over A actions: log-probability, entropy, and their gradients by the logits.

B rows. Forbidden actions have a log-probability of minus infinity: probability and gradient are exactly zero.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_probabilities(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Logarithm of the softmax of `logits` [B, A] over the actions that `mask` [B, A] allows, at least one a row.

    >>> log_probabilities(torch.zeros(1, 2), torch.tensor([[True, False]])).tolist()
    [[0.0, -inf]]
    """
    return torch.log_softmax(logits if mask is None else logits.masked_fill(~mask, -torch.inf), dim=1)


def log_prob(log_p: Tensor, action: Tensor) -> Tensor:
    """Log-probability [B] of actions [B], which must be allowed."""
    return log_p.gather(1, action.unsqueeze(1)).squeeze(1)


def entropy(log_p: Tensor) -> Tensor:
    """Entropy [B] in nats: minus the sum of p log p."""
    return -_p_log_p(log_p).sum(dim=1)


def log_prob_gradient(log_p: Tensor, action: Tensor) -> Tensor:
    """Gradient [B, A] of each row's log-probability by its logits: one for the action taken, less the probabilities."""
    return log_p.exp().neg_().scatter_add_(1, action.unsqueeze(1), torch.ones_like(log_p[:, :1]))


def entropy_gradient(log_p: Tensor) -> Tensor:
    """Gradient [B, A] of each row's entropy H by its logits: -p (log p + H)."""
    p_log_p = _p_log_p(log_p)
    return torch.addcmul(-p_log_p, log_p.exp(), p_log_p.sum(dim=1, keepdim=True))


def _p_log_p(log_p: Tensor) -> Tensor:
    return log_p.exp().mul_(log_p.clamp_min(torch.finfo(log_p.dtype).min))  # 0 · (-∞) is 0 here
