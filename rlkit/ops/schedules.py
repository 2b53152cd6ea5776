"""Schedules of exploration and step size by number, so that they compile; the names are beside the numbers.

Below them the schedules of pretraining: between two values along a line or half a cosine, with a warm-up or without.
"""

from __future__ import annotations

import math

EXPLORATION_KINDS = ("constant", "linear", "exponential", "inverse")
"""ε by env steps: constant; linear or exponential to a final value; ε/k in episode k, not below the final value."""
STEP_SIZE_KINDS = ("constant", "sample-average", "robbins-monro", "linear")
"""α: constant; 1/n; α/n^ω with 1/2 < ω ≤ 1; linear to zero over the run. n counts updates of the same entry."""


def scheduled_epsilon(kind: int, initial: float, final: float, horizon: float, step: int, episode: int) -> float:
    """ε at env step `step` (from 0) of episode `episode` (from 0); `horizon` in env steps.

    >>> scheduled_epsilon(1, 1.0, 0.1, 100.0, 50, 0)
    0.55
    """
    if kind == 1:
        return final + (initial - final) * max(1.0 - step / horizon, 0.0)
    if kind == 2:
        return max(initial * (final / initial) ** min(step / horizon, 1.0), final)
    if kind == 3:
        return max(initial / (episode + 1), final)
    return initial


def scheduled_step_size(kind: int, initial: float, exponent: float, horizon: float, visits: int, step: int) -> float:
    """α for the `visits`-th update (from 1) of an entry, at env step `step`.

    Robbins and Monro (1951) ask for Σα = ∞ and Σα² < ∞: 1/n and α/n^ω with 1/2 < ω ≤ 1 keep to it, constants do not.
    """
    if kind == 1:
        return 1.0 / visits
    if kind == 2:
        return initial / visits**exponent
    if kind == 3:
        return initial * max(1.0 - step / horizon, 0.0)
    return initial


def linear_between(initial: float, final: float, horizon: float, step: float) -> float:
    """`initial` at step 0, `final` from step `horizon` on, a line between.

    >>> linear_between(0.04, 0.07, 30, 10)
    0.05
    """
    if step >= horizon:
        return final
    return initial + (final - initial) * max(step, 0.0) / horizon


def cosine_between(initial: float, final: float, horizon: float, step: float) -> float:
    """`initial` at step 0, `final` from step `horizon` on, half a cosine between (Loshchilov and Hutter 2017).

    Their equation 5 without restarts, https://arxiv.org/abs/1608.03983. Both ends are exact.

    >>> round(cosine_between(0.04, 0.4, 100, 50), 9)  # the weight decay of DINO
    0.22
    """
    if step >= horizon:
        return final
    return initial + (final - initial) * 0.5 * (1.0 - math.cos(math.pi * max(step, 0.0) / horizon))


def warmed_up_cosine(initial: float, peak: float, final: float, warm_up: float, horizon: float, step: float) -> float:
    """Linear from `initial` to `peak` at step `warm_up`, then half a cosine to `final` at step `horizon`.

    Learning rates of Grill et al. 2020 (section 3.3) and Caron et al. 2021 (section 3.2). The code of the latter holds
    the peak for two steps, `warm_up` - 1 and `warm_up`; here it is one.

    >>> [warmed_up_cosine(0.0, 1.0, 0.0, 2, 4, step) for step in (0, 1, 2, 4)]
    [0.0, 0.5, 1.0, 0.0]
    """
    if step < warm_up:
        return linear_between(initial, peak, warm_up, step)
    return cosine_between(peak, final, horizon - warm_up, step - warm_up)
