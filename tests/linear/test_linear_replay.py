"""Every learner on random transitions, against the same method in plain NumPy, written from its equations.

Random terminations and truncations, one environment and three, whose rows learn one after another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from gymnasium import spaces

from rlkit import registry
from rlkit.linear import eligibility
from rlkit.linear.features import encode
from rlkit.mdp import Floats64
from rlkit.types import Task, Transition

SIZE, ACTIONS, STEPS = 3, 2, 120
GAMMA, ALPHA, EPSILON = 0.9, 0.05, 0.2
Encode: TypeAlias = Callable[[Floats64], Floats64]


def agent_of(name: str, num_envs: int, **config: Any) -> Any:
    kind = registry.agent_class(name)
    space = spaces.Box(0.0, 1.0, (SIZE,), np.float64)
    task = Task(space, spaces.Discrete(ACTIONS), total_steps=1000, num_envs=num_envs)
    options = {"features": "raw", "gamma": GAMMA, "learning_rate": ALPHA, **config}
    return kind(registry.config_class(kind)(**options), task)


def experience(num_envs: int) -> list[Transition]:
    """Steps that follow each other; an episode ends in about one of six, half of these only cut."""
    rng = np.random.default_rng(num_envs)
    obs, steps = rng.random((num_envs, SIZE)), []
    for _ in range(STEPS):
        terminated, truncated = (drawn := rng.random(num_envs)) < 0.08, drawn > 0.92
        next_obs, first_obs = rng.random((2, num_envs, SIZE))
        reward = rng.standard_normal(num_envs).astype(np.float32)
        steps.append(Transition(obs, rng.integers(ACTIONS, size=num_envs), reward, next_obs, terminated, truncated))
        obs = np.where((terminated | truncated)[:, None], first_obs, next_obs)
    return steps


def replayed(agent: Any, steps: list[Transition]) -> Floats64:
    """The agent's weights [C, F] after learning from `steps`."""
    for step in steps:
        agent.observe(step, None)
        agent.update()
    weights: Floats64 = agent.weights
    return weights


class Row:
    """One environment's part of a transition."""

    def __init__(self, step: Transition, row: int, code: Encode) -> None:
        self.x, self.following = code(step.obs[row]), code(step.next_obs[row])
        self.action, self.reward = int(step.action[row]), float(step.reward[row])
        self.terminated, self.ended = bool(step.terminated[row]), bool(step.ended[row])


def rows(steps: list[Transition], code: Encode = np.asarray) -> list[tuple[int, Row]]:
    return [(row, Row(step, row, code)) for step in steps for row in range(len(step.reward))]


def expected_value(weights: Floats64, x: Floats64) -> float:
    """V(s), or Σ_a π(a | s) Q(s, a) of the ε-greedy policy."""
    values = weights @ x
    return float(values[0] if len(values) == 1 else EPSILON * values.mean() + (1.0 - EPSILON) * values.max())


def tail_of(step: Row, weights: Floats64) -> float:
    """What follows a step, without the next action."""
    return 0.0 if step.terminated else expected_value(weights, step.following)


def one_step(name: str, steps: list[Transition]) -> Floats64:
    weights, average, pending = np.zeros((ACTIONS, SIZE)), 0.0, dict[int, Row]()
    differential, waits = name == "differential-sarsa", name in ("linear-sarsa", "differential-sarsa")

    def move(step: Row, following: float) -> None:
        nonlocal average
        gamma = 1.0 if differential else GAMMA
        error = step.reward - average + gamma * following - weights[step.action] @ step.x
        average += 0.01 * error * differential
        weights[step.action] += ALPHA * error * step.x

    for row, step in rows(steps):
        if row in pending:
            move(pending.pop(row), weights[step.action] @ step.x)
        if waits and not step.ended:
            pending[row] = step
        elif name == "linear-q-learning":
            move(step, 0.0 if step.terminated else float((weights @ step.following).max()))
        else:
            move(step, tail_of(step, weights))
    return weights


