"""Zhao (2025), chapter 7: temporal differences on the course grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rlkit.agents.q_learning import QLearning
from rlkit.agents.sarsa import NStepSarsa, Sarsa
from rlkit.mdp import FiniteMDP
from rlkit.tabular.planning import optimal_action_values, policy_values
from rlkit.tabular.seeds import run_seeds
from rlkit.types import Task
from textbook_figures.course_grid import GAMMA, TARGET_STATE, course_task, first_greedy, outcome_of, show, softened
from textbook_figures.course_planning import SOURCE
from textbook_figures.figure import Floats, Result, Scale, band, between, confidence, figure, near, tidy

PATH_FINDING: dict[str, Any] = {
    "start": "corner",
    "target": "terminal",
    "reward_target": 0.0,
    "reward_forbidden": -10.0,
    "reward_boundary": -10.0,
    "reward_other": -1.0,
}
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Sarsa": (Sarsa, {}),
    "3-step Sarsa": (NStepSarsa, {"n": 3}),
    "Q-learning": (QLearning, {}),
}
LIMIT = 1000
"""Steps of a path after which it goes nowhere."""


@figure("course-path-finding", "Sarsa, n-step Sarsa and Q-learning find the way from the corner to the target")
def path_finding(scale: Scale) -> Result:
    """Return and length of 500 episodes, α = 0.1, ε = 0.1."""
    task = course_task(**PATH_FINDING)
    model = _model(task)
    optimal = first_greedy(optimal_action_values(model, GAMMA))
    shortest, best_return = _walk(model, optimal)
    softly = policy_values(model, 1.0, softened(optimal, 0.1))[0]
    seeds = scale.runs(500, least=20)
    runs = {
        name: run_seeds(agent, agent.Config(gamma=GAMMA, learning_rate=0.1, epsilon=0.1, **options), task, seeds,
                        episodes=500, threads=scale.threads)
        for name, (agent, options) in METHODS.items()
    }  # fmt: skip
    tables = {name: [first_greedy(agent.tables.values[0]) for agent in found.agents] for name, found in runs.items()}
    share = {name: float(np.mean([_walk(model, policy) == (shortest, best_return) for policy in policies]))
             for name, policies in tables.items()}  # fmt: skip
    late = {name: found.returns[:, -100:].mean() for name, found in runs.items()}
    checks = [
        near("steps of the optimal path", 11, shortest, 0, "counted by hand"),
        near("its return", -10, best_return, 0, "counted by hand"),
        near("Q-learning: share of runs whose greedy path is optimal", 1.0, share["Q-learning"], 0.0, "optimal path"),
        near("Q-learning: mean return of the last 100 episodes", softly, late["Q-learning"], 1.0,
             "ε-greedy around the optimum, by linear algebra"),
        *(between(f"{name}: mean return of the last 100 episodes over that of the first 10",
                  0.0, 0.2, late[name] / runs[name].returns[:, :10].mean()) for name in METHODS),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(10.0, 3.6)
        left, middle, right = canvas.subplots(1, 3, width_ratios=(1.3, 1.3, 1))
        for name, found in runs.items():
            band(left, np.arange(1, 501), found.returns, name)
            band(middle, np.arange(1, 501), found.lengths, name)
        left.axhline(softly, color="0.4", linestyle="--", linewidth=1.0, label="ε-greedy around the optimum")
        left.set_ylim(-160, 0)
        middle.set_ylim(0, 100)
        tidy(left, f"return, {len(seeds)} runs", "episode", "")
        tidy(middle, "length", "episode", "", legend=False)
        agent: Any = runs["Q-learning"].agents[0]
        show(right, agent.state_values(), tables["Q-learning"][0], "Q-learning, values and policy (seed 0)")

    settings = {"seeds": len(seeds), "episodes": 500, "learning_rate": 0.1, "epsilon": 0.1, "gamma": GAMMA, "n": 3,
                "share of optimal greedy paths": share} | PATH_FINDING  # fmt: skip
    return Result(checks, draw, settings, _curves({name: found.returns for name, found in runs.items()}))


@figure("course-off-policy", "Q-learning from the experience of other policies: error of the state values by step")
def off_policy(scale: Scale) -> Result:
    """One episode of 100,000 steps of the uniform policy, and of ε-greedy versions of the optimal one."""
    task = course_task()
    best = optimal_action_values(_model(task), GAMMA)
    truth, optimal = best.max(axis=1), first_greedy(best)
    behaviours = {
        "uniform": (np.full((25, 5), 0.2), 0.0),
        "uniform, from q = 10": (np.full((25, 5), 0.2), 10.0),
        "ε = 0.5": (softened(optimal, 0.5), 0.0),
        "ε = 0.1": (softened(optimal, 0.1), 0.0),
    }
    seeds = scale.runs(50)
    steps = np.unique(np.geomspace(10, 100_000, 60).astype(int))
    errors = {
        name: np.array([_errors(task, policy, start, truth, seed, steps) for seed in seeds])
        for name, (policy, start) in behaviours.items()
    }
    last = {name: float(curve[:, -1].mean()) for name, curve in errors.items()}
    guessed = errors["uniform, from q = 10"]
    early = float(guessed[:, np.searchsorted(steps, 10_000)].mean())
    checks = [
        between("uniform: RMS error after 100,000 steps", 0.0, 0.01, last["uniform"], "to zero"),
        between("uniform, from q = 10: RMS error after 10,000 steps", 0.0, 0.1, early, "converged by then"),
        between("ε = 0.5: last error over that of uniform", 2.0, 1e6, last["ε = 0.5"] / last["uniform"], "degrades"),
        between("ε = 0.1: last error over that of ε = 0.5", 2.0, 1e6, last["ε = 0.1"] / last["ε = 0.5"], "degrades"),
    ]

    def draw(canvas: Any) -> None:
        left, right = canvas.subplots(1, 2)
        canvas.set_size_inches(9.0, 3.9)
        for name, curve in errors.items():
            band(left, steps, curve, name)
            mean, half = confidence(curve)
            (line,) = right.semilogy(steps, mean, linewidth=1.4, label=name)
            right.fill_between(steps, np.maximum(mean - half, 1e-6), mean + half, color=line.get_color(), alpha=0.2)
        left.set_ylim(0.0, None)
        right.set_ylim(1e-4, 20)
        tidy(
            left, f"behaviour of the episode, {len(seeds)} runs", "step", "RMS error of the state values", legend=False
        )
        tidy(right, "the same, logarithmic", "step", "")

    settings = {"seeds": len(seeds), "steps": 100_000, "learning_rate": 0.1, "gamma": GAMMA, "reward_forbidden": -1,
                "behaviour": "uniform, or ε-greedy around the optimal policy (first of equal actions)",
                "q = 10": "r_target / (1 - γ), the greatest value there is", "source": SOURCE}  # fmt: skip
    return Result(checks, draw, settings, {"step": steps.tolist()} | _curves(errors))


def _model(task: Task) -> FiniteMDP:
    assert task.model is not None
    return task.model


def _walk(model: FiniteMDP, policy: Floats) -> tuple[int, float]:
    """Length and return of the path that a deterministic policy [S, A] takes from the corner."""
    following, reward = outcome_of(model)
    state, total = 0, 0.0
    for step in range(LIMIT):
        if state == TARGET_STATE:
            return step, total
        action = int(policy[state].argmax())
        total += float(reward[state, action])
        state = int(following[state, action])
    return LIMIT, total


def _errors(task: Task, policy: Floats, start: float, truth: Floats, seed: int, steps: Any) -> Floats:
    """Root mean square error of max_a Q(s, a) after so many steps of the given behaviour, one episode."""
    config = QLearning.Config(gamma=GAMMA, learning_rate=0.1, initial_value=start, behaviour="uniform")
    agent: Any = QLearning(config, replace(task, seed=seed))
    agent.tables.policy[:] = policy
    errors = []
    for count in np.diff(steps, prepend=0):
        agent.advance(int(count), 1)
        errors.append(np.sqrt(np.mean((agent.state_values() - truth) ** 2)))
    return np.array(errors)


def _curves(runs: dict[str, Floats]) -> dict[str, Any]:
    return {name: np.round(curve.mean(axis=0), 4).tolist() for name, curve in runs.items()}
