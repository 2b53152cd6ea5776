"""Signs of collapsed features: what losses are when all features are alike, how features spread, how many directions.

A loss that stays at the value of its method here is learning nothing. B rows of D features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def collapsed_softmax_loss(choices: int) -> float:
    """Cross entropy of a uniform softmax, ln N.

    N is the number of InfoNCE's candidates (CPC, CURL, ATC, ST-DIM), of a bank's instances (InstDisc's full softmax),
    of outputs (DINO), of prototypes (SwAV).

    >>> round(collapsed_softmax_loss(65536), 4)
    11.0904
    """
    return math.log(choices)


def collapsed_margin_loss(margin: float, similar: float = 0.5) -> float:
    """Loss of pairs with a margin m of which a share is similar, (1 - share) m²/2: no pair has a distance."""
    return (1 - similar) * margin**2 / 2


def collapsed_nt_xent(pairs: int) -> float:
    """SimCLR's loss of N pairs, ln(2N - 1)."""
    return math.log(2 * pairs - 1)


def collapsed_momentum_contrast_loss(queue: int) -> float:
    """MoCo's loss with K keys in the queue, ln(K + 1)."""
    return math.log(queue + 1)


def collapsed_symmetric_contrast_loss(candidates: int, temperature: float) -> float:
    """MoCo v3's loss of both views, twice 2τ ln N; N counts the batches of all ranks."""
    return 4 * temperature * math.log(candidates)


def collapsed_local_info_nce_loss(batch: int, places: int) -> float:
    """Deep InfoMax's InfoNCE with L places, ln(1 + (B - 1) L)."""
    return math.log(1 + (batch - 1) * places)


def collapsed_noise_contrastive_loss(noise: int) -> float:
    """InstDisc's loss with K noise instances and Z of the same features, ln(K + 1) + K ln(1 + 1/K); CMC's is twice it.

    All instances then have P = 1/n, whatever the temperature, and h = 1 / (1 + K).
    """
    return math.log(noise + 1) + noise * math.log1p(1 / noise)


def feature_spread(z: Tensor) -> Tensor:
    """Standard deviation of each feature over the batch once rows of `z` [B, D] have length one, its mean, a scalar.

    Chen and He 2021 (https://arxiv.org/abs/2011.10566), section 4.1: 1/√D where directions are uniform, which is the
    most it can be, and 0 where all rows point the same way.
    """
    return F.normalize(z, dim=1).std(dim=0, correction=0).mean()


def effective_rank(z: Tensor) -> Tensor:
    """Effective rank of `z` [B, D], e to the entropy of its singular values' shares: a scalar from 1 to min(B, D).

    Roy and Vetterli 2007 (EUSIPCO, "The effective rank: a measure of effective dimensionality"). Features that are zero
    have 1. The mean is a direction too; subtract it first to leave it out.

    >>> effective_rank(torch.diag(torch.tensor([2.0, 2.0, 0.0])))
    tensor(2.)
    """
    return _entropy_of(_shares(z)).exp()


def rank_me(z: Tensor) -> Tensor:
    """RankMe of features [B, D], a scalar: `effective_rank` with 1e-7 added to each share.

    Garrido et al. 2023 (https://arxiv.org/abs/2210.02885), equation 1, which uses 25,600 rows; it compares runs of one
    method, and with fewer rows than features it is at most B.
    """
    return _entropy_of(_shares(z) + 1e-7).exp()


def _shares(z: Tensor) -> Tensor:
    """Singular values in parts of their sum, [min(B, D)]; zeros where there is none."""
    values = torch.linalg.svdvals(z)
    return values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)


def _entropy_of(shares: Tensor) -> Tensor:
    return -torch.xlogy(shares, shares).sum()
