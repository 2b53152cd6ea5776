"""Losses of a student that predicts its own slowly moving teacher, or itself, without negative examples.

BYOL (Grill et al. 2020, https://arxiv.org/abs/2006.07733), SimSiam (Chen and He 2021,
https://arxiv.org/abs/2011.10566), SPR (Schwarzer et al. 2021, https://arxiv.org/abs/2007.05929) and DINO (Caron et al.
2021, https://arxiv.org/abs/2104.14294). B pictures or starting steps, D features, K outputs or K steps ahead. No
gradient flows into targets, whatever they were computed with.

What differs from the papers: DINO's loss is averaged over the pairs of views as in its authors' code, where equation 3
sums, so that outputs that tell nothing cost ln K for any number of views. SPR's authors' code averages over the K
steps; here they are summed as in equation 5.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from rlkit.errors import UsageError
from rlkit.ops.schedules import cosine_between, linear_between
from rlkit.ops.view_pairs import cross_entropy_between_views


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """-p · z / (|p| |z|), [...], of predictions and targets [..., D]: -1 where they point the same way, 1 opposite.

    Chen and He 2021, equations 1 and 3. A vector of zeros counts as orthogonal to all.

    >>> negative_cosine(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]))
    tensor(-0.8000)
    """
    return -(normalize(p, dim=-1) * normalize(z.detach(), dim=-1)).sum(dim=-1)


def regression_loss(p: Tensor, z: Tensor) -> Tensor:
    """Squared distance of the unit vectors, 2 - 2 cos, [...], in [0, 4] (Grill et al. 2020, equation 2).

    >>> regression_loss(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 5.0])).item()
    2.0
    """
    return 2.0 + 2.0 * negative_cosine(p, z)


def byol_loss(p: Tensor, z: Tensor) -> Tensor:
    """Each view's prediction against the other view's target, summed over both, a scalar in [0, 8].

    Section 3.1 of Grill et al. 2020. `p` [2, B, D] are the student's predictions, `z` [2, B, D] the teacher's
    projections of the same two views. Vectors that are all the same cost 0, the least: watch `collapse.feature_spread`.
    """
    return regression_loss(p, _swapped(z)).sum(dim=0).mean()


def simsiam_loss(p: Tensor, z: Tensor) -> Tensor:
    """Half of each view's negative cosine with the other, a scalar in [-1, 1] (Chen and He 2021, equation 4).

    `p` [2, B, D] are predictions and `z` [2, B, D] projections of the same two views by the same network. Vectors that
    are all the same cost -1, the least.
    """
    return negative_cosine(p, _swapped(z)).mean()


def spr_loss(y_hat: Tensor, y: Tensor, valid: Tensor) -> Tensor:
    """-Σ_k cos(ŷ_{t+k}, y_{t+k}) over the next K steps, averaged over the batch, a scalar (equation 5).

    Args:
        y_hat: Predictions [B, K, D], from step t alone and the actions since.
        y: The teacher's projections [B, K, D] of what was observed in those steps.
        valid: bool [B, K], which of them count, see `steps_within_episode`; a row without any counts as 0.
    """
    invalid = ~valid[..., None]  # cleared before the cosine, so that what stands there has no gradient, not even NaN
    return negative_cosine(y_hat.masked_fill(invalid, 0.0), y.masked_fill(invalid, 0.0)).sum(dim=1).mean()


def steps_within_episode(ends: Tensor) -> Tensor:
    """Which of the next K steps belong to the episode of the first, bool [B, K].

    `ends` [B, K] tells whether an episode ended between the observations t + k - 1 and t + k of the row: the latter is
    then the first of another episode, and it and all after it are not to be predicted.

    >>> steps_within_episode(torch.tensor([[False, True, False]])).tolist()
    [[True, False, False]]
    """
    return ends.cumsum(dim=1) == 0


def dino_loss(
    student: Tensor, teacher: Tensor, centre: Tensor, *, teacher_temperature: float, student_temperature: float = 0.1
) -> Tensor:
    """Cross-entropy of the centred, sharpened teacher and the student on the other views, a scalar (equation 3).

    Algorithm 1 of Caron et al. 2021. Call `next_centre` after it: the centre in the loss is the one before this batch.

    Args:
        student: Outputs [V, B, K] for all views, those the teacher saw first.
        teacher: Outputs [G, B, K] for the first G views, the two large crops in the paper.
        centre: Running mean [K] of the teacher's outputs; without it one output takes all.
        teacher_temperature: Below the student's; see `warmed_up_temperature`. Where the loss stays at ln K, lower it.
        student_temperature: 0.1 in the paper.

    Raises:
        UsageError: fewer views than the teacher saw, or one view alone.

    >>> loss = dino_loss(torch.zeros(3, 5, 4), torch.ones(2, 5, 4), torch.zeros(4), teacher_temperature=0.04)
    >>> round(loss.item(), 4)  # ln 4
    1.3863
    """
    target = torch.softmax((teacher - centre) / teacher_temperature, dim=-1)
    return cross_entropy_between_views(target, torch.log_softmax(student / student_temperature, dim=-1))


def next_centre(centre: Tensor, mean: Tensor, momentum: float = 0.9) -> Tensor:
    """The centre [K] after a batch: m c + (1 - m) `mean`, the teacher's over views and batch, [K] (equation 4).

    Where the batch is spread over processes, give the mean over all of them.

    >>> next_centre(torch.tensor([1.0]), torch.tensor([3.0]), 0.5).item()
    2.0
    """
    return torch.lerp(centre, mean.detach(), 1.0 - momentum)


def warmed_up_temperature(warm_up: float, step: float, *, initial: float = 0.04, final: float = 0.07) -> float:
    """The teacher's temperature: linear up to step `warm_up`, then constant (Caron et al. 2021, section 3.2).

    At the highest from the start training is unstable. The authors' code arrives one epoch earlier.
    """
    return linear_between(initial, final, warm_up, step)


def teacher_momentum(initial: float, horizon: float, step: float) -> float:
    """1 - (1 - m_0) (cos(π k / K) + 1) / 2: m_0 at step 0, exactly 1 at step K = `horizon`, where the teacher stands.

    Grill et al. 2020, section 3.3: m_0 0.996; 0.99 for 300 epochs and fewer.

    >>> teacher_momentum(0.5, 100, 50), teacher_momentum(0.5, 100, 100)
    (0.75, 1.0)
    """
    return cosine_between(initial, 1.0, horizon, step)


def _swapped(z: Tensor) -> Tensor:
    if len(z) != 2:
        raise UsageError(f"there are {len(z)} views, this loss is of two: stack them as [2, B, D]")
    return z.flip(0)
