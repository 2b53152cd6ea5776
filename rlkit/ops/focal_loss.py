"""Cross-entropy that counts less what is told well already."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_loss(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """-α_t (1 - p_t)^γ log p_t of each class by itself, in the shape of the logits.

    Lin et al. 2017 (https://arxiv.org/abs/1708.02002), equation 5: p_t is the probability that the label says is right,
    α_t is α where the label is 1 and 1 - α where it is 0. With γ = 0 and α = 1/2 it is half the cross-entropy.

    Args:
        logits: Any shape.
        labels: 0 or 1, same shape.
        alpha: Weight of what is there beside what is not.
        gamma: How much less counts what is told well.

    >>> focal_loss(torch.zeros(2), torch.tensor([1.0, 0.0])) / torch.tensor(2.0).log()
    tensor([0.0625, 0.1875])
    """
    labels = labels.to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    wrong = torch.sigmoid(torch.where(labels > 0, -logits, logits))  # 1 - p_t
    weight = torch.where(labels > 0, alpha, 1 - alpha)
    return weight * wrong**gamma * cross_entropy
