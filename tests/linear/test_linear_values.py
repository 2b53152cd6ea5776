"""Learners reach known values: returns, fixed points, closed forms, and the algorithms they are equivalent to."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit import registry, seeding
from rlkit.envs.grid_world import CourseGrid
from rlkit.envs.make import make
from rlkit.envs.models import of_vector_env
from rlkit.errors import NonFiniteError
from rlkit.linear import eligibility
from rlkit.linear.expected import problem
from rlkit.mdp import FiniteMDP, Floats64
from rlkit.tabular.planning import optimal_action_values, policy_values
from rlkit.types import Task, Transition

WALK = {"features": "aggregation", "low": (1.0,), "high": (1000.0,), "gamma": 1.0}


@cache
def long_walk() -> tuple[FiniteMDP, Floats64]:
    model = of_vector_env(make("rlkit/RandomWalk1000-v0", 1))[0]
    assert model is not None
    return model, policy_values(model, 1.0, np.ones((1002, 1)))


def walk_error(agent: Any) -> float:
    model, values = long_walk()
    task = problem(model, agent.feature_matrix(), np.ones((1002, 1)), 1.0)
    return task.rmse(agent.linear.weights[0], values)


def advanced(agent: Any, steps: int) -> Any:
    agent.advance(steps, steps)
    return agent


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rate", "expected"), [("gradient-mc", 2e-4, 0.0544), ("linear-td", 2e-3, 0.1167)])
def test_ten_groups_on_the_long_walk_learn_to_the_known_error(name: str, rate: float, expected: float) -> None:
    agent = rlkit.make(
        name, "rlkit/RandomWalk1000-v0", total_steps=5_000_000, learning_rate=rate, learning_rate_schedule="linear",
        **WALK,
    )  # fmt: skip
    assert walk_error(advanced(agent, 5_000_000)) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("order", "expected"), [(1, 0.2228), (2, 0.1935), (3, 0.1251)])
def test_td_learns_to_its_fixed_point_on_the_course_grid(order: int, expected: float) -> None:
    agent = rlkit.make(
        "linear-td", coordinates, total_steps=4_000_000, features="polynomial", order=order, gamma=0.9,
        learning_rate=0.02, learning_rate_schedule="linear",
    )  # fmt: skip
    advanced(agent, 4_000_000)
    model = of_vector_env(make(coordinates, 1))[0]
    assert model is not None
    uniform = np.full((25, 5), 0.2)
    values = policy_values(model, 0.9, uniform)
    assert problem(model, agent.feature_matrix(), uniform, 0.9).rmse(agent.weights[0], values) == pytest.approx(
        expected, abs=0.005
    )


def coordinates() -> CourseGrid:
    return CourseGrid(observation="coordinates")


def random_episodes(seed: int, dimensions: int, episodes: int) -> list[tuple[Floats64, Floats64, bool]]:
    """Observations [T + 1, O], rewards [T], and whether the episode terminated or was cut."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 9, size=episodes)
    return [
        (rng.random((length + 1, dimensions)), np.float64(np.float32(rng.standard_normal(length))), k % 2 == 0)
        for k, length in enumerate(lengths)
    ]  # fmt: skip


def fed(agent: Any, episodes: list[tuple[Floats64, Floats64, bool]], actions: Any = None) -> Any:
    """Let a stepped agent learn from given episodes of one environment."""
    for number, (observations, rewards, terminated) in enumerate(episodes):
        for t, reward in enumerate(rewards):
            last = t == len(rewards) - 1
            action = np.zeros(1, np.int64) if actions is None else actions[number][t : t + 1]
            ends = np.array([last and terminated]), np.array([last and not terminated])
            step = Transition(
                observations[t : t + 1], action, np.array([reward], np.float32), observations[t + 1 : t + 2], *ends
            )
            agent.observe(step, None)
            agent.update()
    return agent


def box_agent(name: str, dimensions: int = 3, num_actions: int = 2, **config: Any) -> Any:
    """An untrained agent on made-up spaces."""
    seeding.seed_global_generators(0)
    kind = registry.agent_class(name)
    space = spaces.Box(0.0, 1.0, (dimensions,), np.float64)
    task = Task(space, spaces.Discrete(num_actions), total_steps=1000)
    return kind(registry.config_class(kind)(**config), task)


