"""Advantages and returns against sums written out step by step, with ends anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkit.ops import advantages as ops

Array = npt.NDArray[Any]
TOLERANCE = {np.float64: 1e-10, np.float32: 2e-4}


class Rollout(NamedTuple):
    r_t: Array
    v_tm1: Array
    v_t: Array
    terminated: Array
    truncated: Array
    ratio: Array

    def column(self, row: int) -> Rollout:
        return Rollout(*(part[:, row] for part in self))

    def goes_on(self, time: int) -> bool:
        """Whether step `time + 1` belongs to the same episode and rollout."""
        return not (self.terminated[time] or self.truncated[time]) and time + 1 < len(self.r_t)


def rollout(seed: int, steps: int, envs: int, dtype: Any = np.float64) -> Rollout:
    """Random numbers in which values and next values agree wherever an episode goes on."""
    rng = np.random.default_rng(seed)
    reward, value, next_value = rng.standard_normal((3, steps, envs))
    terminated = rng.random((steps, envs)) < 0.2
    truncated = (rng.random((steps, envs)) < 0.2) & ~terminated
    next_value[:-1] = np.where(terminated | truncated, next_value, np.roll(value, -1, 0))[:-1]
    ratio = np.exp(rng.standard_normal((steps, envs)))
    return Rollout(
        reward.astype(dtype), value.astype(dtype), next_value.astype(dtype), terminated, truncated, ratio.astype(dtype)
    )


def td_error(data: Rollout, time: int, gamma: float) -> float:
    bootstrap = 0.0 if data.terminated[time] else gamma * data.v_t[time]
    return float(data.r_t[time] + bootstrap - data.v_tm1[time])


def slow_gae(data: Rollout, gamma: float, lambda_: float) -> Array:
    sums = np.zeros(len(data.r_t))
    for start in range(len(sums)):
        weight = 1.0
        for time in range(start, len(sums)):
            sums[start] += weight * td_error(data, time, gamma)
            weight *= gamma * lambda_
            if not data.goes_on(time):
                break
    return sums


def slow_n_step(data: Rollout, gamma: float, n: int) -> Array:
    sums = np.zeros(len(data.r_t))
    for start in range(len(sums)):
        for steps in range(n):
            time = start + steps
            sums[start] += gamma**steps * data.r_t[time]
            if steps == n - 1 or not data.goes_on(time):
                sums[start] += 0.0 if data.terminated[time] else gamma ** (steps + 1) * data.v_t[time]
                break
    return sums


def slow_lambda_returns(data: Rollout, gamma: float, lambda_: float) -> Array:
    """The mean of n-step returns with weights (1 - lambda) lambda^(n - 1), the rest on the longest (12.3)."""
    total = len(data.r_t)
    n_step = [slow_n_step(data, gamma, n) for n in range(1, total + 1)]
    sums = lambda_ ** (total - 1) * n_step[-1]
    for n in range(1, total):
        sums = sums + (1 - lambda_) * lambda_ ** (n - 1) * n_step[n - 1]
    return sums


def slow_vtrace(data: Rollout, gamma: float, limits: tuple[float, float], lambda_: float) -> tuple[Array, Array]:
    total = len(data.r_t)
    longest_rho, longest_c = limits
    targets, advantages = data.v_tm1.astype(float), np.zeros(total)
    for start in range(total):
        weight = 1.0
        for time in range(start, total):
            targets[start] += weight * min(data.ratio[time], longest_rho) * td_error(data, time, gamma)
            weight *= gamma * lambda_ * min(data.ratio[time], longest_c)
            if not data.goes_on(time):
                break
    for time in range(total):
        following = targets[time + 1] if data.goes_on(time) else data.v_t[time]
        bootstrap = 0.0 if data.terminated[time] else gamma * following
        advantages[time] = min(data.ratio[time], longest_rho) * (data.r_t[time] + bootstrap - data.v_tm1[time])
    return targets, advantages


def by_column(data: Rollout, slow: Callable[[Rollout], Array]) -> Array:
    exact = Rollout(*(part if part.dtype == bool else part.astype(np.float64) for part in data))
    return np.stack([slow(exact.column(row)) for row in range(data.r_t.shape[1])], axis=-1)


seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(1, 12)
fractions = st.floats(0, 1)
dtypes = st.sampled_from([np.float64, np.float32])


@settings(deadline=None, max_examples=60)
@given(seeds, lengths, st.integers(1, 3), fractions, fractions, dtypes)
def test_gae_is_the_sum_of_td_errors(seed, steps, envs, gamma, lambda_, dtype) -> None:
    data = rollout(seed, steps, envs, dtype)
    found = ops.gae(*data[:5], gamma=gamma, lambda_=lambda_)
    assert found.dtype == dtype
    expected = by_column(data, lambda column: slow_gae(column, gamma, lambda_))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[dtype])


@settings(deadline=None, max_examples=60)
@given(seeds, lengths, st.integers(1, 3), fractions, fractions, dtypes)
def test_lambda_returns_are_the_mean_of_n_step_returns(seed, steps, envs, gamma, lambda_, dtype) -> None:
    data = rollout(seed, steps, envs, dtype)
    found = ops.lambda_returns(data.r_t, data.v_t, data.terminated, data.truncated, gamma=gamma, lambda_=lambda_)
    assert found.dtype == dtype
    expected = by_column(data, lambda column: slow_lambda_returns(column, gamma, lambda_))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[dtype])


@settings(deadline=None, max_examples=60)
@given(seeds, lengths, st.integers(1, 3), fractions, st.integers(1, 15), dtypes)
def test_n_step_returns_stop_at_ends(seed, steps, envs, gamma, n, dtype) -> None:
    data = rollout(seed, steps, envs, dtype)
    found = ops.n_step_returns(data.r_t, data.v_t, data.terminated, data.truncated, gamma=gamma, n=n)
    assert found.dtype == dtype
    expected = by_column(data, lambda column: slow_n_step(column, gamma, n))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[dtype])


@settings(deadline=None, max_examples=60)
@given(seeds, lengths, st.integers(1, 3), fractions, st.floats(0.1, 3), st.floats(0.1, 2), fractions)
def test_vtrace_is_its_sum(seed, steps, envs, gamma, longest_rho, longest_c, lambda_) -> None:
    data = rollout(seed, steps, envs)
    found = ops.vtrace(*data, gamma=gamma, lambda_=lambda_, longest_rho=longest_rho, longest_c=longest_c)
    for part in (0, 1):
        expected = by_column(data, lambda c, part=part: slow_vtrace(c, gamma, (longest_rho, longest_c), lambda_)[part])
        np.testing.assert_allclose(found[part], expected, atol=1e-9)


def test_lambda_returns_are_advantages_plus_values() -> None:
    data = rollout(3, 20, 4)
    returns = ops.lambda_returns(data.r_t, data.v_t, data.terminated, data.truncated, gamma=0.9, lambda_=0.7)
    np.testing.assert_allclose(returns, ops.gae(*data[:5], gamma=0.9, lambda_=0.7) + data.v_tm1)


def test_vtrace_on_policy_gives_the_longest_n_step_returns() -> None:
    data = rollout(4, 20, 4)._replace(ratio=np.ones((20, 4)))
    returns = ops.n_step_returns(data.r_t, data.v_t, data.terminated, data.truncated, gamma=0.9, n=20)
    np.testing.assert_allclose(ops.vtrace(*data, gamma=0.9).targets, returns)


@pytest.mark.parametrize(("terminates", "expected"), [(True, [1.5, 1.0, 6.0]), (False, [3.5, 5.0, 6.0])])
def test_truncation_bootstraps_and_termination_does_not(terminates: bool, expected: list[float]) -> None:
    """By hand: rewards of 1, gamma 1/2, next values 8, 8, 10, the episode ends after the second step."""
    end = np.array([[False], [True], [False]])
    ends = (end, end & False) if terminates else (end & False, end)
    reward, value = np.ones((3, 1)), np.array([[0.0], [8.0], [0.0]])
    next_value = np.array([[8.0], [8.0], [10.0]])
    returns = ops.gae(reward, value, next_value, *ends, gamma=0.5, lambda_=1.0) + value
    np.testing.assert_allclose(returns[:, 0], expected)
