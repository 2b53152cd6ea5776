"""What the assignment of one view teaches the other views of the same picture: the term DINO and SwAV share.

V views of B pictures, of which the first G also give targets: probabilities over K outputs or prototypes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.errors import UsageError


def cross_entropy_between_views(target: Tensor, log_p: Tensor) -> Tensor:
    """-Σ_k q_k log p_k, a scalar: its mean over all pairs of a target and another view, and over the batch.

    Uniform predictions give ln K whatever the targets are: a loss that stays there has collapsed.

    Args:
        target: Probabilities [G, B, K] of views 1 … G. No gradient flows into them.
        log_p: Log-probabilities [V, B, K] of views 1 … V, in the same order: G (V - 1) pairs, 2V - 2 for two targets.

    Raises:
        UsageError: fewer views than targets, or one view alone.

    >>> q = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> cross_entropy_between_views(q, torch.tensor([[[-1.0, -2.0]], [[-4.0, -8.0]]])).item()  # (4 + 2) / 2
    3.0
    """
    targets, (views, rows) = len(target), log_p.shape[:2]
    if views < max(2, targets):
        raise UsageError(
            f"{targets} views give targets and {views} give predictions; it takes at least two views, "
            f"and every view that gives a target must give a prediction too: pass them in the same order"
        )
    # Products one by one: under autocast a matrix product of them would be rounded to 8 bits.
    pairs = torch.stack([(q * log_p).sum(dim=(1, 2)) for q in target.detach()])  # [G, V]
    same_view = torch.eye(targets, views, dtype=torch.bool, device=pairs.device)
    return pairs.masked_fill(same_view, 0.0).sum() / -(targets * (views - 1) * rows)