def online_lambda_returns(
    episodes: list[tuple[Floats64, Floats64, bool]], alpha: float, gamma: float, lam: float, features: Any
) -> Floats64:
    """The online λ-return algorithm (Sutton and Barto 2018, section 12.4), in O(T²) and with no trace.

    At every step all updates of the episode are made again from its first weights, with the returns known by then.
    """
    weights = np.zeros(features(episodes[0][0][:1]).shape[1])
    for observations, rewards, terminated in episodes:
        x = features(observations)
        first = weights.copy()
        horizon_weights = [first]  # w_h^h, which the returns up to horizon h + 1 bootstrap with
        for h in range(1, len(rewards) + 1):
            w = first.copy()
            for t in range(h):
                target = _truncated_return(t, h, x, rewards, terminated, horizon_weights, gamma, lam)
                w = w + alpha * (target - w @ x[t]) * x[t]
            horizon_weights.append(w)
        weights = horizon_weights[-1]
    return weights


def _truncated_return(
    t: int, h: int, x: Floats64, rewards: Floats64, terminated: bool, weights: list[Floats64], gamma: float, lam: float
) -> float:
    """G_{t:h}^λ, equation 12.9; the n-step return to t + n bootstraps with the weights of horizon t + n - 1."""

    def n_step(n: int) -> float:
        total = sum(gamma**k * rewards[t + k] for k in range(n))
        at_end = t + n == len(rewards) and terminated
        return float(total + (0.0 if at_end else gamma**n * (weights[t + n - 1] @ x[t + n])))

    mixed = sum((1 - lam) * lam ** (n - 1) * n_step(n) for n in range(1, h - t))
    return float(mixed + lam ** (h - t - 1) * n_step(h - t))


@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("kind", [{"features": "raw"}, {"features": "tiles", "num_tilings": 3, "tiles": (2,)}])
def test_true_online_td_is_the_online_lambda_return_algorithm(kind: dict[str, Any], lam: float) -> None:
    episodes = random_episodes(seed=1, dimensions=3, episodes=6)
    agent = box_agent("linear-td-lambda", gamma=0.9, lam=lam, traces="dutch", learning_rate=0.1, **kind)
    active = agent.linear.features.active if kind["features"] == "tiles" else 1

    def features(observations: Floats64) -> Floats64:
        matrix = np.zeros((len(observations), agent.linear.features.size))
        for row, observation in enumerate(observations):
            agent.values(observation[None])
            slots = agent.linear.scratch
            slot = int(np.flatnonzero((slots.observations == observation).all(axis=1))[0])
            matrix[row, slots.indices[slot]] += slots.values[slot]
        return matrix

    expected = online_lambda_returns(episodes, 0.1 / active, 0.9, lam, features)
    fed(agent, episodes)
    assert np.abs(agent.weights[0] - expected).max() < 1e-10
    assert np.abs(expected).max() > 1e-3


def test_true_online_sarsa_is_the_online_lambda_return_algorithm_over_pairs() -> None:
    """With the action's block as features of a pair; the last action's value counts only where the episode was cut."""
    rng = np.random.default_rng(3)
    episodes = [each for each in random_episodes(seed=2, dimensions=2, episodes=8) if each[2]]
    actions = [rng.integers(2, size=len(rewards)) for _, rewards, _ in episodes]
    agent = box_agent("linear-sarsa-lambda", dimensions=2, features="raw", gamma=0.9, lam=0.7, learning_rate=0.1)
    pairs = []
    for (observations, rewards, terminated), taken in zip(episodes, actions, strict=True):
        blocks = np.zeros((len(observations), 4))
        for t, action in enumerate(taken):
            blocks[t, 2 * action : 2 * action + 2] = observations[t]
        pairs.append((blocks, rewards, terminated))
    expected = online_lambda_returns(pairs, 0.1, 0.9, 0.7, lambda x: x)
    fed(agent, episodes, actions)
    assert np.abs(agent.weights.ravel() - expected).max() < 1e-10


def test_an_n_step_return_that_outlasts_the_episode_is_gradient_monte_carlo() -> None:
    episodes = [each for each in random_episodes(seed=5, dimensions=3, episodes=9) if each[2]]
    config = {"features": "raw", "gamma": 0.9, "learning_rate": 0.1}
    first = fed(box_agent("linear-n-step-td", n=100, **config), episodes)
    other = fed(box_agent("gradient-mc", **config), episodes)
    assert first.weights == pytest.approx(other.weights, abs=1e-12)


