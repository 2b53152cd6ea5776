"""Zhao (2025), chapter 5: Monte Carlo methods on the course grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rlkit.agents.monte_carlo import MCBasic, MCExploringStarts, MonteCarlo
from rlkit.agents.q_learning import QLearning
from rlkit.mdp import FiniteMDP
from rlkit.tabular.planning import action_values, greedy_probabilities, optimal_action_values, policy_values
from rlkit.tabular.seeds import run_seeds
from rlkit.types import Task
from textbook_figures.course_grid import GAMMA, course_task, first_greedy, heat, show, softened
from textbook_figures.course_planning import PRINTED, SOURCE, best_epsilon_greedy
from textbook_figures.figure import Floats, Result, Scale, band, between, figure, near, tidy

LENGTHS = (1, 14, 15, 30, 100)
FIRST_ROW_30 = (3.06, 3.45, 3.88, 4.36, 4.89)
STEP_SIZES: dict[str, dict[str, Any]] = {
    "mean of all returns": {"learning_rate_schedule": "sample-average"},
    "α = 1/n^0.6": {
        "learning_rate_schedule": "robbins-monro",
        "learning_rate": 1.0,
        "learning_rate_exponent": 0.6,
    },
    "α = 0.1": {"learning_rate_schedule": "constant", "learning_rate": 0.1},
}
MILLION = 1_000_000


@figure("course-mc-basic", "MC Basic by episode length, r_forbidden = -10")
def basic(scale: Scale) -> Result:
    """Iterations until the policy stays the same; nothing is random, so one episode for each pair is enough."""
    task = course_task(reward_forbidden=-10.0)
    model, truth = _model_and_truth(task)
    found = {length: _basic(task, length) for length in LENGTHS}
    values = {length: agent.state_values() for length, agent in found.items()}
    policies = {length: np.eye(5)[agent.learner.chosen] for length, agent in found.items()}
    gaps = {length: abs(policy_values(model, GAMMA, policies[length]) - truth).max() for length in LENGTHS}
    beside = np.zeros(25)
    beside[[12, 16, 17, 18, 22]] = 1.0  # the target and its neighbours
    checks = [
        near("length 1: largest difference from 1 in and beside the target, 0 elsewhere",
             0.0, abs(values[1] - beside).max(), 1e-12, SOURCE),
        near("length 14: value of the bottom left", 0.0, values[14][20], PRINTED, SOURCE),
        near("length 15: value of the bottom left", 0.23, values[15][20], PRINTED, SOURCE),
        between("length 30: largest difference in the first row",
                0.0, PRINTED, abs(values[30][:5] - FIRST_ROW_30).max(), SOURCE),
        near("length 30: loss of its policy", 0.0, gaps[30], 1e-8, SOURCE),
        near("length 100: loss of its policy", 0.0, gaps[100], 1e-8, SOURCE),
        between("length 100: largest distance from v*", 0.0, PRINTED, abs(values[100] - truth).max(), SOURCE),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.0, 6.0)
        panels = canvas.subplots(2, 3).flat
        for axes, length in zip(panels, LENGTHS, strict=False):
            show(axes, values[length], policies[length], f"episodes of {length} steps", form="{:.2f}")
        show(panels[5], truth, greedy_probabilities(action_values(model, GAMMA, truth)), "optimal", form="{:.2f}")

    settings = {"seeds": "none, nothing is random", "gamma": GAMMA, "reward_forbidden": -10,
                "largest loss of the policy": {str(length): float(gap) for length, gap in gaps.items()}}  # fmt: skip
    return Result(checks, draw, settings, {str(n): np.round(table, 4).tolist() for n, table in values.items()})


@figure("course-exploring-starts", "MC with exploring starts: error of the values by episode, three step sizes")
def exploring_starts(scale: Scale) -> Result:
    """Episodes cut after 100 steps, continued with the table's own value (on_truncation = bootstrap)."""
    task = _limited(course_task(reward_forbidden=-10.0), 100)
    model, truth = _model_and_truth(task)
    seeds, episodes = scale.runs(30), 100_000
    at = np.unique(np.geomspace(1, episodes, 60).astype(int)) - 1
    errors, losses = {}, {}
    for name, options in STEP_SIZES.items():
        config = MCExploringStarts.Config(gamma=GAMMA, on_truncation="bootstrap", **options)
        runs = run_seeds(
            MCExploringStarts, config, task, seeds, episodes=episodes, reference=truth, threads=scale.threads
        )
        errors[name] = runs.errors[:, at]
        losses[name] = [_loss(model, truth, agent) for agent in runs.agents]
    optimal = {name: float(np.mean(np.array(losses[name]) < 1e-8)) for name in losses}
    checks = [
        check
        for name in list(STEP_SIZES)[1:]
        for check in (
            near(f"{name}: share of runs that end with an optimal policy", 1.0, optimal[name], 0.0, "optimal policy"),
            between(f"{name}: greatest RMS error of a run at the end", 0.0, PRINTED, errors[name][:, -1].max(), "v*"),
        )
    ]
    falls = errors["mean of all returns"][:, [-1, 0]].mean(axis=0)
    checks.append(between("mean of all returns: last RMS error over the first", 0.0, 0.1, falls[0] / falls[1]))

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for name, curve in errors.items():
            band(axes, at + 1, curve, name)
        axes.set(xscale="log", yscale="log", ylim=(1e-3, 15))
        tidy(axes, f"MC exploring starts, {len(seeds)} runs", "episode", "RMS error of the values")

    settings = {"seeds": len(seeds), "episodes": episodes, "episode_length": 100, "gamma": GAMMA,
                "on_truncation": "bootstrap", "visits": "first", "share of optimal policies": optimal}  # fmt: skip
    return Result(checks, draw, settings, {"episode": (at + 1).tolist()} | _means(errors))


