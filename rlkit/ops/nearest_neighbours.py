"""The weighted vote of nearest neighbours (Wu et al. 2018, section 3.4, https://arxiv.org/abs/1805.01978).

B queries with k neighbours each.
"""

from __future__ import annotations

import torch
from torch import Tensor


def vote_weights(similarity: Tensor, temperature: float) -> Tensor:
    """exp(s / τ) of cosine similarities [B, k], each row divided by its largest, which no vote depends on.

    >>> vote_weights(torch.tensor([[1.0, 1.0]]), 0.07).tolist()
    [[1.0, 1.0]]
    """
    return torch.exp((similarity - similarity.amax(dim=1, keepdim=True)) / temperature)


def class_votes(weight: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Sum of the weights [B, k] of the neighbours of each class, [B, C]; `classes` int64 [B, k] below C."""
    return weight.new_zeros(len(weight), num_classes).scatter_add_(1, classes, weight)


def mean_vote(weight: Tensor, values: Tensor) -> Tensor:
    """Mean [B] of the neighbours' values [B, k] under their weights: the same vote for a quantity."""
    return (weight * values).sum(dim=1) / weight.sum(dim=1)
