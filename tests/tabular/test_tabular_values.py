"""Exact answers: planning to 1e-8 of independent solutions, learning within its confidence interval."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlkit
from rlkit import registry
from rlkit.assembly import build_envs, task_of
from rlkit.config import RunOptions
from rlkit.mdp import FiniteMDP
from rlkit.tabular.planning import greedy_probabilities, optimal_action_values, policy_values
from rlkit.tabular.seeds import run_seeds
from rlkit.types import Progress, Task

PLANNERS = {
    "value-iteration": {},
    "policy-iteration": {},
    "truncated-policy-iteration": {"sweeps": 3},
    "asynchronous-value-iteration": {},
    "prioritized-sweeping": {},
}


@cache
def task_for(env: str, **arguments: Any) -> Task:
    def build() -> gym.Env[Any, Any]:
        import rlkit.envs.registration  # noqa: F401

        return gym.make(env, **arguments)

    options = RunOptions(env=env)
    return task_of(options, build_envs(build, options))


def agent_of(name: str, task: Task, **config: Any) -> Any:
    kind = registry.agent_class(name)
    return kind(registry.config_class(kind)(**config), task)


def planned(name: str, task: Task, gamma: float, **config: Any) -> Any:
    agent = agent_of(name, task, gamma=gamma, tolerance=1e-13, **config)
    agent.train_on(task, lambda: pytest.fail("planning needs no environment"), 1_000_000, lambda progress: True)
    return agent


def optimal_by_dense_policy_iteration(mdp: FiniteMDP, gamma: float) -> Any:
    """Independent of the outcome lists' compiled code: dense matrices and linear algebra."""
    going_on, reward = mdp.transition_matrix(going_on=True), mdp.expected_reward()
    states = np.arange(mdp.num_states)
    actions = reward.argmax(axis=1)
    while True:
        values = np.linalg.solve(np.eye(len(states)) - gamma * going_on[states, actions], reward[states, actions])
        q = reward + gamma * going_on @ values
        better = np.where(q.max(axis=1) > q[states, actions] + 1e-9, q.argmax(axis=1), actions)
        if (better == actions).all():
            return values
        actions = better


