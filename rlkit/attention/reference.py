"""What attention is (Vaswani et al. 2017, equation 1), in float64 and as slowly as it is clear."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.attention.mask import AttentionMask


def attention_reference(
    q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask, *, scale: float | None = None, sink: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ · scale) v, and the weights; both float64.

    Args:
        q: Queries [B, H, T, D].
        k: Keys [B, K, S, D]; head h of the queries uses head h // (H / K) of keys and values.
        v: Values [B, K, S, E].
        mask: Which keys each query sees.
        scale: Factor of the logits, by default 1 / sqrt(D).
        sink: A logit per head [H] that takes weight and gives nothing (Xiao et al. 2024,
            https://arxiv.org/abs/2309.17453, as a learned logit: OpenAI 2025, gpt-oss).

    Returns:
        Outputs [B, H, T, E] and weights [B, H, T, S]. A query that sees no key gives zero.
    """
    group = q.shape[1] // k.shape[1]
    q, k, v = q.double(), k.double().repeat_interleave(group, 1), v.double().repeat_interleave(group, 1)
    logits = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    seen = mask.dense(q.shape[2], k.shape[2], q.device)
    logits = logits.masked_fill(~seen, -torch.inf)
    weights = weights_of(logits, sink)
    return weights @ v, weights


def weights_of(logits: Tensor, sink: Tensor | None) -> Tensor:
    """Softmax of logits [B, H, T, S], where -inf is hidden, with a sink's logit [H] among them; rows of -inf give 0."""
    greatest = logits.amax(-1, keepdim=True)
    if sink is not None:
        sink = sink.to(logits.dtype)[:, None, None]
        greatest = torch.maximum(greatest, sink)
    # taken off for the sake of exp alone; it stays out of the gradient, and a row of -inf keeps its -inf
    shift = greatest.detach().masked_fill(greatest == -torch.inf, 0.0)
    weights = (logits - shift).exp()
    total = weights.sum(-1, keepdim=True)
    if sink is not None:
        total = total + (sink - shift).exp()
    return weights / total.masked_fill(total == 0, 1.0)
