"""Equations of tabular learning, each against a number worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlkit.ops import dp, importance, means, policies, schedules, td, traces

VALUES = np.array([1.0, 3.0, 2.0])
HALF = np.array([0.5, 0.25, 0.25])


def test_one_step_targets() -> None:
    assert td.q_learning_target(1.0, 0.5, VALUES) == 2.5
    assert td.q_learning_target(1.0, 0.0, VALUES) == 1.0
    assert td.double_q_target(1.0, 0.5, VALUES, np.array([7.0, 4.0, 9.0])) == 3.0
    assert td.double_q_target(1.0, 0.5, np.array([5.0, 5.0]), np.array([2.0, 8.0])) == 2.0, "the first of equals"
    assert td.expected_target(1.0, 0.5, HALF, VALUES) == 1.875
    assert td.bootstrap_target(1.0, 0.5, 3.0) == 2.5


def test_one_step_of_tree_backup_and_q_sigma() -> None:
    # R=1, γ=.5, V=1.75, π(A')=.25, Q(A')=3, G'=7: 1 + .5 (1.75 + .25 (7 - 3))
    assert td.tree_backup_return(1.0, 0.5, 1.75, 0.25, 3.0, 7.0) == 2.375
    for sigma, expected in ((0.0, 2.375), (1.0, 1 + 0.5 * (2.0 * 4 + 1.75))):
        weight = sigma * 2.0 + (1 - sigma) * 0.25  # ρ = 2
        assert td.q_sigma_return(1.0, 0.5, 1.75, weight, 3.0, 7.0) == expected
    assert td.exploration_bonus(0.1, 25.0) == pytest.approx(0.5)


def test_policies_of_a_table() -> None:
    ties = np.array([2.0, 5.0, 5.0, 1.0])
    assert policies.greedy_action(ties) == 1
    assert policies.greedy_ties(ties) == 2
    assert [policies.nth_greedy_action(ties, nth) for nth in (0, 1)] == [1, 2]
    out = np.empty(4)
    policies.epsilon_greedy_probabilities(ties, 0.2, out)
    assert out == pytest.approx([0.05, 0.45, 0.45, 0.05])
    policies.softmax_probabilities(np.array([1000.0, 1000.0 + math.log(3.0), -math.inf, 0.0]), out)
    assert out == pytest.approx([0.25, 0.75, 0.0, 0.0])
    assert policies.upper_confidence_bound(1.0, 4, 100, 2.0) == pytest.approx(1 + 2 * math.sqrt(math.log(100) / 4))
    assert policies.upper_confidence_bound(1.0, 0, 100, 2.0) == math.inf


@pytest.mark.parametrize(("drawn", "action"), [(0.0, 0), (0.49, 0), (0.5, 1), (0.74, 1), (0.75, 2), (0.999, 2)])
def test_a_uniform_number_draws_an_action(drawn: float, action: int) -> None:
    assert policies.drawn_action(HALF, drawn) == action


def test_rounding_never_draws_an_impossible_action() -> None:
    assert policies.drawn_action(np.array([0.3, 0.3, 0.3, 0.0]), 0.95) == 2


def test_schedules() -> None:
    epsilon = schedules.scheduled_epsilon
    kinds = {name: number for number, name in enumerate(schedules.EXPLORATION_KINDS)}
    assert epsilon(kinds["constant"], 0.3, 0.1, 10.0, 5, 5) == 0.3
    assert [epsilon(kinds["linear"], 1.0, 0.0, 10.0, t, 0) for t in (0, 5, 10, 99)] == [1.0, 0.5, 0.0, 0.0]
    assert [epsilon(kinds["exponential"], 1.0, 0.01, 10.0, t, 0) for t in (0, 5, 10, 99)] == pytest.approx(
        [1.0, 0.1, 0.01, 0.01]
    )
    assert [epsilon(kinds["inverse"], 1.0, 0.1, 10.0, 0, k) for k in (0, 1, 3, 99)] == [1.0, 0.5, 0.25, 0.1]
    step_size = schedules.scheduled_step_size
    kinds = {name: number for number, name in enumerate(schedules.STEP_SIZE_KINDS)}
    assert step_size(kinds["constant"], 0.3, 1.0, 10.0, 7, 3) == 0.3
    assert step_size(kinds["sample-average"], 0.3, 1.0, 10.0, 4, 3) == 0.25
    assert step_size(kinds["robbins-monro"], 0.6, 0.5001, 10.0, 4, 3) == pytest.approx(0.3, rel=1e-3)
    assert [step_size(kinds["linear"], 0.4, 1.0, 10.0, 1, t) for t in (0, 5, 20)] == [0.4, 0.2, 0.0]


def test_means_of_samples() -> None:
    samples = np.array([4.0, 8.0, 3.0])
    mean = 0.0
    for count, sample in enumerate(samples, start=1):
        mean = means.incremental_mean(mean, sample, 1.0 / count)
    assert mean == pytest.approx(5.0)
    assert means.weighted_mean(5.0, 9.0, 1.0, 4.0) == 6.0
    root = means.robbins_monro(lambda w: 2.0 * (w - 3.0), 0.0, [0.25] * 3)
    assert root == pytest.approx([0.0, 1.5, 2.25, 2.625])
    points = np.array([[2.0, 0.0], [4.0, 2.0], [0.0, 4.0], [6.0, 6.0]])
    path = means.sgd_mean(points, np.zeros(2), [1.0, 0.5], batch_size=2)
    assert path == pytest.approx(np.array([[0.0, 0.0], [3.0, 1.0], [3.0, 3.0]]))


def test_importance_sampling() -> None:
    assert importance.importance_ratio(0.6, 0.3) == 2.0
    assert importance.importance_ratio(0.0, 0.0) == 0.0
    assert importance.per_decision_return(1.0, 0.5, 2.0, 4.0) == 6.0


def test_traces() -> None:
    assert traces.accumulating_trace(0.4) == 1.4
    assert traces.replacing_trace(0.4) == 1.0
    assert traces.dutch_trace(0.4, 0.5) == pytest.approx(1.2)


def test_lambda_returns_are_mixtures_of_n_step_returns() -> None:
    rewards, next_values, discount, lam = np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]), 0.5, 0.4
    one = [1 + 0.5 * 10, 2 + 0.5 * 20, 3 + 0.5 * 30]
    two = [1 + 0.5 * 2 + 0.25 * 20, 2 + 0.5 * 3 + 0.25 * 30]
    three = 1 + 0.5 * 2 + 0.25 * 3 + 0.125 * 30
    expected = [0.6 * one[0] + 0.6 * 0.4 * two[0] + 0.16 * three, 0.6 * one[1] + 0.4 * two[1], one[2]]
    assert traces.lambda_returns(rewards, next_values, discount, lam, terminated=False) == pytest.approx(expected)
    ended = traces.lambda_returns(rewards, next_values, discount, 1.0, terminated=True)
    assert ended == pytest.approx([1 + 1 + 0.75, 3.5, 3.0])


def test_an_expected_update_sums_over_outcomes() -> None:
    first, probability = np.array([0, 1, 3]), np.array([1.0, 0.25, 0.75])
    next_state, reward, terminated = np.array([0, 1, 0]), np.array([0.0, 4.0, 8.0]), np.array([False, False, True])
    values = np.array([10.0, 20.0])
    update = dp.action_value(first, probability, next_state, reward, terminated, values, 0.5, 1)
    assert update == 0.25 * (4 + 0.5 * 20) + 0.75 * 8