@pytest.mark.parametrize("env", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4", "rlkit/CourseGrid-v0"])
@pytest.mark.parametrize("name", PLANNERS)
def test_planning_finds_the_optimal_values(name: str, env: str) -> None:
    task = task_for(env)
    assert task.model is not None
    truth = optimal_by_dense_policy_iteration(task.model, 0.9)
    agent = planned(name, task, 0.9, **PLANNERS[name])
    assert np.abs(agent.values - truth).max() < 1e-8
    greedy = greedy_probabilities(np.eye(task.model.num_actions)[agent.chosen])
    assert np.abs(policy_values(task.model, 0.9, greedy) - truth).max() < 1e-8


def test_the_gambler_without_a_discount() -> None:
    agent = planned("value-iteration", task_for("rlkit/Gambler-v0"), 1.0)
    assert agent.values[[25, 50, 75]] == pytest.approx([0.16, 0.40, 0.64], abs=1e-8)


def test_policy_evaluation_solves_the_bellman_equation() -> None:
    task = task_for("FrozenLake-v1")
    assert task.model is not None
    agent = planned("policy-evaluation", task, 0.95, policy="always-2")
    policy = np.eye(4)[np.full(16, 2)]
    matrix, reward = task.model.transition_matrix(going_on=True), task.model.expected_reward()
    exact = np.linalg.solve(np.eye(16) - 0.95 * np.einsum("sa,sat->st", policy, matrix), (policy * reward).sum(axis=1))
    assert np.abs(agent.values - exact).max() < 1e-8


def test_frozenlake_succeeds_as_often_as_it_can() -> None:
    """0.74419 within the limit of 100 steps, 0.82353 without it, v* = 0.54203 for γ = 0.99 (rl_libraries.md)."""
    mdp = task_for("FrozenLake-v1").model
    assert mdp is not None
    values = np.zeros(16)
    for _ in range(100):  # backward induction: the best policy for the steps that are left
        values = (mdp.expected_reward() + mdp.transition_matrix(going_on=True) @ values).max(axis=1)
    assert values[0] == pytest.approx(0.74419, abs=1e-5)
    policy = greedy_probabilities(optimal_action_values(mdp, 0.9999999))
    assert policy_values(mdp, 1.0, policy)[0] == pytest.approx(0.82353, abs=1e-5)
    assert optimal_action_values(mdp, 0.99)[0].max() == pytest.approx(0.54203, abs=1e-5)


def test_q_learning_comes_near_the_best_on_frozenlake() -> None:
    task = replace(task_for("FrozenLake-v1"), total_steps=2_000_000)
    config = {"learning_rate": 1.0, "learning_rate_schedule": "robbins-monro", "learning_rate_exponent": 0.6,
              "epsilon": 1.0, "epsilon_schedule": "linear", "final_epsilon": 0.1}  # fmt: skip
    agent = agent_of("q-learning", task, **config)
    agent.advance(2_000_000, 2_000_000)
    mean, half = interval(rlkit.evaluate(agent, "FrozenLake-v1", episodes=2_000).returns)
    assert mean == pytest.approx(0.74, abs=half)


def interval(samples: Any) -> tuple[float, float]:
    """Mean and four standard errors."""
    return float(np.mean(samples)), 4.0 * float(np.std(samples, ddof=1)) / len(samples) ** 0.5


def test_blackjack_returns_of_a_fixed_policy() -> None:
    """Gymnasium's rules: -0.35011 for sticking from 20 on (rl_libraries.md, calculated)."""
    runs = run_seeds(
        registry.agent_class("mc-prediction"),
        registry.config_class(registry.agent_class("mc-prediction"))(policy="stick-20", gamma=1.0),
        task_for("Blackjack-v1"), range(4), episodes=250_000,
    )  # fmt: skip
    mean, half = interval(runs.returns.ravel())
    assert half < 0.005
    assert mean == pytest.approx(-0.35011, abs=half)


def test_blackjack_values_of_a_fixed_policy() -> None:
    task = task_for("Blackjack-v1")
    agent = agent_of("mc-prediction", task, policy="stick-20", gamma=1.0)
    agent.advance(10**9, 30_000_000)
    row = (13 * 11 + 2) * 2 + 1  # sum 13, dealer 2, usable ace
    visits = agent.tables.visits[row, 0]
    assert visits > 10_000
    assert agent.tables.values[0, row, 0] == pytest.approx(-0.27720, abs=4.0 / visits**0.5)


def test_monte_carlo_learns_to_play_blackjack() -> None:
    agent = agent_of("monte-carlo", replace(task_for("Blackjack-v1"), total_steps=15_000_000), gamma=1.0, epsilon=0.1)
    agent.advance(15_000_000, 15_000_000)
    result = rlkit.evaluate(agent, "Blackjack-v1", episodes=20_000)
    mean, half = interval(result.returns)
    assert mean == pytest.approx(-0.04311, abs=half + 0.005)  # 0.005: what a nearly greedy table gives away


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("mc-prediction", {}),
        ("mc-prediction", {"visits": "every"}),
        ("td-0", {"learning_rate": 1.0, "learning_rate_schedule": "robbins-monro", "learning_rate_exponent": 0.8}),
        ("n-step-td", {"n": 3, "learning_rate": 1.0, "learning_rate_schedule": "robbins-monro",
                       "learning_rate_exponent": 0.8}),
        *(("td-lambda", {"lam": 0.8, "traces": kind, "learning_rate": 0.5, "learning_rate_schedule": "robbins-monro",
                         "learning_rate_exponent": 0.7}) for kind in ("accumulating", "replacing", "dutch")),
        *(("mc-off-policy-prediction", {"weighting": kind, "behaviour": "uniform", "visits": "every"})
          for kind in ("ordinary", "weighted", "per-decision")),
    ],
)  # fmt: skip
def test_prediction_finds_the_values_of_the_random_walk(name: str, config: dict[str, Any]) -> None:
    """Example 6.2: 1/6 … 5/6. The walk has one action, so off-policy is on-policy here; ratios are tested below."""
    agent = agent_of(name, task_for("rlkit/RandomWalk5-v0"), gamma=1.0, **config)
    agent.advance(10**9, 60_000)
    assert agent.tables.values[0, 1:6, 0] == pytest.approx(np.arange(1, 6) / 6, abs=0.02)


@pytest.mark.parametrize("weighting", ["ordinary", "weighted", "per-decision"])
def test_importance_sampling_learns_about_another_policy(weighting: str) -> None:
    task = task_for("FrozenLake-v1", is_slippery=False)
    assert task.model is not None
    target = 0.5 / 4 + 0.5 * np.eye(4)[np.full(16, 2)]
    exact = policy_values(task.model, 0.9, target)
    agent = agent_of(
        "mc-off-policy-prediction", task, weighting=weighting, gamma=0.9, policy="always-2", visits="every"
    )
    agent.tables.target[:] = target
    agent.advance(10**9, 400_000)
    assert agent.tables.values[0, 14, 0] == pytest.approx(exact[14], abs=0.02)
    assert agent.tables.values[0, 13, 0] == pytest.approx(exact[13], abs=0.02)


