"""Change detection: statistics by hand, posteriors by summing over change times, the best rule by brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from rlkit.ops.change_detection import (
    Stopping,
    alarm_times,
    bernoulli_log_density,
    cusum,
    gaussian_cells,
    gaussian_log_density,
    log_shiryaev_roberts,
    optimal_stopping,
    posterior_step,
    shiryaev_posterior,
    stopping_costs,
)

RHO, FALSE_ALARM, DELAY = 0.05, 1.0, 0.05
COIN = np.array([[0.7, 0.3], [0.2, 0.8]])
"""Probabilities of 0 and 1 before and after the change."""


def bayes(densities: np.ndarray, rho: float, share: np.ndarray) -> np.ndarray:
    """Posterior of [T, 1 + K] densities after the last one, by summing over every change time and class."""
    steps, classes = len(densities), densities.shape[1] - 1
    joint = np.zeros(classes + 1)
    joint[0] = (1 - rho) ** steps * np.prod(densities[:, 0])
    for change, of in itertools.product(range(steps), range(classes)):
        likelihood = np.prod(densities[:change, 0]) * np.prod(densities[change:, of + 1])
        joint[of + 1] += rho * (1 - rho) ** change * share[of] * likelihood
    return joint / joint.sum()


def test_densities_are_those_of_the_normal_and_of_the_coin() -> None:
    found = np.exp(gaussian_log_density(np.array([[1.0, 3.0]]), np.array([1.0, 2.0]), 2.0))
    peak = 1 / (2 * math.sqrt(2 * math.pi))
    expected = [[[peak, peak * math.exp(-1 / 8)], [peak * math.exp(-1 / 2), peak * math.exp(-1 / 8)]]]
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    coin = np.exp(bernoulli_log_density(np.array([1, 0]), np.array([0.3, 0.8])))
    np.testing.assert_allclose(coin, [[0.3, 0.8], [0.7, 0.2]], rtol=1e-14)


def test_cusum_restarts_at_zero_and_is_the_sum_above_its_least() -> None:
    ratios = np.array([[0.5, -2.0, 1.0, 1.5, -0.5], [-1.0, -1.0, 3.0, -4.0, 0.25]])
    expected = [[0.5, 0.0, 1.0, 2.5, 2.0], [0.0, 0.0, 3.0, 0.0, 0.25]]
    np.testing.assert_array_equal(cusum(ratios), expected)
    long = np.random.default_rng(0).standard_normal((3, 200)) - 0.3
    sums = np.concatenate([np.zeros((3, 1)), long.cumsum(axis=1)], axis=1)
    np.testing.assert_allclose(cusum(long), (sums - np.minimum.accumulate(sums, axis=1))[:, 1:], atol=1e-12)


def test_shiryaev_roberts_sums_the_likelihood_ratios_of_all_change_times() -> None:
    ratios = np.random.default_rng(1).standard_normal(12)
    expected = [sum(math.exp(ratios[change : t + 1].sum()) for change in range(t + 1)) for t in range(12)]
    np.testing.assert_allclose(np.exp(log_shiryaev_roberts(ratios)), expected, rtol=1e-12)


def test_shiryaev_roberts_does_not_overflow() -> None:
    assert log_shiryaev_roberts(np.full(2000, 1.0))[-1] == pytest.approx(2000 - math.log(1 - math.exp(-1)))


def test_shiryaev_roberts_is_the_limit_of_the_posterior_odds() -> None:
    densities = gaussian_log_density(np.random.default_rng(2).standard_normal(20), np.array([0.0, 1.0]), 1.0)
    posterior = shiryaev_posterior(densities, 1e-9)
    odds = posterior[:, 1] / posterior[:, 0] / 1e-9
    np.testing.assert_allclose(odds, np.exp(log_shiryaev_roberts(densities[:, 1] - densities[:, 0])), rtol=1e-6)


def test_an_alarm_is_the_first_time_at_the_threshold() -> None:
    statistic = np.array([[0.0, 1.0, 0.5, 2.0], [3.0, 0.0, 0.0, 0.0], [0.0, 0.9, 0.0, 0.9]])
    assert alarm_times(statistic, 1.0).tolist() == [1, 0, 4]


def test_a_false_alarm_costs_once_and_a_delay_by_the_observation() -> None:
    costs = stopping_costs(np.array([3, 4, 9]), np.array([4, 4, 4]), 2.0, 0.5)
    assert costs.tolist() == [2.0, 0.0, 2.5]


def test_the_posterior_is_that_of_bayes_rule_over_all_change_times() -> None:
    x, share = np.random.default_rng(3).standard_normal((2, 9)), np.array([0.25, 0.75])
    densities = gaussian_log_density(x, np.array([0.0, 1.0, -2.0]), 1.5)
    posterior = shiryaev_posterior(densities, 0.2, share)
    for stream, t in itertools.product(range(2), range(9)):
        expected = bayes(np.exp(densities[stream, : t + 1]), 0.2, share)
        np.testing.assert_allclose(posterior[stream, t], expected, atol=1e-13)


def test_the_posterior_begins_at_the_prior_and_classes_are_even_by_default() -> None:
    densities = np.log(np.array([[0.5, 0.5, 0.5]]))
    np.testing.assert_allclose(shiryaev_posterior(densities, 0.2), [[0.8, 0.1, 0.1]], atol=1e-15)
    prior = np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(shiryaev_posterior(densities, 0.2, prior=prior), [[0.4, 0.3, 0.3]], atol=1e-15)


def test_the_posterior_survives_densities_that_underflow() -> None:
    found = posterior_step(np.array([0.5, 0.5]), np.array([-5000.0, -5001.0]), 0.5)
    np.testing.assert_allclose(found, np.array([1.0, 3 * math.exp(-1)]) / (1 + 3 * math.exp(-1)), rtol=1e-12)


def test_cells_are_a_quadrature_of_the_normal() -> None:
    cells = gaussian_cells(np.array([0.0, 1.0]), 2.0)
    x = np.linspace(-16.0, 17.0, 801)
    np.testing.assert_allclose(cells.sum(axis=1), 1.0, rtol=1e-13)
    np.testing.assert_allclose(cells @ x, [0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(cells[1] @ (x - 1) ** 2, 4.0, rtol=1e-10)


# The best rule.


def brute_force(horizon: int, seen: tuple[int, ...] = ()) -> float:
    """Least cost to go after the coins `seen` with at most `horizon` in all, over every rule, without a grid."""
    posterior = bayes(COIN.T[list(seen)], RHO, np.ones(1))[1] if seen else 0.0
    stop = FALSE_ALARM * (1 - posterior)
    if len(seen) == horizon:
        return stop
    changed = posterior + (1 - posterior) * RHO
    chance = changed * COIN[1] + (1 - changed) * COIN[0]
    wait = DELAY * posterior + sum(chance[coin] * brute_force(horizon, (*seen, coin)) for coin in (0, 1))
    return wait if not seen else min(stop, wait)


@pytest.mark.parametrize("horizon", [1, 2, 8])
def test_a_short_horizon_costs_what_brute_force_finds(horizon: int) -> None:
    found = optimal_stopping(COIN, RHO, FALSE_ALARM, DELAY, points=801, horizon=horizon).start_cost
    expected = brute_force(horizon)
    assert found <= expected + 1e-12  # interpolation of a concave function lies below it
    assert found == pytest.approx(expected, abs=2e-6)


def test_without_a_horizon_the_cost_is_the_limit_of_long_ones() -> None:
    rules = [optimal_stopping(COIN, RHO, FALSE_ALARM, DELAY, points=201, horizon=n) for n in (400, None)]
    np.testing.assert_allclose(rules[1].cost, rules[0].cost, atol=1e-9)
    backed_up = optimal_stopping(COIN, RHO, FALSE_ALARM, DELAY, points=201, horizon=100).start_cost
    assert rules[1].start_cost < backed_up - 1e-4


def test_where_observations_tell_nothing_the_threshold_is_that_of_one_step_ahead() -> None:
    """Waiting once saves c_f ρ (1 - π) and costs c_d π; both only get worse, so that the first loss is the time."""
    rule = optimal_stopping(np.ones((2, 1)), RHO, FALSE_ALARM, DELAY, points=1001)
    assert rule.threshold == pytest.approx(FALSE_ALARM * RHO / (FALSE_ALARM * RHO + DELAY), abs=1e-3)
    costs = []
    for wait in range(1, 100):  # the best fixed time
        late = sum(1 - (1 - RHO) ** t for t in range(1, wait))
        costs.append(FALSE_ALARM * (1 - RHO) ** wait + DELAY * late)
    assert rule.start_cost == pytest.approx(min(costs), abs=1e-3)


def test_where_observations_tell_all_nothing_is_lost() -> None:
    rule = optimal_stopping(np.eye(2), RHO, FALSE_ALARM, DELAY, points=101)
    assert rule.start_cost == pytest.approx(0.0, abs=1e-12)
    # Waiting costs one delay if there was a change, and then one knows.
    assert rule.threshold == pytest.approx(FALSE_ALARM / (FALSE_ALARM + DELAY), abs=1e-12)


@pytest.fixture(scope="module")
def gaussian() -> Stopping:
    return optimal_stopping(gaussian_cells(np.array([0.0, 1.0]), 1.0, 401), RHO, FALSE_ALARM, DELAY, points=401)


def test_the_cost_is_concave_and_stopping_is_best_from_the_threshold_on(gaussian: Stopping) -> None:
    assert (np.diff(gaussian.cost, 2) <= 1e-12).all()
    assert ((gaussian.stop <= gaussian.wait) == (gaussian.belief >= gaussian.threshold)).all()
    assert gaussian.cost[-1] == 0.0


def test_simulated_streams_cost_what_dynamic_programming_says(gaussian: Stopping) -> None:
    rng, streams = np.random.default_rng(4), 8_000
    change = rng.geometric(RHO, streams) - 1
    x = rng.standard_normal((streams, 160)) + (np.arange(160) >= change[:, None])
    posterior = shiryaev_posterior(gaussian_log_density(x, np.array([0.0, 1.0]), 1.0), RHO)[..., 1]

    def costs(threshold: float) -> np.ndarray:
        return stopping_costs(alarm_times(posterior, threshold), change, FALSE_ALARM, DELAY)

    best = costs(gaussian.threshold)
    assert abs(best.mean() - gaussian.start_cost) < 4 * best.std() / math.sqrt(streams)
    for other in (gaussian.threshold - 0.15, gaussian.threshold + 0.1):
        worse = costs(other) - best
        assert worse.mean() > 3 * worse.std() / math.sqrt(streams)