def n_step(n: int, columns: int, waits: bool, steps: list[Transition]) -> Floats64:
    weights, kept = np.zeros((columns, SIZE)), dict[int, list[Row]]()

    def move(window: list[Row], following: float) -> None:
        target = sum(GAMMA**i * step.reward for i, step in enumerate(window)) + GAMMA ** len(window) * following
        column = window[0].action if columns > 1 else 0
        weights[column] += ALPHA * (target - weights[column] @ window[0].x) * window[0].x

    for row, step in rows(steps):
        window = kept.setdefault(row, [])
        if waits and len(window) == n:
            move(window, weights[step.action] @ step.x)
            window.pop(0)
        window.append(step)
        if not waits and len(window) == n:
            move(window, tail_of(step, weights))
            window.pop(0)
        while step.ended and window:
            move(window, tail_of(step, weights))
            window.pop(0)
    return weights


def with_traces(
    kind: str, lam: float, shape: tuple[int, int], rate: float, code: Encode, steps: list[Transition]
) -> Floats64:
    """Sarsa(λ) (more than one column) or TD(λ); dutch traces as in equations 12.11 and the box of section 12.7."""
    weights, traces = np.zeros(shape), dict[int, Floats64]()
    old, pending = dict[int, float](), dict[int, Row]()

    def move(row: int, step: Row, following: float) -> None:
        column = step.action if shape[0] > 1 else 0
        own, trace = float(weights[column] @ step.x), GAMMA * lam * traces.get(row, np.zeros(shape))
        error, dutch = step.reward + GAMMA * following - own, kind == "dutch"
        if kind == "replacing":
            trace[column, step.x > 0] = 1.0
        else:
            trace[column] += (1.0 - dutch * rate * (trace[column] @ step.x)) * step.x
        correction = own - old.get(row, 0.0) if dutch else 0.0
        weights[:] += rate * (error + correction) * trace
        weights[column] -= rate * correction * step.x
        traces[row], old[row] = trace, following

    for row, step in rows(steps, code):
        if row in pending:
            move(row, pending.pop(row), float(weights[step.action] @ step.x))
        if shape[0] > 1 and not step.ended:
            pending[row] = step
        else:
            move(row, step, tail_of(step, weights))
        if step.ended:
            traces.pop(row)
            old.pop(row)
    return weights


def monte_carlo(on_truncation: str, steps: list[Transition]) -> Floats64:
    weights, episodes = np.zeros((1, SIZE)), dict[int, list[Row]]()
    for row, step in rows(steps):
        episodes.setdefault(row, []).append(step)
        if not step.ended:
            continue
        episode, is_cut = episodes.pop(row), not step.terminated
        if is_cut and on_truncation == "drop":
            continue
        target = tail_of(step, weights) if on_truncation == "bootstrap" else 0.0
        returns = [target := each.reward + GAMMA * target for each in reversed(episode)][::-1]
        for each, value in zip(episode, returns, strict=True):
            weights[0] += ALPHA * (value - weights[0] @ each.x) * each.x
    return weights


def off_policy(name: str, beta: float, interest: float, steps: list[Transition]) -> Floats64:
    """Target policy (0.3, 0.7), behaviour (0.6, 0.4)."""
    weights, second = np.zeros(SIZE), np.zeros(SIZE)
    before: dict[int, tuple[float, float]] = {}
    for row, step in rows(steps):
        ratio, gamma = (0.3 / 0.6, 0.7 / 0.4)[step.action], 0.0 if step.terminated else GAMMA
        error = step.reward + gamma * weights @ step.following - weights @ step.x
        correction = float(second @ step.x)
        if name == "emphatic-td":
            last_ratio, last_emphasis = before.get(row, (0.0, 0.0))
            emphasis = GAMMA * last_ratio * last_emphasis + interest
            weights += ALPHA * emphasis * ratio * error * step.x
            before[row] = (0.0, 0.0) if step.ended else (ratio, emphasis)
            continue
        if name == "tdc":
            weights += ALPHA * ratio * (error * step.x - gamma * correction * step.following)
        else:
            weights += ALPHA * ratio * correction * (step.x - gamma * step.following)
        second += beta * ratio * (error - correction) * step.x
    return weights[None]


def policy_iteration(iterations: int, ridge: float, steps: list[Transition]) -> Floats64:
    def block(action: int, x: Floats64) -> Floats64:
        return np.kron(np.eye(ACTIONS)[action], x)

    weights = np.zeros((ACTIONS, SIZE))
    for _ in range(iterations):
        matrix, vector = ridge * np.eye(weights.size), np.zeros(weights.size)
        for _, step in rows(steps):
            x, best = block(step.action, step.x), int((weights @ step.following).argmax())
            goes_on = GAMMA * (not step.terminated)
            matrix += np.outer(x, x - goes_on * block(best, step.following))
            vector += step.reward * x
        weights = np.linalg.solve(matrix, vector).reshape(weights.shape)
    return weights


