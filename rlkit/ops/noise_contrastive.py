"""Telling n instances apart by noise-contrastive estimation over a memory bank: InstDisc and CMC.

Wu et al. 2018 (https://arxiv.org/abs/1805.01978); Tian, Krishnan and Isola 2020 (https://arxiv.org/abs/1906.05849). The
bank holds one row of D features for each of n instances, which must keep their number for good; B rows of a batch, K
noise instances each, τ the temperature. All is computed from logarithms, so no temperature overflows.

Deviations from InstDisc, all three as in its authors' code: `uniform_bank` starts from rows whose squared length is 1
in the mean, where the paper says unit vectors; new features are mixed into the bank, where the paper replaces its rows;
the proximal term of section 3.3 is left out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlkit.ops.contrastive import info_nce


def uniform_bank(size: int, width: int, generator: torch.Generator) -> Tensor:
    """First rows of a bank, [n, D], on the generator's device: each number from ±√(3/D), so that E‖v‖² = 1."""
    bound = math.sqrt(3 / width)
    return torch.rand(size, width, generator=generator, device=generator.device).mul_(2 * bound).sub_(bound)


def updated_rows(rows: Tensor, features: Tensor, momentum: float = 0.5) -> Tensor:
    """Rows of the bank [B, D] after their instances have shown `features` [B, D]: m v + (1 - m) f, of length one.

    Features count with length one. Write them with `bank[index] = …` once the loss is computed.

    >>> updated_rows(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]]))
    tensor([[0.7071, 0.7071]])
    """
    return F.normalize(torch.lerp(F.normalize(features.detach(), dim=1), rows, momentum), dim=1)


def drawn_noise(own: Tensor, size: int, count: int, generator: torch.Generator, *, exclude_own: bool = False) -> Tensor:
    """`count` instances for each row of `own` [B], uniformly from all n = `size`, int64 [B, K] on the device of `own`.

    The paper's noise, 1/n for each, draws a row's own instance too. `exclude_own` leaves it out and draws from the
    other n - 1, which matters where n is small; the loss still reckons with 1/n.
    """
    shape, device = (len(own), count), generator.device
    noise = torch.randint(size - exclude_own, shape, generator=generator, device=device).to(own.device)
    return noise + (noise >= own[:, None]) if exclude_own else noise  # those from the own index on move up by one


def bank_logits(features: Tensor, bank: Tensor, index: Tensor, temperature: float) -> Tensor:
    """v_jᵀ f / τ, [B, 1 + K], of unit `features` f [B, D] with rows `index` [B, 1 + K] of the bank [n, D], own first.

    For CMC the bank is that of the other view. No gradient reaches the bank.
    """
    unit = F.normalize(features, dim=1) / temperature
    return torch.bmm(bank.detach()[index], unit[:, :, None]).squeeze(2)


def log_partition(logits: Tensor, size: int) -> Tensor:
    """The constant log Z, a scalar, of Z = n mean exp(v_jᵀ f / τ) over `logits` of noise (Wu et al. 2018, equation 8).

    The paper estimates it once, from the first batches, and keeps it: it belongs into a checkpoint, as a new estimate
    with trained features is another, and with it the loss is another.

    >>> log_partition(torch.zeros(2, 5), 8).exp()
    tensor(8.)
    """
    flat = logits.detach().flatten()
    return flat.logsumexp(dim=0) + (math.log(size) - math.log(len(flat)))


def data_log_odds(logits: Tensor, log_z: Tensor, noise: int, size: int) -> Tensor:
    """Logit, shaped like `logits`, of the probability h = P / (P + K/n) of being data (Wu et al. 2018, equation 6).

    P = exp(logits) / Z; K = `noise` instances are drawn for each of the data, from n = `size`.
    """
    return logits - log_z - (math.log(noise) - math.log(size))


def noise_contrastive_loss(logits: Tensor, log_z: Tensor, size: int) -> Tensor:
    """-log h(own) - Σ log(1 - h(noise)), [B], of `logits` [B, 1 + K] with the own instance first (equation 7).

    >>> noise_contrastive_loss(torch.zeros(1, 2), torch.tensor(4.0).log(), 4)  # P = K/n: 2 ln 2
    tensor([1.3863])
    """
    log_odds = data_log_odds(logits, log_z, logits.shape[1] - 1, size)
    return -F.logsigmoid(log_odds[:, 0]) - F.logsigmoid(-log_odds[:, 1:]).sum(dim=1)


def multiview_noise_contrastive_loss(logits: tuple[Tensor, Tensor], log_z: tuple[Tensor, Tensor], size: int) -> Tensor:
    """CMC's loss of two views, [B]: the sum of both directions (Tian et al. 2020, section 3.2, NCE in its appendix).

    `logits` [B, 1 + K] each are those of view 1 with the bank of view 2 and of view 2 with the bank of view 1
    (`bank_logits`). Each direction has its own constant.
    """
    losses = [noise_contrastive_loss(*side, size) for side in zip(logits, log_z, strict=True)]
    return losses[0] + losses[1]


def instance_softmax_loss(features: Tensor, bank: Tensor, own: Tensor, temperature: float) -> Tensor:
    """-log of the softmax over all n instances, [B], for the own ones [B] (Wu et al. 2018, equations 2 and 3).

    What noise-contrastive estimation approximates; affordable for some ten thousand instances.
    """
    return info_nce(F.normalize(features, dim=1) / temperature @ bank.detach().T, own)