@figure("course-epsilon-greedy-mc", "MC ε-greedy, ε = 0.5: one episode of a million steps in each iteration")
def epsilon_greedy(scale: Scale) -> Result:
    """Loss of the ε-greedy policy after each iteration, every visit, beside exact policy iteration.

    The book says that two iterations suffice. Exact policy iteration from the uniform policy needs three here, and the
    sampled one is held up by pairs that are seen some twenty times in a million steps.
    """
    task = _limited(course_task(), MILLION)
    model, _ = _model_and_truth(task)
    truth = best_epsilon_greedy(model, 0.5)
    best = greedy_probabilities(action_values(model, GAMMA, truth), 1e-6)
    seeds, iterations = scale.runs(20), 6
    exact = _exact_improvements(model, 0.5, iterations)
    fresh = [_sampled_improvements(task, seed, iterations, anew=True) for seed in seeds]
    whole = [_sampled_improvements(task, seed, iterations, anew=False) for seed in seeds]
    losses = {
        "returns of this iteration": np.array([_losses(model, truth, policies) for policies in fresh]),
        "returns of all iterations": np.array([_losses(model, truth, policies) for policies in whole]),
    }
    exact_losses = _losses(model, truth, exact)
    wrong = np.array([[_wrong(policy, best) for policy in policies] for policies in fresh])
    exact_wrong = [_wrong(policy, best) for policy in exact]
    checks = [
        near("exact: states whose action is not the best after two iterations", 0, exact_wrong[1], 0, SOURCE),
        near("exact: the same after three", 0, exact_wrong[2], 0, "linear algebra"),
        near("sampled: the same after two, mean over runs", exact_wrong[1], wrong[:, 1].mean(), 1, "as exact"),
        near("sampled: mean loss after two iterations", exact_losses[1],
             losses["returns of this iteration"][:, 1].mean(), 0.02, "as exact"),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(10.0, 3.6)
        left, middle, right = canvas.subplots(1, 3, width_ratios=(1.3, 1, 1))
        for name, curve in losses.items():
            band(left, range(1, iterations + 1), curve, name)
        left.plot(range(1, iterations + 1), exact_losses, "k--", label="exact policy iteration", linewidth=1.2)
        left.set_ylim(0.0, None)
        tidy(left, f"{len(seeds)} runs", "iteration", "loss of value, mean over states")
        after_two = policy_values(model, GAMMA, softened(fresh[0][1], 0.5))
        show(middle, after_two, fresh[0][1], "after two iterations (seed 0)")
        show(right, truth, best, "best ε-greedy policies")

    settings = {"seeds": len(seeds), "epsilon": 0.5, "gamma": GAMMA, "steps": MILLION, "visits": "every",
                "on_truncation": "end", "wrong states, exact": exact_wrong,
                "wrong states, sampled": np.round(wrong.mean(axis=0), 2).tolist()}  # fmt: skip
    return Result(checks, draw, settings, _means(losses) | {"exact": np.round(exact_losses, 5).tolist()})


@figure("course-visits", "How often a million steps visit each state and action")
def visits(scale: Scale) -> Result:
    """ε = 1 against ε = 0.5 around the best ε-greedy policy, for both rewards of forbidden cells."""
    seeds = scale.runs(20)
    policies = {"ε = 1": np.full((25, 5), 0.2)}
    for cost in (-1.0, -10.0):
        model, _ = _model_and_truth(course_task(reward_forbidden=cost))
        values = best_epsilon_greedy(model, 0.5)
        policies[f"ε = 0.5, r_forbidden = {cost:g}"] = softened(first_greedy(action_values(model, GAMMA, values)), 0.5)
    counts = {name: np.array([_counts(policy, seed) for seed in seeds]) for name, policy in policies.items()}
    even, _, costly = counts.values()
    checks = [
        near("ε = 1: mean of the counts", MILLION / 125, even.mean(), 1e-6, "every step counts once"),
        between("ε = 1: greatest count over smallest", 1.0, 1.2, even.max() / even.min(), "nearly even"),
        *(between(f"{name}: greatest count", 250_000, MILLION, table.mean(axis=0).max(), SOURCE)
          for name, table in list(counts.items())[1:]),
        between("ε = 0.5, r_forbidden = -10: share of pairs below 1000",
                0.5, 1.0, (costly < 1000).mean(), "most in the hundreds or tens"),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        from matplotlib.colors import LogNorm

        canvas.set_size_inches(9.0, 4.2)
        panels = canvas.subplots(1, 4, width_ratios=(1, 1, 1, 1.6))
        for axes, (name, table) in zip(panels, counts.items(), strict=False):
            title = name.replace(", ", "\n")
            image = heat(axes, table.mean(axis=0), title, norm=LogNorm(10, MILLION), cmap="viridis")
        canvas.colorbar(image, ax=panels[2], label="visits")
        for name, table in counts.items():
            band(panels[3], np.arange(1, 126), -np.sort(-table.reshape(len(seeds), -1), axis=1), name)
        panels[3].set_yscale("log")
        tidy(panels[3], f"sorted, {len(seeds)} runs", "state and action", "visits")

    settings = {"seeds": len(seeds), "steps": MILLION,
                "share below 1000": {name: float((table < 1000).mean()) for name, table in counts.items()}}  # fmt: skip
    return Result(
        checks, draw, settings, {name: table.mean(axis=0).round(1).tolist() for name, table in counts.items()}
    )


def _model_and_truth(task: Task) -> tuple[FiniteMDP, Floats]:
    assert task.model is not None
    return task.model, optimal_action_values(task.model, GAMMA).max(axis=1)


def _limited(task: Task, steps: int) -> Task:
    """The task with a time limit."""
    assert task.dynamics is not None
    return replace(task, dynamics=task.dynamics._replace(max_steps=steps))


def _basic(task: Task, length: int) -> Any:
    """MC Basic, iterated until its policy stays the same."""
    agent: Any = MCBasic(MCBasic.Config(gamma=GAMMA, episode_length=length), task)
    agent.advance(length, 1)  # the first episode begins where the environment likes, and does not count
    for _ in range(100):
        before = agent.learner.chosen.copy()
        agent.advance(125 * length, 125)
        if (agent.learner.chosen == before).all():
            return agent
    raise AssertionError("MC Basic has not settled in 100 iterations")


def _loss(model: FiniteMDP, truth: Floats, agent: Any) -> float:
    """How much the greedy policy of the agent's values is worse than the best one, in the worst state."""
    policy = first_greedy(agent.tables.values[0])
    return float((truth - policy_values(model, GAMMA, policy)).max())


def _exact_improvements(model: FiniteMDP, epsilon: float, iterations: int) -> list[Floats]:
    """Greedy policies of ε-greedy policy iteration with exact values, from the uniform policy."""
    policies, followed = [], np.full((25, 5), 0.2)
    for _ in range(iterations):
        policies.append(first_greedy(action_values(model, GAMMA, policy_values(model, GAMMA, followed))))
        followed = softened(policies[-1], epsilon)
    return policies


def _sampled_improvements(task: Task, seed: int, iterations: int, *, anew: bool) -> list[Floats]:
    """Greedy policies of MC ε-greedy after each iteration; `anew`: returns of earlier policies are forgotten."""
    config = MonteCarlo.Config(gamma=GAMMA, epsilon=0.5, visits="every", max_episode_steps=MILLION, on_truncation="end")
    agent: Any = MonteCarlo(config, replace(task, seed=seed))
    policies = []
    for _ in range(iterations):
        if anew:
            agent.tables.visits[:] = 0  # the next return has weight 1/1
        agent.advance(MILLION, 1)
        policies.append(first_greedy(agent.tables.values[0]))
    return policies


def _losses(model: FiniteMDP, truth: Floats, policies: Sequence[Floats]) -> Floats:
    """Mean over states of what each ε-greedy policy is worse than the best one, ε = 0.5."""
    return np.array([(truth - policy_values(model, GAMMA, softened(policy, 0.5))).mean() for policy in policies])


def _wrong(policy: Floats, best: Floats) -> int:
    """States whose action is none of the best."""
    return int(((policy * best).sum(axis=1) == 0.0).sum())


def _counts(policy: Floats, seed: int) -> Floats:
    """Visits of every pair in a million steps of a policy [S, A], counted by an agent that follows it."""
    agent: Any = QLearning(QLearning.Config(gamma=GAMMA, behaviour="uniform"), replace(course_task(), seed=seed))
    agent.tables.policy[:] = policy
    agent.advance(MILLION, 1)
    return np.array(agent.tables.visits, dtype=np.float64)


def _means(runs: dict[str, Floats]) -> dict[str, list[float]]:
    return {name: np.round(curve.mean(axis=0), 5).tolist() for name, curve in runs.items()}
