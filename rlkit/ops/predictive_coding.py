"""Contrastive predictive coding of sequences (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748).

B sequences of T steps, features z of D numbers, predictions W_k c_t of those k steps ahead. Sequences may hold several
episodes, and steps that are only padding; what a context predicts is always of its own episode.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.ops.contrastive import info_nce


def same_episode(starts: Tensor, steps: int) -> Tensor:
    """Whether t + `steps` is of the same episode as t, bool [B, T - steps], of `starts` [B, T].

    `starts` tells which steps are the first of an episode. Empty where `steps` is T or more.

    >>> same_episode(torch.tensor([[False, False, True, False]]), 1)
    tensor([[ True, False,  True]])
    """
    episode = starts.cumsum(dim=1)
    return episode[:, : max(starts.shape[1] - steps, 0)] == episode[:, steps:]


def prediction_logits(
    prediction: Tensor, z: Tensor, steps: int, *, present: Tensor | None = None, across_time: bool = False,
    offset: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """z_jᵀ W_k c_t for all candidates z_j, [B, T - k, N], and the column of z_t+k, int64 [B, T - k] (equation 3).

    Args:
        prediction: W_k c_t, [B, T, D]; the last k steps have nothing to predict.
        z: Features [B, T, D], or [S, T, D] of the sequences of all ranks.
        steps: k, from 1.
        present: Which steps of `z` are not padding, bool [S, T]; by default all. Padding, of any finite numbers, is no
            candidate.
        across_time: Whether the candidates are all steps of all sequences, N = S T, or those at t + k, N = S. Steps of
            one's own sequence are easier to tell apart, or wrongly negative, where time changes little.
        offset: How many sequences of `z` come before those that `prediction` belongs to.
    """
    batch, time = len(prediction), z.shape[1]
    ahead = max(time - steps, 0)
    rows = torch.arange(offset, offset + batch, device=z.device)[:, None].expand(batch, ahead)
    if across_time:
        logits = torch.einsum("btd,nd->btn", prediction[:, :ahead], z.flatten(0, 1))
        positive = rows * time + torch.arange(time - ahead, time, device=z.device)
        absent = None if present is None else ~present.flatten()[None, None]
    else:
        logits = torch.einsum("btd,ntd->btn", prediction[:, :ahead], z[:, steps:])
        positive = rows
        absent = None if present is None else ~present[:, steps:].T[None]
    if absent is not None:
        # Even an absent positive stays a candidate of its own row: a row without any would be NaN.
        absent = absent.expand_as(logits).scatter(2, positive[:, :, None], False)
        logits = logits.masked_fill(absent, -torch.inf)
    return logits, positive


def predictive_coding_losses(
    predictions: Tensor, z: Tensor, starts: Tensor, *, present: Tensor | None = None, across_time: bool = False
) -> tuple[Tensor, Tensor]:
    """InfoNCE of z_t+k given c_t for k = 1 … K, [K], a mean over valid pairs each (equation 4), and their number [K].

    A pair is valid within one episode, and where both of its steps are present; without any the loss is zero. The
    softmax is over the candidates z for one context, not over contexts: ln N - loss is a bound on I(z_t+k; c_t).

    Args:
        predictions: W_k c_t, [K, B, T, D].
        z: Features [B, T, D].
        starts: Which steps are the first of an episode, bool [B, T].
        present: As of `prediction_logits`.
        across_time: As of `prediction_logits`.
    """
    losses, pairs = [], []
    for steps, prediction in enumerate(predictions.unbind(0), 1):
        logits, positive = prediction_logits(prediction, z, steps, present=present, across_time=across_time)
        valid = same_episode(starts, steps)
        if present is not None:
            valid = valid & present[:, : valid.shape[1]] & present[:, steps:]
        pairs.append(valid.sum())
        losses.append(torch.where(valid, info_nce(logits, positive), 0.0).sum() / pairs[-1].clamp_min(1))
    return torch.stack(losses), torch.stack(pairs)