def test_td_lambda_without_traces_is_td_0() -> None:
    episodes = random_episodes(seed=6, dimensions=3, episodes=6)
    config = {"features": "raw", "gamma": 0.9, "learning_rate": 0.1}
    first = fed(box_agent("linear-td", **config), episodes)
    for traces in ("accumulating", "dutch"):
        other = fed(box_agent("linear-td-lambda", lam=0.0, traces=traces, **config), episodes)
        assert first.weights == pytest.approx(other.weights, abs=1e-12)
    assert first.weights == pytest.approx(
        fed(box_agent("linear-n-step-td", n=1, **config), episodes).weights, abs=1e-12
    )


def test_a_linear_update_by_hand_bootstraps_unless_it_terminated() -> None:
    observations, rewards = np.array([[0.5, 1.0], [1.0, 0.25]]), np.array([2.0])
    for terminated, target in ((False, 2.0 + 0.9 * (1.0 + 0.25)), (True, 2.0)):
        agent = box_agent(
            "linear-td", dimensions=2, features="raw", gamma=0.9, learning_rate=0.1, initial_weights=(1.0, 1.0)
        )
        fed(agent, [(observations, rewards, terminated)])
        assert agent.weights[0] == pytest.approx(np.ones(2) + 0.1 * (target - 1.5) * observations[0])


