"""Advantages and returns over a rollout of T steps in N environments, in plain numpy.

Every argument is an array [T, N], time first; results have the dtype of `r_t`. Time suffixes: tm1 is the step acted in,
t the next one. `v_t` is the value of the TRUE next observation, also where the episode ended: `terminated` cuts the
bootstrap, `truncated` keeps it and cuts the trace. The last step is cut like a truncated one.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Reals: TypeAlias = npt.NDArray[np.floating[Any]]
Bools: TypeAlias = npt.NDArray[np.bool_]


class VTrace(NamedTuple):
    """What V-trace gives its learner."""

    targets: Reals  # [T, N] for the values
    advantages: Reals  # [T, N] for the policy gradient


def gae(
    r_t: Reals, v_tm1: Reals, v_t: Reals, terminated: Bools, truncated: Bools, *, gamma: float, lambda_: float
) -> Reals:
    """Generalised advantage estimates [T, N]: sums of TD errors, each (gamma lambda) less than the one before.

    Schulman et al. 2016 (https://arxiv.org/abs/1506.02438), equation 16. `lambda_` 0 gives TD errors, 1 returns minus
    values.

    >>> one, never = np.ones((2, 1)), np.zeros((2, 1), bool)
    >>> gae(one, 0 * one, 2 * one, never, never, gamma=0.5, lambda_=0.5).tolist()
    [[2.5], [2.0]]
    """
    discount = discounts(r_t, terminated, gamma)
    error = r_t + discount * v_t - v_tm1
    return discounted_sums(error, _within_episodes(discount, truncated) * r_t.dtype.type(lambda_))


def lambda_returns(
    r_t: Reals, v_t: Reals, terminated: Bools, truncated: Bools, *, gamma: float, lambda_: float
) -> Reals:
    """λ-returns [T, N]: r + gamma ((1 - lambda) V(s') + lambda G'), Sutton and Barto 2018, equation 12.2, recursively.

    They are `gae` plus the values of the observations acted in.
    """
    discount = discounts(r_t, terminated, gamma)
    trace = _within_episodes(discount, truncated) * r_t.dtype.type(lambda_)
    trace[-1] = 0
    return discounted_sums(r_t + (discount - trace) * v_t, trace)


def n_step_returns(r_t: Reals, v_t: Reals, terminated: Bools, truncated: Bools, *, gamma: float, n: int) -> Reals:
    """Returns [T, N] over at most `n` steps before bootstrapping (Sutton and Barto 2018, equation 7.1).

    Shorter where the episode or the rollout ends. `n` 1 is the TD target.
    """
    discount = discounts(r_t, terminated, gamma)
    one_step = r_t + discount * v_t
    returns = one_step.copy()
    goes_on = ~(terminated | truncated)[:-1]
    for _ in range(min(n, len(r_t)) - 1):
        returns[:-1] = np.where(goes_on, r_t[:-1] + discount[:-1] * returns[1:], one_step[:-1])
    return returns


def vtrace(
    r_t: Reals,
    v_tm1: Reals,
    v_t: Reals,
    terminated: Bools,
    truncated: Bools,
    ratio: Reals,
    *,
    gamma: float,
    lambda_: float = 1.0,
    longest_rho: float = 1.0,
    longest_c: float = 1.0,
) -> VTrace:
    """V-trace targets and advantages (Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, equation 1 and page 5).

    `ratio` is π(a|s) / μ(a|s) of target and behaviour policy; ρ and c are it, cut at `longest_rho` and `longest_c`, and
    `lambda_` shortens the trace (remark 2). With ratios of 1 and all defaults the targets are n-step returns.
    """
    discount = discounts(r_t, terminated, gamma)
    rho = np.minimum(ratio, r_t.dtype.type(longest_rho))
    trace = _within_episodes(discount, truncated) * np.minimum(ratio, r_t.dtype.type(longest_c))
    correction = discounted_sums(rho * (r_t + discount * v_t - v_tm1), trace * r_t.dtype.type(lambda_))
    targets = v_tm1 + correction
    next_targets = v_t.copy()
    np.copyto(next_targets[:-1], targets[1:], where=~truncated[:-1])  # terminated rows have no discount anyway
    return VTrace(targets, rho * (r_t + discount * next_targets - v_tm1))


def discounts(r_t: Reals, terminated: Bools, gamma: float) -> Reals:
    """Discount of what follows each step, [T, N] in the dtype of `r_t`: gamma, or zero where it terminated."""
    return np.where(terminated, r_t.dtype.type(0), r_t.dtype.type(gamma))


def discounted_sums(x: Reals, discount: Reals) -> Reals:
    """Sums y = x + discount · y' over time, backwards from the last step, whose own discount counts for nothing."""
    sums = x.copy()
    for now in range(len(x) - 2, -1, -1):
        sums[now] += discount[now] * sums[now + 1]
    return sums


def _within_episodes(discount: Reals, truncated: Bools) -> Reals:
    """The discount of a trace, which a truncation ends too."""
    return np.where(truncated, discount.dtype.type(0), discount)
