"""Zhao (2025), chapter 8: linear function approximation on the course grid, from coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlkit.agents.linear_control import LinearQLearning, LinearSarsa
from rlkit.agents.linear_prediction import LinearTD
from rlkit.linear.expected import Problem, problem
from rlkit.mdp import FiniteMDP
from rlkit.tabular.planning import optimal_action_values, policy_values
from rlkit.tabular.seeds import run_seeds
from rlkit.types import Task
from textbook_figures.course_grid import (
    GAMMA,
    SIDE,
    TARGET_STATE,
    course_task,
    first_greedy,
    outcome_of,
    show,
    softened,
)
from textbook_figures.course_td import LIMIT, PATH_FINDING
from textbook_figures.figure import Floats, Result, Scale, band, between, figure, near, tidy

EPISODES, LENGTH, RATE = 500, 500, 0.0005
POLYNOMIALS = {1: (3, 0.2228, 0.2215), 2: (6, 0.1935, 0.1919), 3: (10, 0.1251, 0.1246)}
"""Features, RMSE of the TD fixed point, and of the best values, by order (grid_world_course.md)."""
KINDS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "polynomial": ({"features": "polynomial"}, (1, 2, 3)),
    "Fourier": ({"features": "fourier"}, (1, 2, 3)),
}
CONTROL: dict[str, Any] = {"features": "fourier", "order": 5, "gamma": GAMMA, "epsilon": 0.1, "learning_rate": 0.003}
METHODS: dict[str, Any] = {"Sarsa": LinearSarsa, "Q-learning": LinearQLearning}


@figure("course-linear-td", "TD-linear evaluates the uniform policy with polynomial and Fourier features")
def linear_td(scale: Scale) -> Result:
    """500 episodes of 500 steps from random states and actions, α = 0.0005; RMSE of the 25 values by episode.

    After 250,000 such steps the weights have not settled yet where the features are many: beside each fixed point
    stands what expected updates reach in so many steps.
    """
    task = course_task(observation="coordinates", max_episode_steps=LENGTH)
    assert task.model is not None
    uniform = np.full((SIDE * SIDE, 5), 0.2)
    truth, seeds = policy_values(task.model, GAMMA, uniform), scale.runs(20)
    problems, curves = {}, {}
    for kind, (options, orders) in KINDS.items():
        for order in orders:
            config = LinearTD.Config(**options, order=order, gamma=GAMMA, learning_rate=RATE)
            untrained: Any = LinearTD(config, task)
            problems[kind, order] = problem(task.model, untrained.feature_matrix(), uniform, GAMMA)
            curves[kind, order] = _errors(config, task, truth, seeds, scale.threads)
    reached = {key: (found.rmse(_expected(found), truth), runs[:, -1].mean()) for (key, found), runs in
               zip(problems.items(), curves.values(), strict=True)}  # fmt: skip
    checks = []
    for order, (count, fixed, best) in POLYNOMIALS.items():
        found = problems["polynomial", order]
        checks += [
            near(f"{count} polynomial features: RMSE of the fixed point", fixed,
                 found.rmse(found.fixed_point(), truth), 1e-4, "grid_world_course.md"),
            near(f"{count}: RMSE of the best values", best, found.rmse(found.best(truth), truth), 1e-4, "the same"),
        ]  # fmt: skip
    checks += [
        near(f"{kind}, {problems[kind, order].features.shape[1]} features: RMSE after 500 episodes", round(expected, 4),
             measured, 0.02, "expected updates") for (kind, order), (expected, measured) in reached.items()
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.5, 4.0)
        for axes, kind in zip(canvas.subplots(1, 2, sharey=True), KINDS, strict=True):
            for i, order in enumerate(KINDS[kind][1]):
                found = problems[kind, order]
                band(axes, np.arange(EPISODES + 1), curves[kind, order], f"{found.features.shape[1]} features", f"C{i}")
                axes.axhline(found.rmse(found.fixed_point(), truth), color=f"C{i}", linestyle="--", linewidth=0.9)
            axes.set(yscale="log", ylim=(0.07, 4))
            tidy(axes, f"{kind}, {len(seeds)} runs (dashed: fixed points)", "episode", "RMSE of the state values")

    fixed_points = {name: round(found.rmse(found.fixed_point(), truth), 4) for name, found in problems.items()}
    settings = {
        "seeds": len(seeds), "episodes": EPISODES, "steps": LENGTH, "learning_rate": RATE, "gamma": GAMMA,
        "fixed points": {f"{kind} {order}": fixed for (kind, order), fixed in fixed_points.items()},
    }  # fmt: skip
    means = {f"{kind} {order}": np.round(runs.mean(axis=0)[::25], 4).tolist() for (kind, order), runs in curves.items()}
    return Result(checks, draw, settings, {"episode": list(range(0, EPISODES + 1, 25))} | means)


def _errors(config: Any, task: Task, truth: Floats, seeds: range, threads: int) -> Floats:
    """RMSE before and after each episode, [runs, 501]."""
    runs = run_seeds(LinearTD, config, task, seeds, episodes=EPISODES, reference=truth, threads=threads)
    return np.hstack([np.full((len(seeds), 1), np.sqrt(np.mean(truth**2))), runs.errors])


def _expected(task: Problem) -> Floats:
    """Weights after as many expected updates w ← w + α Σ d(s) δ̄(s) x(s)."""
    weights = np.zeros(task.features.shape[1])
    for _ in range(EPISODES * LENGTH):
        weights += RATE * (task.distribution * task.errors(weights)) @ task.features
    return weights


@figure(
    "course-linear-control", "Sarsa and Q-learning with Fourier features find the way from the corner to the target"
)
def linear_control(scale: Scale) -> Result:
    """Fourier features of order 5, ε = 0.1; return and length of 500 episodes of chapter 7's path finding.

    α = 0.003 is ours: with 0.001 the same takes about three times as many episodes.
    """
    task, seeds = course_task(**PATH_FINDING, observation="coordinates"), scale.runs(100)
    model = task.model
    assert model is not None
    optimal = first_greedy(optimal_action_values(model, GAMMA))
    softly = policy_values(model, 1.0, softened(optimal, 0.1))[0]
    runs = {
        name: run_seeds(agent, agent.Config(**CONTROL), task, seeds, episodes=EPISODES, threads=scale.threads)
        for name, agent in METHODS.items()
    }
    greedy = {name: [_greedy(agent) for agent in found.agents] for name, found in runs.items()}
    steps = {name: np.array([_steps(model, policy) for policy in policies]) for name, policies in greedy.items()}
    late = {name: found.returns[:, -100:].mean() for name, found in runs.items()}
    checks = [
        *(between(f"{name}: share of runs whose greedy path reaches the target", 0.8, 1.0, (found < LIMIT).mean(),
                  "figures 8.9 and 8.10 show runs that do") for name, found in steps.items()),
        near("Q-learning: median steps of the greedy path", _steps(model, optimal), np.median(steps["Q-learning"]), 0,
             "the optimal path, which goes around the forbidden cells"),
        near("Q-learning: mean return of the last 100 episodes", softly, late["Q-learning"], 3.0,
             "ε-greedy around the optimum, by linear algebra"),
        *(between(f"{name}: mean return of the last 100 episodes over that of the first 10", 0.0, 0.2,
                  late[name] / found.returns[:, :10].mean(), "figures 8.9 and 8.10") for name, found in runs.items()),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(10.0, 3.6)
        left, middle, right = canvas.subplots(1, 3, width_ratios=(1.3, 1.3, 1))
        for name, found in runs.items():
            band(left, np.arange(1, EPISODES + 1), found.returns, name)
            band(middle, np.arange(1, EPISODES + 1), found.lengths, name)
        left.axhline(softly, color="0.4", linestyle="--", linewidth=1.0, label="ε-greedy around the optimum")
        left.set_ylim(-160, 0)
        middle.set_ylim(0, 100)
        tidy(left, f"return, {len(seeds)} runs", "episode", "")
        tidy(middle, "length", "episode", "", legend=False)
        agent: Any = runs["Q-learning"].agents[0]
        show(right, agent.state_values(), greedy["Q-learning"][0], "Q-learning (seed 0)")

    settings = {"seeds": len(seeds), "episodes": EPISODES, **CONTROL, **PATH_FINDING}
    returns = {name: np.round(found.returns.mean(axis=0)[::25], 2).tolist() for name, found in runs.items()}
    return Result(checks, draw, settings, {"episode": list(range(1, EPISODES + 1, 25))} | returns)


def _greedy(agent: Any) -> Floats:
    """The greedy policy [S, A] of linear action values."""
    return first_greedy(agent.feature_matrix() @ agent.weights.T)


def _steps(model: FiniteMDP, policy: Floats) -> int:
    """Steps from the corner to the target under a deterministic policy; LIMIT if it never gets there."""
    following, _ = outcome_of(model)
    state = 0
    for step in range(LIMIT):
        if state == TARGET_STATE:
            return step
        state = int(following[state, int(policy[state].argmax())])
    return LIMIT
