"""Losses of frames with labels: which classes a frame shows, told by logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shared_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Mean cross-entropy of a softmax where a frame's classes share its probability equally, a scalar.

    Σ w (-Σ_k p_k log softmax(z)_k) / Σ w, with p the labels divided by their number. A frame without any label has no
    weight. (MiniROAD divides two labels by √2, not 2; with one label the two agree. An et al. 2023,
    https://arxiv.org/abs/2308.02184.)

    Args:
        logits: z, [..., K]; -inf where a class is excluded, whose labels must then be 0.
        labels: Multi-hot [..., K].
        weight: w, [...], not negative.
    """
    labels = labels.to(logits.dtype)
    count = labels.sum(-1)
    log_probability = F.log_softmax(logits, -1)
    term = -torch.where(labels > 0, log_probability * labels, 0.0).sum(-1) / count.clamp(min=1)
    return _weighted_mean(term, weight * (count > 0))


def binary_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Mean over frames of the mean over classes of the cross-entropy of each class by itself, a scalar.

    Args:
        logits: [..., K].
        labels: Multi-hot [..., K].
        weight: Of the frames, [...], not negative.
    """
    term = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none").mean(-1)
    return _weighted_mean(term, weight)


def _weighted_mean(term: Tensor, weight: Tensor) -> Tensor:
    """Σ w x / Σ w; zero where nothing has weight."""
    total = weight.sum()
    return (term * weight).sum() / torch.where(total > 0, total, 1.0)
