"""Estimates of mutual information between the whole and the parts of observations: Deep InfoMax and ST-DIM.

Hjelm et al. 2019 (https://arxiv.org/abs/1808.06670); Anand et al. 2019 (https://arxiv.org/abs/1906.08226). B
observations with L places each; D features of the whole, E of a place. Losses are scalars, the negative of what they
estimate or bound. Pairs of one observation are positives, and all pairs of two are negatives, so B is at least 2.

Deviations: the Jensen-Shannon estimate is shifted by 2 ln 2, as in Deep InfoMax's code, so that scores of zero give
zero; ST-DIM's sums over places are means, as in its code, so that ln B is chance whatever the size of the map.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlkit.ops.contrastive import info_nce, own_columns


def local_scores(whole: Tensor, parts: Tensor) -> Tensor:
    """Product of the whole of observation b with place l of observation c, [B, B, L], of [B, D] and [B, L, D]."""
    return torch.einsum("bd,cld->bcl", whole, parts)


def jensen_shannon_loss(scores: Tensor) -> Tensor:
    """Minus the Jensen-Shannon estimate of `scores` T [B, B, L] (Hjelm et al. 2019, equation 4), at least -2 ln 2.

    Mean softplus(-T) of positives and mean softplus(T) of negatives, less 2 ln 2. The best scores make it minus twice
    the divergence between joint and product distribution, in nats.

    >>> jensen_shannon_loss(torch.zeros(3, 3, 2)).item()
    0.0
    """
    positives, negatives = _pairs(scores)
    return _softplus(-positives).mean() + _softplus(negatives).mean() - 2 * math.log(2)


def donsker_varadhan_loss(scores: Tensor) -> Tensor:
    """Log mean exp T over negatives less the mean T over positives, of `scores` [B, B, L] (equation 2).

    Minus a lower bound on the information, in nats, and the only loss here without a least value: where there is much
    information a few negatives decide it, and batches without them claim too much. Adding to all T changes nothing.
    """
    positives, negatives = _pairs(scores)
    return negatives.flatten().logsumexp(dim=0) - math.log(negatives.numel()) - positives.mean()


def local_info_nce_loss(scores: Tensor) -> Tensor:
    """-log softmax of each positive T[b, b, l] among it and all negatives T[b, c, ·], c ≠ b, the mean over b and l.

    Hjelm et al. 2019, equation 5, of `scores` [B, B, L]. Other places of the same observation are no candidates, so
    there are 1 + (B - 1) L.
    """
    positives, negatives = _pairs(scores)
    others = negatives.flatten(1).logsumexp(dim=1, keepdim=True)  # [B, 1]
    return _softplus(others - positives).mean()


def prior_discriminator_loss(prior: Tensor, encoded: Tensor) -> Tensor:
    """-E log D(prior) - E log(1 - D(encoded)), a scalar, of the discriminator's logits, any shapes (equation 7).

    >>> prior_discriminator_loss(torch.zeros(4), torch.zeros(2))
    tensor(1.3863)
    """
    return _softplus(-prior).mean() + _softplus(encoded).mean()


def prior_encoder_loss(encoded: Tensor, *, saturates: bool = True) -> Tensor:
    """E log(1 - D(encoded)), a scalar, which the encoder lowers, of the discriminator's logits, any shape (equation 7).

    Its gradient vanishes where the discriminator is sure; -E log D(encoded), with `saturates` false, wants the same and
    does not (Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, section 3).
    """
    return -_softplus(encoded).mean() if saturates else _softplus(-encoded).mean()


def information_bound(loss: Tensor, candidates: int) -> Tensor:
    """Mutual information in nats that an InfoNCE `loss` among N candidates proves, ln N - loss: at most ln N.

    Van den Oord et al. 2018 (https://arxiv.org/abs/1807.03748), section 2.3. It holds in expectation over batches whose
    negatives are independent draws.

    >>> information_bound(torch.tensor(0.0), 1)
    tensor(0.)
    """
    return math.log(candidates) - loss


def global_local_loss(mapped: Tensor, parts: Tensor, offset: int = 0) -> Tensor:
    """ST-DIM's global-local InfoNCE, a scalar, of g_l = φ(x_t)ᵀ W_g φ_l(x_t+1) (Anand et al. 2019, section 3).

    `mapped` [B, E] is W_gᵀ φ(x_t), `parts` [B, L, E] the features of the places one step later. The candidates of a row
    are the same place in all B next observations; pairs across the end of an episode are the caller's to leave out.
    A data-parallel caller passes the `parts` [N, L, E] of all ranks, and as `offset` how many come before its own.
    """
    return _positives_loss(torch.einsum("be,cle->lbc", mapped, parts), offset)


def local_local_loss(mapped: Tensor, parts: Tensor, offset: int = 0) -> Tensor:
    """ST-DIM's local-local InfoNCE, a scalar, of f_l = φ_l(x_t)ᵀ W_l φ_l(x_t+1) (Anand et al. 2019, section 3).

    `mapped` [B, L, E] is W_lᵀ φ_l(x_t), `parts` [B, L, E] the features of the same places one step later; candidates
    and `offset` as of `global_local_loss`.
    """
    return _positives_loss(torch.einsum("ble,cle->lbc", mapped, parts), offset)


def _positives_loss(logits: Tensor, offset: int) -> Tensor:
    """Mean InfoNCE of [L, B, N], whose row b has its positive in column `offset` + b."""
    return info_nce(logits, own_columns(logits[0], offset).expand(logits.shape[:2])).mean()


def _pairs(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of positives [B, L], and of each row's negatives [B, B - 1, L], from [B, B, L]."""
    count, _, places = scores.shape
    positives = scores.diagonal(dim1=0, dim2=1).T
    # After the first entry, the diagonal is the last of each run of B + 1: no mask, and nothing of it leaks.
    runs = scores.reshape(count * count, places)[1:].reshape(count - 1, count + 1, places)
    return positives, runs[:, :-1].reshape(count, count - 1, places)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp x) to full precision; torch's own is x beyond 20, which misses 2e-9."""
    return -F.logsigmoid(-x)
