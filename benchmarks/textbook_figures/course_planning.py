"""Zhao (2025), chapters 2 to 5, with the model: value tables, ε-greedy policies, the orders of convergence."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlkit.agents.dynamic_programming import PolicyEvaluation, PolicyIteration, TruncatedPolicyIteration, ValueIteration
from rlkit.mdp import FiniteMDP
from rlkit.tabular.planning import action_values, greedy_probabilities, optimal_action_values, policy_values
from rlkit.types import Progress, Task
from textbook_figures.course_grid import (
    GAMMA,
    TARGET_STATE,
    course_model,
    course_task,
    first_greedy,
    outcome_of,
    show,
    softened,
)
from textbook_figures.figure import Floats, Result, Scale, between, figure, near, tidy

SOURCE = "grid_world_course.md"
UNIFORM = """-3.85 -3.81 -3.64 -3.12 -3.24 / -3.79 -3.85 -3.80 -3.11 -2.92 / -3.57 -3.90 -3.38 -3.19 -2.94 /
    -3.90 -3.62 -3.40 -2.90 -3.24 / -4.46 -4.16 -3.39 -3.36 -3.45"""
OPTIMAL = """5.83 5.58 6.20 6.48 5.83 / 6.48 7.20 8.00 7.20 6.48 / 7.20 8.00 10.00 8.00 7.20 /
    8.00 10.00 10.00 10.00 8.00 / 7.20 9.00 10.00 9.00 8.10"""
OPTIMAL_COSTLY = """3.49 3.87 4.30 4.78 5.31 / 3.14 3.49 4.78 5.31 5.90 / 2.82 2.54 10.00 5.90 6.56 /
    2.54 10.00 10.00 10.00 7.29 / 2.29 9.00 10.00 9.00 8.10"""
CONSISTENT = {
    0.1: (0.43, 0.53, 0.87, 1.26, 1.45),
    0.2: (-2.20, -2.37, -2.08, -1.70, -1.83),
    0.5: (-7.93, -8.91, -8.38, -7.15, -7.69),
}
"""First row of the ε-greedy policy that agrees with the optimum, r_forbidden = -10."""
BEST_HALF = (-4.28, -5.49, -4.50, -2.59, -2.32)
TRUNCATED = (1, 5, 9, 56)
"""Evaluation sweeps of truncated policy iteration."""
PRINTED = 0.005 + 1e-9
"""What rounding to two decimals allows."""


@figure("course-values", "State values of the uniform and of the optimal policy on the course grid")
def values(scale: Scale) -> Result:
    """Policy evaluation and value iteration against the printed tables."""
    costly = course_task(reward_forbidden=-10.0)
    tables = [
        ("uniform policy, r_forbidden = -1", UNIFORM, _planned(PolicyEvaluation, course_task())),
        ("optimal policy, r_forbidden = -1", OPTIMAL, _planned(ValueIteration, course_task())),
        ("optimal policy, r_forbidden = -10", OPTIMAL_COSTLY, _planned(ValueIteration, costly)),
    ]
    policies = [None, *(_optimal(course_model(reward_forbidden=cost)) for cost in (-1.0, -10.0))]

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.0, 3.4)
        for axes, (title, _, found), policy in zip(canvas.subplots(1, 3), tables, policies, strict=True):
            show(axes, found, policy, title, form="{:.2f}")

    checks = [
        between(f"largest difference, {title}", 0.0, PRINTED, abs(found - _table(text)).max(), SOURCE)
        for title, text, found in tables
    ]
    return Result(
        checks,
        draw,
        {"seeds": "none, planning", "gamma": GAMMA},
        {title: np.round(found, 4).tolist() for title, _, found in tables},
    )


@figure("course-epsilon", "ε-greedy policies: consistent with the optimum, and the best of their kind")
def epsilon_policies(scale: Scale) -> Result:
    """Values by linear algebra, the best ε-greedy policies by value iteration over ε-greedy improvement."""
    model = course_model(reward_forbidden=-10.0)
    optimal = first_greedy(optimal_action_values(model, GAMMA))
    consistent = {epsilon: policy_values(model, GAMMA, softened(optimal, epsilon)) for epsilon in CONSISTENT}
    best = {epsilon: best_epsilon_greedy(model, epsilon) for epsilon in CONSISTENT}
    policies = {epsilon: first_greedy(action_values(model, GAMMA, best[epsilon])) for epsilon in best}
    astray = _first_epsilon(model, lambda values: not _leads_home(model, values))
    leaves = _first_epsilon(model, lambda values: not _stays(model, values))
    checks = [
        between(
            f"largest difference in the first row, consistent, ε = {epsilon:g}",
            0.0,
            PRINTED,
            abs(consistent[epsilon][:5] - np.array(row)).max(),
            SOURCE,
        )
        for epsilon, row in CONSISTENT.items()
    ]
    checks += [
        near("value of the target, consistent, ε = 0.5", -16.88, consistent[0.5][TARGET_STATE], PRINTED, SOURCE),
        between("largest difference in the first row, best, ε = 0.5", 0, PRINTED, abs(best[0.5][:5] - BEST_HALF).max()),
        near("ε = 0.1: states where the best policy is another", 0, _changed(policies[0.1], optimal), 0),
        between(
            "ε = 0.2: states where the best policy is another", 1, 25, (policies[0.2] != optimal).any(axis=1).sum()
        ),
        between(
            "smallest ε whose best policy leads away from the target", 0.11, 0.2, astray, "not yet 0.1; from 0.2 on"
        ),
    ]

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.0, 6.2)
        rows = canvas.subplots(2, 3)
        for column, epsilon in enumerate(CONSISTENT):
            show(rows[0, column], consistent[epsilon], optimal, f"as the optimum, ε = {epsilon:g}")
            show(rows[1, column], best[epsilon], policies[epsilon], f"best ε-greedy, ε = {epsilon:g}")

    curves = {f"{kind}, ε = {epsilon:g}": np.round(found[epsilon], 4).tolist()
              for kind, found in (("consistent", consistent), ("best", best)) for epsilon in CONSISTENT}  # fmt: skip
    settings = {"seeds": "none, planning", "gamma": GAMMA, "reward_forbidden": -10}
    return Result(checks, draw, settings | {"smallest ε whose best policy moves off the target": leaves}, curves)


@figure("course-iteration", "Value iteration, truncated policy iteration, policy iteration: order of convergence")
def iteration(scale: Scale) -> Result:
    """Distance from v* after every iteration of the agents, all from the values of the uniform policy.

    From the values of any policy none of them is ever behind value iteration. Policy iteration can be behind the
    truncated one, as it is here after 8 steps: values that are not yet exact break ties between actions differently.
    """
    task = course_task(total_steps=1000, reward_forbidden=-10.0)
    assert task.model is not None
    truth = optimal_action_values(task.model, GAMMA, 1e-15).max(axis=1)
    start = policy_values(task.model, GAMMA, np.full((25, 5), 0.2))
    errors = {"value iteration": _errors(ValueIteration, {}, task, start, truth)}
    for sweeps in TRUNCATED:
        options = {"sweeps": sweeps}
        errors[f"truncated, x = {sweeps}"] = _errors(TruncatedPolicyIteration, options, task, start, truth)
    # its first step evaluates the uniform policy, whose values it has already
    errors["policy iteration"] = _errors(PolicyIteration, {}, task, start, truth)[1:]
    shown = {name: np.pad(curve, (0, 300), mode="edge")[:260] for name, curve in errors.items()}
    ordered = np.array(list(shown.values()))
    checks = [
        near("x = 1 is value iteration: largest difference", 0.0, abs(ordered[0] - ordered[1]).max(), 1e-12),
        between("largest amount by which any is behind value iteration", -100, 1e-12,
                (ordered - ordered[0]).max(), "theorem"),
        between("largest amount by which a larger x is behind a smaller one", -100, 1e-12,
                np.diff(ordered[1:-1], axis=0).max(), "order of chapter 4"),
        *(near(f"x = {sweeps}: ratio of late errors, γ^x", GAMMA**sweeps,
               _late_ratio(errors[f"truncated, x = {sweeps}"]), 1e-4, "contraction") for sweeps in TRUNCATED[:3]),
        between("policy iteration: error at its end", 0.0, 1e-12, errors["policy iteration"][-1], "exact"),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.0, 3.9)
        left, right = canvas.subplots(1, 2, sharey=True)
        for name, curve in shown.items():
            if name != "truncated, x = 1":  # the same as value iteration
                sweeps = int(name.rpartition(" ")[2]) if "=" in name else 1
                (line,) = left.semilogy(np.maximum(curve, 1e-12), label=name, linewidth=1.4)
                if name != "policy iteration":
                    cost = sweeps * np.arange(len(curve))
                    right.semilogy(cost, np.maximum(curve, 1e-12), color=line.get_color(), linewidth=1.4)
        left.set(xlim=(0, 60), ylim=(1e-6, 100))
        right.set_xlim(0, 180)
        tidy(left, "by iteration", "iteration k", "greatest |v_k - v*|")
        tidy(right, "by sweep over the states", "sweeps", "", legend=False)

    return Result(
        checks,
        draw,
        {
            "seeds": "none, planning",
            "gamma": GAMMA,
            "reward_forbidden": -10,
            "start": "values of the uniform policy",
            "iterations to 1e-6": {name: int(np.argmax(curve < 1e-6)) for name, curve in errors.items()},
        },
        {name: [float(f"{error:.3g}") for error in curve[:60]] for name, curve in shown.items()},
    )


def best_epsilon_greedy(model: FiniteMDP, epsilon: float) -> Floats:
    """Values of the best policy among the ε-greedy ones, by value iteration over ε-greedy improvement, [S]."""
    values = np.zeros(model.num_states)
    for _ in range(400):  # γ^400 < 1e-18
        pairs = action_values(model, GAMMA, values)
        values = (1.0 - epsilon) * pairs.max(axis=1) + epsilon * pairs.mean(axis=1)
    return values


def _changed(policy: Floats, other: Floats) -> int:
    """States with another action."""
    return int((policy != other).any(axis=1).sum())


def _leads_home(model: FiniteMDP, values: Floats) -> bool:
    """Whether the greedy policy of these values comes from the top left to the target."""
    following, _ = outcome_of(model)
    chosen, state = first_greedy(action_values(model, GAMMA, values)).argmax(axis=1), 0
    for _ in range(model.num_states):
        state = int(following[state, chosen[state]])
    return state == TARGET_STATE


def _stays(model: FiniteMDP, values: Floats) -> bool:
    """Whether staying in the target is greedy for these values."""
    return bool(greedy_probabilities(action_values(model, GAMMA, values))[TARGET_STATE, 4] > 0.0)


def _first_epsilon(model: FiniteMDP, holds: Any) -> float:
    """Smallest ε, in steps of 0.01, where `holds(values of the best ε-greedy policy)`; NaN where there is none."""
    for epsilon in np.round(np.arange(0.0, 1.0, 0.01), 2):
        if holds(best_epsilon_greedy(model, float(epsilon))):
            return float(epsilon)
    return float("nan")


def _table(text: str) -> Floats:
    return np.array(text.replace("/", " ").split(), dtype=np.float64)


def _optimal(model: FiniteMDP) -> Floats:
    """The optimal policy [S, A], all best actions."""
    return greedy_probabilities(optimal_action_values(model, GAMMA))


def _planned(agent: Any, task: Task) -> Floats:
    """The values [S] an agent of dynamic programming converges to."""
    planner = agent(agent.Config(gamma=GAMMA), task)
    planner.train_on(task, _no_env, 100_000, lambda progress: True)
    return np.array(planner.state_values())


def _errors(agent: Any, options: dict[str, Any], task: Task, start: Floats, truth: Floats) -> Floats:
    """Greatest distance from `truth` at values `start` and after every iteration."""
    planner = agent(agent.Config(gamma=GAMMA, tolerance=1e-13, **options), task)
    planner.values[:] = start
    errors = [abs(planner.state_values() - truth).max()]

    def note(progress: Progress) -> bool:
        errors.append(abs(planner.state_values() - truth).max())
        return True

    planner.train_on(task, _no_env, 1000, note)
    return np.array(errors)


def _late_ratio(curve: Floats) -> float:
    """Ratio of two errors that follow each other, once the policy is the best but rounding does not yet count."""
    late = int(np.argmax(curve < 1e-6))
    return float(curve[late] / curve[late - 1])


def _no_env() -> Any:
    raise AssertionError("planning needs no environment")
