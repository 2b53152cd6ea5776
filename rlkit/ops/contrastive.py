"""Losses that tell a positive among other candidates: pairs with a margin, InfoNCE, SimCLR, MoCo, CURL.

B rows of D features, N candidates, K keys of a queue. Where there is a temperature τ the similarity is the cosine, and
the length of features changes nothing. Losses are means over the batch, scalars, but `info_nce` keeps its rows.
A data-parallel caller passes the candidates of all ranks, in their order, and as `offset` how many come before its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def margin_pair_loss(a: Tensor, b: Tensor, similar: Tensor, margin: float = 1.0) -> Tensor:
    """1/(2B) Σ [y d² + (1 - y) max(m - d, 0)²] of distances d = ‖a - b‖, a scalar, for features [B, D].

    Hadsell, Chopra and LeCun 2006 (https://doi.org/10.1109/CVPR.2006.100), equation 4, with the label turned round:
    `similar`, bool [B], is y, one for pairs that belong together, where the paper's Y is one for pairs that do not.
    Where a = b the gradient is zero: no direction leads apart.

    >>> margin_pair_loss(torch.tensor([[3.0], [0.0]]), torch.tensor([[1.0], [0.5]]), torch.tensor([True, False])).item()
    1.0625
    """
    squared = (a - b).square().sum(dim=1)
    apart = squared > 0  # the root has no gradient at zero, so it never sees one
    distance = torch.where(apart, squared, 1.0).sqrt() * apart
    pairs = torch.where(similar, squared, (margin - distance).clamp_min(0.0).square())
    return pairs.sum() / (2 * len(pairs))


def info_nce(logits: Tensor, positive: Tensor | int) -> Tensor:
    """-log softmax of the positive among the N candidates of `logits` [*B, N], [*B].

    Van den Oord et al. 2018 (https://arxiv.org/abs/1807.03748), equation 4. `positive` is its column, int64 [*B], or
    one for all rows. Candidates with a logit of minus infinity do not count.

    >>> info_nce(torch.zeros(1, 4), 2).exp()
    tensor([4.])
    """
    columns = _columns(logits, positive)
    rows = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), columns.reshape(-1), reduction="none")
    return rows.view(columns.shape)


def contrastive_accuracy(logits: Tensor, positive: Tensor | int) -> Tensor:
    """One where the positive has the largest logit, zero where another has, [*B]; arguments as of `info_nce`.

    Among n that share the largest it is 1/n, so that features which are all alike are right 1/N of the time.

    >>> contrastive_accuracy(torch.tensor([[2.0, 1.0], [0.0, 0.0], [1.0, 2.0]]), 0)
    tensor([1.0000, 0.5000, 0.0000])
    """
    of_positive = logits.gather(-1, _columns(logits, positive).unsqueeze(-1))
    beaten = (logits > of_positive).any(dim=-1)
    ties = (logits == of_positive).sum(dim=-1).to(logits.dtype)
    return torch.where(beaten, 0.0, ties.reciprocal())


def own_columns(logits: Tensor, offset: int = 0) -> Tensor:
    """Columns of the positives, int64 [B], where row b of `logits` [B, N] belongs to the candidate `offset` + b."""
    return torch.arange(offset, offset + len(logits), device=logits.device)


def cosine_logits(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """cos(a, b) / τ of all pairs of `a` [B, D] and `b` [N, D], [B, N]. Features of zero are at a right angle to all."""
    return F.normalize(a, dim=1) / temperature @ F.normalize(b, dim=1).T


def nt_xent(z: Tensor, temperature: float, candidates: Tensor | None = None, offset: int = 0) -> Tensor:
    """SimCLR's loss of two views `z` [2, B, D], the mean over 2B anchors, a scalar.

    Chen et al. 2020 (https://arxiv.org/abs/2002.05709), equation 1 and algorithm 1: each anchor tells the other view of
    its picture among all but itself. `candidates` [2, N, D] are the views on all ranks, by default `z`; those of `z`
    start at `offset`.
    """
    pool = z if candidates is None else candidates
    logits = cosine_logits(z.flatten(0, 1), pool.flatten(0, 1), temperature)  # [2B, 2N]
    first = torch.arange(offset, offset + z.shape[1], device=z.device)
    second = first + pool.shape[1]
    itself, other = torch.cat([first, second]), torch.cat([second, first])
    return info_nce(logits.scatter(1, itself[:, None], -torch.inf), other).mean()


def momentum_contrast_logits(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """[q·k⁺, q·queue] / τ, [B, 1 + K], of queries and keys [B, D] and older keys [K, D]; the positive is in column 0.

    MoCo: He et al. 2020 (https://arxiv.org/abs/1911.05722), equation 1 and algorithm 1. No gradient reaches the keys.
    Put `key` into the queue (`queue_places`) after this, or each query finds its positive there a second time.
    """
    unit, keys, older = (F.normalize(of, dim=1) for of in (query, key.detach(), queue.detach()))
    positive = (unit * keys).sum(dim=1, keepdim=True)
    return torch.cat([positive, unit @ older.T], dim=1) / temperature


def queue_places(pointer: int, count: int, size: int) -> tuple[Tensor, int]:
    """Rows of a queue of `size` that `count` new keys take from `pointer` on, int64 [count], and the next pointer.

    The oldest keys go first; `count` is at most `size` and need not divide it.

    >>> queue_places(3, 2, 4)
    (tensor([3, 0]), 1)
    """
    return (pointer + torch.arange(count)) % size, (pointer + count) % size


def shuffle_order(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random order of `count` rows and its inverse, int64 [count] each, on the generator's device.

    MoCo's shuffled batch norm (He et al. 2020, section 3.3): `x[order]` goes through the key encoder in parts, and
    `y[inverse]` has the rows where they were, so that no key shares its batch statistics with its query.
    """
    order = torch.randperm(count, generator=generator, device=generator.device)
    return order, order.argsort()


def symmetric_contrast_loss(
    queries: tuple[Tensor, Tensor], keys: tuple[Tensor, Tensor], temperature: float, offset: int = 0
) -> Tensor:
    """2τ (ctr(q₁, k₂) + ctr(q₂, k₁)), a scalar, of two views' queries [B, D] and keys [N, D].

    MoCo v3: Chen, Xie and He 2021 (https://arxiv.org/abs/2104.02057), algorithm 1; ctr is the mean InfoNCE among the
    keys of the other view. No gradient reaches the keys. Those of this rank start at `offset`.
    """
    (q_1, q_2), (k_1, k_2) = queries, keys
    sides = (cosine_logits(q, k.detach(), temperature) for q, k in ((q_1, k_2), (q_2, k_1)))
    losses = [info_nce(logits, own_columns(logits, offset)).mean() for logits in sides]
    return 2 * temperature * (losses[0] + losses[1])


def bilinear_logits(anchor: Tensor, candidates: Tensor, weight: Tensor) -> Tensor:
    """z_aᵀ W z of anchors [B, D], candidates [N, E] and `weight` [D, E], less each row's largest, [B, N].

    CURL: Laskin, Srinivas and Abbeel 2020 (https://arxiv.org/abs/2004.04136), section 4; also ATC's critic (Stooke et
    al. 2021, https://arxiv.org/abs/2009.08319). Positives are at `own_columns`. Gradients reach the candidates too;
    both papers cut them there.
    """
    logits = anchor @ weight @ candidates.T
    return logits - logits.detach().amax(dim=1, keepdim=True)


def _columns(logits: Tensor, positive: Tensor | int) -> Tensor:
    """`positive` as a column for each row."""
    if isinstance(positive, int):
        return torch.full(logits.shape[:-1], positive, device=logits.device)
    return positive