def test_replacing_traces_become_one_and_can_clear_the_other_actions() -> None:
    """Two steps in one tile: action 0, then action 1; δ is 1 each, λ γ is 0.5."""
    observations, rewards = np.array([[0.1], [0.1], [0.9]]), np.array([1.0, 1.0])
    found = []
    for clear_traces in (False, True):
        agent = box_agent(
            "linear-sarsa-lambda", dimensions=1, features="aggregation", groups=(2,), gamma=0.5, lam=1.0,
            learning_rate=0.5, traces="replacing", clear_traces=clear_traces,
        )  # fmt: skip
        fed(agent, [(observations, rewards, True)], [np.array([0, 1])])
        found.append(agent.weights[:, 0].tolist())
    assert found == [[0.75, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize(
    "options", [{"traces": "accumulating"}, {"traces": "dutch"}, {"traces": "replacing", "clear_traces": True}]
)
def test_listed_traces_and_those_in_order_move_the_weights_alike(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long enough for the common scale to be multiplied out several times."""
    rng, found = np.random.default_rng(0), []
    episodes = [(rng.random((60, 1)), rng.standard_normal(59), bool(ended)) for ended in (1, 0, 1)]
    actions = [rng.integers(2, size=59) for _ in episodes]
    for few in (0, 10_000):
        monkeypatch.setattr(eligibility, "_FEW_WEIGHTS", few)
        agent = box_agent(
            "linear-sarsa-lambda", dimensions=1, features="tiles", num_tilings=4, tiles=(3,), gamma=0.9, lam=0.5,
            learning_rate=0.5, **options,
        )  # fmt: skip
        assert agent.learner.in_order == (few > 0)
        fed(agent, episodes, actions)
        found.append(agent.weights.copy())
    assert np.abs(found[0]).max() > 0.1
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-12)


def test_average_reward_sarsa_by_hand() -> None:
    """δ = R - R̄ + Q(S', A') - Q(S, A): 1, then R̄ = 0.1 and Q = 0.5; the next δ is 1 - 0.1 + 0.5 - 0.5 = 0.9."""
    observations = np.array([[0.1], [0.1], [0.1], [0.1]])
    agent = box_agent(
        "differential-sarsa", dimensions=1, features="aggregation", groups=(1,), learning_rate=0.5,
        average_learning_rate=0.1,
    )  # fmt: skip
    fed(agent, [(observations, np.array([1.0, 1.0, 1.0]), False)], [np.zeros(3, np.int64)])
    # the third is cut: its expected value is that of an ε-greedy policy, (1 - ε/2) Q(0) + ε/2 Q(1)
    value, average = 0.5, 0.1
    for step in range(2):
        following = value if step == 0 else 0.95 * value
        error = 1.0 - average + following - value
        value, average = value + 0.5 * error, average + 0.1 * error
    assert agent.weights[0, 0] == pytest.approx(value)
    assert agent.learner.average[0] == pytest.approx(average)


@pytest.mark.parametrize("lam", [0.0, 0.8])
def test_lstd_is_the_closed_form_of_its_experience(lam: float) -> None:
    episodes = random_episodes(seed=9, dimensions=4, episodes=40)
    agent = fed(box_agent("lstd", dimensions=4, features="raw", gamma=0.9, lam=lam, ridge=1e-12), episodes)
    matrix, vector = np.zeros((4, 4)), np.zeros(4)
    for x, rewards, terminated in episodes:
        trace = np.zeros(4)
        for t, reward in enumerate(rewards):
            trace = 0.9 * lam * trace + x[t]
            goes_on = not (terminated and t == len(rewards) - 1)
            matrix += np.outer(trace, x[t] - 0.9 * goes_on * x[t + 1])
            vector += trace * reward
    assert np.abs(agent.weights[0] - np.linalg.solve(matrix, vector)).max() < 1e-8


def test_lstd_with_exact_frequencies_is_the_fixed_point_of_the_model() -> None:
    """Every pair of the course grid once, from every state: the uniform policy's frequencies, its states even."""
    model = of_vector_env(make("rlkit/CourseGrid-v0", 1))[0]
    assert model is not None
    agent = rlkit.make(
        "lstd", "rlkit/CourseGrid-v0", engine="step", features="polynomial", order=3, gamma=0.9, ridge=1e-12,
        low=(0.0,), high=(24.0,),
    )  # fmt: skip
    task = problem(model, agent.feature_matrix(), np.full((25, 5), 0.2), 0.9)
    expected = task.fixed_point()
    never = np.zeros(1, np.bool_)
    for pair in range(125):
        outcome = model.first[pair]
        state, reward = np.array([pair // 5]), model.reward[outcome : outcome + 1].astype(np.float32)
        following = model.next_state[outcome : outcome + 1]
        agent.observe(Transition(state, np.array([pair % 5]), reward, following, never, never), None)
        agent.update()
    assert np.abs(agent.weights[0] - expected).max() < 1e-8


@pytest.mark.slow
def test_lspi_finds_the_shortest_way_from_random_samples() -> None:
    agent = rlkit.make(
        "lspi", "rlkit/CourseGrid-v0", total_steps=3_000, features="one-hot", gamma=0.9, improve_every=3_000,
        max_iterations=30, ridge=1e-6,
    )  # fmt: skip
    advanced(agent, 3_000)
    model = of_vector_env(make("rlkit/CourseGrid-v0", 1))[0]
    assert model is not None
    chosen = agent.greedy_actions(np.arange(25), np.random.default_rng(0))
    best = optimal_action_values(model, 0.9)
    assert policy_values(model, 0.9, np.eye(5)[chosen]) == pytest.approx(best.max(axis=1), abs=1e-6)
    assert agent.learner.progress[1] < 30
    assert agent.state_values() == pytest.approx(best.max(axis=1), abs=1e-3)


@pytest.mark.parametrize("engine", ["compiled", "step"])
def test_values_that_diverge_end_the_run_by_name(engine: str, tmp_path: Path) -> None:
    """The greedy part of an ε-greedy policy has no action among NaN values."""
    with pytest.raises(NonFiniteError, match="train/largest_weight"):
        rlkit.train(
            "linear-sarsa", "rlkit/MountainCar-v0", total_steps=5_000, run_dir=tmp_path, preset="none", eval_every=0,
            wrap=("time-limit:max_episode_steps=20",),
            agent_config={"engine": engine, "features": "fourier", "learning_rate": 50.0},
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("env", ["CartPole-v1", "MountainCar-v0"])
@pytest.mark.parametrize("name", ["linear-sarsa", "linear-sarsa-lambda", "linear-q-learning", "linear-td", "tdc"])
def test_fourier_features_do_not_diverge_with_the_default_step_size(name: str, env: str, tmp_path: Path) -> None:
    """1296 features in CartPole; control learns there, where a random policy reaches 22."""
    result = rlkit.train(
        name, env, total_steps=20_000, run_dir=tmp_path, preset="none", eval_every=0,
        agent_config={"features": "fourier", "order": 5},
    )  # fmt: skip
    weights = result.agent.weights
    assert np.isfinite(weights).all()
    assert 0.0 < np.abs(weights).max() < 100.0
    if env == "CartPole-v1" and len(weights) > 1:
        assert result.final_return is not None
        assert result.final_return > 100.0
