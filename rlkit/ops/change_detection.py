"""Quickest change detection: CUSUM, Shiryaev-Roberts, Shiryaev's posterior and the Bayes-optimal stopping rule.

Observations x_0, x_1, … are independent, of density f_0 before the change time ν and of f_k from x_ν on, for one of K
classes k. Shiryaev's ν is geometric: P(ν = t) = ρ (1 - ρ)^t, so that x_0 is of the new law with probability ρ. Time is
the axis before the classes, or the last one where there are none; leading axes are streams.

Deviations: likelihoods are logarithms, so that nothing underflows; with K classes the posterior has one entry for each
(Shiryaev has one class).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlkit.mdp import Floats64, Integers


def gaussian_log_density(x: Floats64, mean: Floats64, std: float) -> Floats64:
    """Logarithm of N(x; mean, std²) of every x [...] under each of the means [K], [..., K]."""
    z = (np.asarray(x, np.float64)[..., None] - mean) / std
    density: Floats64 = -0.5 * z * z - math.log(std * math.sqrt(2 * math.pi))
    return density


def bernoulli_log_density(x: Floats64, p: Floats64) -> Floats64:
    """Log probability of every x [...], 0 or 1, under each of the probabilities of a 1 `p` [K] in (0, 1), [..., K]."""
    density: Floats64 = np.where(np.asarray(x)[..., None] > 0.5, np.log(p), np.log1p(-np.asarray(p)))
    return density


def cusum(log_ratio: Floats64) -> Floats64:
    """S_t = max(0, S_tm1 + log f_1(x_t) / f_0(x_t)) from S = 0, [..., T], of log likelihood ratios [..., T].

    Page 1954 (https://doi.org/10.1093/biomet/41.1-2.100), his one-sided scheme with log likelihood ratios as scores.

    >>> cusum(np.array([-1.0, 2.0, -0.5, 1.0])).tolist()
    [0.0, 2.0, 1.5, 2.5]
    """
    statistic = np.empty_like(log_ratio, dtype=np.float64)
    s_tm1 = np.zeros(log_ratio.shape[:-1])
    for t in range(log_ratio.shape[-1]):
        s_tm1 = statistic[..., t] = np.maximum(0.0, s_tm1 + log_ratio[..., t])
    return statistic


def log_shiryaev_roberts(log_ratio: Floats64) -> Floats64:
    """Log R_t of R_t = (1 + R_tm1) f_1(x_t) / f_0(x_t) from R = 0, [..., T], of log likelihood ratios [..., T].

    Shiryaev 1963 (https://doi.org/10.1137/1108002), Roberts 1966 (https://doi.org/10.1080/00401706.1966.10490374): the
    limit of Shiryaev's posterior odds over ρ as ρ goes to 0.

    >>> np.exp(log_shiryaev_roberts(np.log([2.0, 3.0]))).round(9).tolist()
    [2.0, 9.0]
    """
    statistic = np.empty_like(log_ratio, dtype=np.float64)
    r_tm1 = np.full(log_ratio.shape[:-1], -np.inf)
    for t in range(log_ratio.shape[-1]):
        r_tm1 = statistic[..., t] = np.logaddexp(0.0, r_tm1) + log_ratio[..., t]
    return statistic


def posterior_step(pi_tm1: Floats64, log_density: Floats64, rho: float, share: Floats64 | None = None) -> Floats64:
    """Probabilities after one observation more, [..., 1 + K]: of no change so far, and of a change to each class.

    Shiryaev 1963 (https://doi.org/10.1137/1108002): what has not changed does so with probability ρ, to class k with
    probability `share` [K] (by default evenly); then Bayes' rule with `log_density` [..., 1 + K] of the observation.

    >>> posterior_step(np.array([1.0, 0.0]), np.log([0.5, 1.0]), 0.2).round(9).tolist()
    [0.666666667, 0.333333333]
    """
    classes = pi_tm1.shape[-1] - 1
    share = np.full(classes, 1.0 / classes) if share is None else share
    same, changed = pi_tm1[..., :1], pi_tm1[..., 1:]
    predicted = np.concatenate([same * (1.0 - rho), changed + same * rho * share], axis=-1)
    joint = predicted * np.exp(log_density - log_density.max(axis=-1, keepdims=True))
    posterior: Floats64 = joint / joint.sum(axis=-1, keepdims=True)
    return posterior


def shiryaev_posterior(
    log_density: Floats64, rho: float, share: Floats64 | None = None, prior: Floats64 | None = None
) -> Floats64:
    """P(no change by t | x_0 … x_t) and P(change by t, to class k | …), [..., T, 1 + K], by `posterior_step`.

    `log_density` [..., T, 1 + K] of the observations under f_0 and each f_k; `prior` [..., 1 + K] is what is believed
    before x_0, by default that nothing has changed.
    """
    posterior = np.empty_like(log_density, dtype=np.float64)
    pi = np.zeros(log_density.shape[:-2] + log_density.shape[-1:]) if prior is None else np.asarray(prior, np.float64)
    if prior is None:
        pi[..., 0] = 1.0
    for t in range(log_density.shape[-2]):
        pi = posterior[..., t, :] = posterior_step(pi, log_density[..., t, :], rho, share)
    return posterior


def alarm_times(statistic: Floats64, threshold: float) -> Integers:
    """First t at which `statistic` [..., T] is at least the threshold, T where it never is, int64 [...].

    >>> alarm_times(np.array([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0]]), 1.0).tolist()
    [1, 3]
    """
    reached = statistic >= threshold
    times: Integers = np.where(reached.any(axis=-1), reached.argmax(axis=-1), statistic.shape[-1])
    return times


def stopping_costs(alarm: Integers, change: Integers, false_alarm_cost: float, delay_cost: float) -> Floats64:
    """c_f where the alarm was before the change, else c_d for each observation since the change, [...].

    Its mean is Shiryaev's Bayes risk c_f P(τ < ν) + c_d E (τ - ν)⁺.

    >>> stopping_costs(np.array([2, 7]), np.array([4, 4]), 1.0, 0.1).round(9).tolist()
    [1.0, 0.3]
    """
    delay = alarm - change
    costs: Floats64 = np.where(delay < 0, false_alarm_cost, delay_cost * delay)
    return costs


def gaussian_cells(means: Floats64, std: float, count: int = 801, reach: float = 8.0) -> Floats64:
    """Probabilities of `count` even cells of the line under each of `means` [K], [K, J]: a midpoint quadrature.

    The cells cover `reach` standard deviations beyond the outer means; each row is normalised.
    """
    means = np.asarray(means, np.float64)
    x = np.linspace(means.min() - reach * std, means.max() + reach * std, count)
    density = np.exp(gaussian_log_density(x, means, std)).T
    cells: Floats64 = density / density.sum(axis=1, keepdims=True)
    return cells


@dataclass(frozen=True, eq=False)
class Stopping:
    """Costs to go by the posterior probability π of a change, each float64 [G], and the rule they imply.

    `belief` is an even grid of [0, 1], `stop` c_f (1 - π), and `wait` c_d π and the expected cost after the next
    observation.
    """

    belief: Floats64
    stop: Floats64
    wait: Floats64

    @cached_property
    def cost(self) -> Floats64:
        """V(π) = min(stop, wait), [G]."""
        return np.minimum(self.stop, self.wait)

    @property
    def start_cost(self) -> float:
        """Expected cost before the first observation, which is waited for."""
        return float(self.wait[0])

    @cached_property
    def threshold(self) -> float:
        """Least π at which stopping costs no more than waiting, between grid points by interpolation.

        V is concave and 0 at π = 1, so that stopping is best from there on (Shiryaev 1963).
        """
        gain = self.stop - self.wait
        last = np.flatnonzero(gain > 0.0)[-1:]
        if not len(last):
            return 0.0
        here = int(last[0])
        part = gain[here] / (gain[here] - gain[here + 1])
        return float(self.belief[here] + part * (self.belief[here + 1] - self.belief[here]))


def optimal_stopping(
    probability: Floats64,
    rho: float,
    false_alarm_cost: float,
    delay_cost: float,
    *,
    points: int = 1001,
    horizon: int | None = None,
) -> Stopping:
    """The Bayes-optimal rule for one class: dynamic programming over the posterior (Shiryaev 1963).

    V(π) = min(c_f (1 - π), c_d π + E V(π')). V is interpolated between `points` of π; it is concave, so that the grid's
    costs are at or below the true ones. Solved exactly on the grid by policy iteration, whose stopping set shrinks from
    everywhere, or, where stopping is forced after `horizon` observations, by so many backups.

    Args:
        probability: of J outcomes of an observation under f_0 and f_1, [2, J]; of a density, those of cells.
        rho: probability of the change before each observation, in (0, 1).
        false_alarm_cost: c_f, positive.
        delay_cost: c_d of each observation from the change until the alarm, positive.
        points: of the grid.
        horizon: most observations, at least 1; None: no limit.
    """
    belief = np.linspace(0.0, 1.0, points)
    stop, toll = false_alarm_cost * (1.0 - belief), delay_cost * belief
    move = _belief_transitions(belief, np.asarray(probability, np.float64), rho)
    if horizon is None:
        return Stopping(belief, stop, _settled(stop, toll, move))
    wait = toll + move @ stop
    for _ in range(horizon - 1):
        wait = toll + move @ np.minimum(stop, wait)
    return Stopping(belief, stop, wait)


def _settled(stop: Floats64, toll: Floats64, move: Floats64) -> Floats64:
    """Costs of waiting under the best stopping set, [G], from stopping everywhere by policy iteration."""
    values, waits = stop, np.zeros(len(stop), dtype=np.bool_)
    while True:
        wait: Floats64 = toll + move @ values
        better = wait < stop
        if (better <= waits).all():
            return wait
        waits |= better  # it never pays to stop again: costs only fall
        values = stop.copy()
        inside = np.eye(int(waits.sum())) - move[np.ix_(waits, waits)]
        values[waits] = np.linalg.solve(inside, toll[waits] + move[np.ix_(waits, ~waits)] @ stop[~waits])


def _belief_transitions(belief: Floats64, probability: Floats64, rho: float) -> Floats64:
    """Probabilities [G, G] of the next belief, each shared between the two grid points around it."""
    points = len(belief)
    predicted = belief + (1.0 - belief) * rho
    changed = predicted[:, None] * probability[1]
    mass = changed + (1.0 - predicted)[:, None] * probability[0]  # [G, J]
    place = np.divide(changed, mass, out=np.zeros_like(mass), where=mass > 0.0) * (points - 1)
    below = np.minimum(place.astype(np.int64), points - 2)
    part = place - below
    cell = below + points * np.arange(points)[:, None]
    transitions = np.zeros(points * points)
    for cells, weights in ((cell, mass * (1.0 - part)), (cell + 1, mass * part)):
        transitions += np.bincount(cells.ravel(), weights.ravel(), points * points)
    return transitions.reshape(points, points)