CONTROL = {
    "learning_rate": 1.0, "learning_rate_schedule": "robbins-monro", "learning_rate_exponent": 0.6, "epsilon": 0.3,
    "gamma": 0.95,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("q-learning", CONTROL),
        ("q-learning", CONTROL | {"behaviour": "uniform"}),
        ("double-q-learning", CONTROL),
        ("watkins-q-lambda", CONTROL | {"lam": 0.5}),
        ("tree-backup", CONTROL | {"target": "greedy", "n": 2}),
        ("q-sigma", CONTROL | {"target": "greedy", "n": 2, "sigma": 0.0}),
        ("dyna-q", CONTROL | {"planning_steps": 2, "learning_rate_schedule": "constant", "learning_rate": 0.5}),
        ("mc-off-policy", {"epsilon": 0.5, "gamma": 0.95}),
        ("mc-exploring-starts", {"epsilon": 0.0, "gamma": 0.95}),
    ],
)
def test_off_policy_control_finds_the_optimal_values(name: str, config: dict[str, Any]) -> None:
    task = task_for("FrozenLake-v1", is_slippery=False)
    assert task.model is not None
    best = optimal_action_values(task.model, 0.95).max(axis=1)
    agent = agent_of(name, task, **config)
    agent.advance(600_000, 600_000)
    assert agent.tables.values[:, 0].mean(axis=0).max() == pytest.approx(best[0], rel=0.03)
    path = policy_values(task.model, 0.95, np.eye(4)[agent.greedy_actions(np.arange(16), np.random.default_rng(0))])
    assert path[0] == pytest.approx(best[0])


@pytest.mark.parametrize("name", ["sarsa", "expected-sarsa", "n-step-sarsa", "sarsa-lambda", "q-sigma", "tree-backup"])
def test_on_policy_control_values_what_exploring_costs(name: str) -> None:
    """The fixed point on-policy is the best ε-greedy policy's value, below the optimal one."""
    task = task_for("FrozenLake-v1", is_slippery=False)
    assert task.model is not None
    mdp, epsilon = task.model, 0.2
    greedy = greedy_probabilities(optimal_action_values(mdp, 0.95))
    for _ in range(20):  # ε-greedy policy iteration
        soft = (1 - epsilon) * greedy + epsilon / 4
        values = policy_values(mdp, 0.95, soft)
        greedy = greedy_probabilities(mdp.expected_reward() + 0.95 * mdp.transition_matrix(going_on=True) @ values)
    config = CONTROL | {"epsilon": epsilon} | ({"n": 2} if name in ("n-step-sarsa", "q-sigma", "tree-backup") else {})
    agent = agent_of(name, task, **config | ({"lam": 0.5} if name == "sarsa-lambda" else {}))
    agent.advance(3_000_000, 3_000_000)
    q = agent.tables.values[0, 0]
    assert (1 - epsilon) * q.max() + epsilon * q.mean() == pytest.approx(values[0], rel=0.06)
    assert q.max() < optimal_action_values(mdp, 0.95)[0].max() - 0.02


def test_reinforce_finds_the_best_mixture_in_the_short_corridor() -> None:
    """Example 13.1: right with probability 2 - √2 is best, worth -11.6569."""
    agent = agent_of("tabular-reinforce", task_for("rlkit/ShortCorridor-v0"), gamma=1.0, learning_rate=2e-4)
    agent.advance(10**9, 20_000)
    runs = agent.advance(10**9, 5_000)
    h = agent.tables.values[0, 0]
    right = 1.0 / (1.0 + np.exp(h[0] - h[1]))
    assert right == pytest.approx(2 - 2**0.5, abs=0.08)
    assert runs[:, 0].mean() == pytest.approx(-11.66, abs=0.7)


def test_mc_basic_by_episode_length() -> None:
    """grid_world_course.md: at length 14 the bottom left is still 0, at 15 it is 0.23; at 100 values are optimal."""
    task = task_for("rlkit/CourseGrid-v0", reward_forbidden=-10.0, reward_boundary=-1.0)
    assert task.model is not None
    best = optimal_action_values(task.model, 0.9).max(axis=1)
    values = {}
    for length in (14, 15, 100):
        agent = agent_of("mc-basic", task, gamma=0.9, episode_length=length)
        while agent.learner.progress[3] < 15:
            agent.advance(1000, 10**6)
        values[length] = agent.tables.values[0].max(axis=1)
    assert values[14][20] == pytest.approx(0.0, abs=1e-9)
    assert values[15][20] == pytest.approx(0.9**14, abs=1e-6)
    assert np.abs(values[100] - best).max() < 0.01


def test_hooks_of_planning_see_a_step_for_each_sweep() -> None:
    task = task_for("FrozenLake-v1")
    agent, seen = agent_of("value-iteration", task), []

    def hook(progress: Progress) -> bool:
        seen.append(progress.step)
        return progress.step < 7

    agent.train_on(task, lambda: pytest.fail("no environment"), 100, hook)
    assert seen == [1, 2, 3, 4, 5, 6, 7]