def assert_same(found: Floats64, expected: Floats64, error: float = 1e-10) -> None:
    assert np.abs(expected).max() > 0.01
    assert np.abs(found - expected).max() < error


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("name", ["linear-sarsa", "linear-expected-sarsa", "linear-q-learning", "differential-sarsa"])
def test_one_step_control_is_its_equation(name: str, num_envs: int) -> None:
    steps, gamma = experience(num_envs), 1.0 if name == "differential-sarsa" else GAMMA
    found = replayed(agent_of(name, num_envs, epsilon=EPSILON, gamma=gamma), steps)
    assert_same(found, one_step(name, steps))


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("n", [1, 4])
def test_n_step_methods_are_their_equations(n: int, num_envs: int) -> None:
    steps = experience(num_envs)
    for expected in (False, True):
        agent = agent_of("linear-n-step-sarsa", num_envs, n=n, expected=expected, epsilon=EPSILON)
        assert_same(replayed(agent, steps), n_step(n, ACTIONS, not expected, steps))
    assert_same(replayed(agent_of("linear-n-step-td", num_envs, n=n), steps), n_step(n, 1, False, steps))


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("kind", ["accumulating", "replacing", "dutch"])
@pytest.mark.parametrize("name", ["linear-sarsa-lambda", "linear-td-lambda"])
def test_methods_with_traces_are_their_equations(
    name: str, kind: str, num_envs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tiles in order and by the list; of dense features, which replacing traces are not for."""
    steps = experience(num_envs)
    tiles: dict[str, Any] = {"features": "tiles", "tiles": (2,), "num_tilings": 2}
    more = {"epsilon": EPSILON} if name == "linear-sarsa-lambda" else {}
    for few, options in ((4096, tiles), (0, tiles), *([(0, {})] if kind != "replacing" else [])):
        monkeypatch.setattr(eligibility, "_FEW_WEIGHTS", few)
        agent = agent_of(name, num_envs, traces=kind, lam=0.8, **more, **options)
        assert agent.learner.in_order == (few > 0 or not options)
        rate = ALPHA / 2 if options else ALPHA
        expected = with_traces(kind, 0.8, agent.weights.shape, rate, lambda obs, agent=agent: code(agent, obs), steps)  # type: ignore[misc]
        assert_same(replayed(agent, steps), expected)


def code(agent: Any, observation: Floats64) -> Floats64:
    """The features [F] of an observation."""
    features = agent.linear.features
    indices, values, x = np.arange(features.active), np.ones(features.active), np.zeros(features.size)
    encode(features, np.ascontiguousarray(observation), 0, np.zeros(SIZE), indices, values)
    np.add.at(x, indices, values)
    return x


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("on_truncation", ["bootstrap", "end", "drop"])
def test_gradient_monte_carlo_moves_towards_returns(on_truncation: str, num_envs: int) -> None:
    steps = experience(num_envs)
    found = replayed(agent_of("gradient-mc", num_envs, on_truncation=on_truncation), steps)
    assert_same(found, monte_carlo(on_truncation, steps))


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("name", ["tdc", "gtd2", "emphatic-td"])
def test_off_policy_prediction_is_its_equation(name: str, num_envs: int) -> None:
    steps = experience(num_envs)
    more: dict[str, Any] = {"interest": 0.7} if name == "emphatic-td" else {"second_learning_rate": 0.1}
    found = replayed(agent_of(name, num_envs, policy="0.3,0.7", behaviour="0.6,0.4", **more), steps)
    assert_same(found, off_policy(name, 0.1, 0.7, steps))


@pytest.mark.parametrize("num_envs", [1, 3])
def test_lspi_solves_for_one_greedy_policy_after_another(num_envs: int) -> None:
    steps = experience(num_envs)
    agent = agent_of(
        "lspi", num_envs, learning_rate=None, improve_every=STEPS * num_envs, max_iterations=4, tolerance=0.0, ridge=0.1
    )
    assert_same(replayed(agent, steps), policy_iteration(4, 0.1, steps), 1e-8)
