"""Section 10.3: the average reward of a task without end, access control by differential Sarsa."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rlkit.agents.linear_control import DifferentialSarsa
from rlkit.linear.expected import on_policy_distribution
from rlkit.mdp import FiniteMDP
from textbook_figures.course_grid import softened
from textbook_figures.figure import Floats, Result, Scale, between, figure, near, task_for, tidy

STEPS, EPSILON = 2_000_000, 0.1
PRIORITIES, SERVERS = (1, 2, 4, 8), 10
RATES: dict[str, Any] = {"learning_rate": 0.01, "average_learning_rate": 0.01}


@figure("10.5", "differential Sarsa on access control: policy, values, average reward")
def access_control(scale: Scale) -> Result:
    """Two million steps, α = β = 0.01, ε = 0.1, a weight for every state and action; ten runs, the first is drawn.

    With β = 0.01 the estimate R̄ goes up and down by 0.2. The book's 2.31 is one such R̄; the average reward itself, and
    the mean of R̄ over time, are 2.64.
    """
    task, seeds = task_for("rlkit/AccessControl-v0"), scale.runs(10)
    model = task.model
    assert model is not None
    config = DifferentialSarsa.Config(features="one-hot", epsilon=EPSILON, gamma=1.0, **RATES)
    trained: list[Any] = [DifferentialSarsa(config, replace(task, seed=seed)) for seed in seeds]
    averages = np.array([_estimates(agent) for agent in trained])
    greedy = [np.eye(2)[agent.weights.argmax(axis=0)] for agent in trained]
    exact = np.array([_average_reward(model, softened(policy, EPSILON)) for policy in greedy])
    best, gain = _best(model)
    seen = on_policy_distribution(model, softened(best, EPSILON))
    agreement = [float(seen @ (policy == best).all(axis=1)) for policy in greedy]
    counts = _accepted(greedy[0])

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.5, 4.0)
        left, right = canvas.subplots(1, 2)
        left.imshow(greedy[0][:, 1].reshape(SERVERS + 1, 4).T[:, 1:], origin="upper", aspect="auto", cmap="Blues",
                    vmin=-0.3, vmax=1.6, extent=(0.5, SERVERS + 0.5, 3.5, -0.5))  # fmt: skip
        for row, threshold in enumerate(SERVERS + 1 - _accepted(best)):
            left.plot([threshold - 0.5] * 2, [row - 0.5, row + 0.5], color="C3", linewidth=2.0)
        left.set_yticks(range(4), [str(priority) for priority in PRIORITIES])
        tidy(left, "accept (dark) or reject; red: best ε-greedy policy", "number of free servers", "priority",
             legend=False)  # fmt: skip
        left.grid(visible=False)
        for kind, priority in enumerate(PRIORITIES):
            values = trained[0].state_values().reshape(SERVERS + 1, 4)[:, kind]
            right.plot(np.arange(SERVERS + 1), values, marker="o", markersize=3, linewidth=1.4,
                       label=f"priority {priority}")  # fmt: skip
        tidy(right, "differential value of the best action", "number of free servers", "")

    return Result(
        [
            near("R̄, mean of the second million steps and of all runs", exact.mean(), averages.mean(), 0.03,
                 "average reward of the learned ε-greedy policies, from the model"),
            between("distance of 2.31 from it, in standard deviations of R̄", 0.0, 2.0,
                    (averages.mean() - 2.31) / averages.std(axis=1).mean(), "the book's R̄ (rl_libraries.md 3e)"),
            between("average reward given away, to the best ε-greedy policy", 0.0, 0.03, gain - exact.mean(),
                    "from the model"),
            between("share of time in states with its action", 0.85, 1.0, float(np.mean(agreement)), "figure 10.5"),
            between("free servers needed, least rise from a priority to the next lower one", 0, 10,
                    -np.diff(SERVERS + 1 - counts).max(), "figure 10.5: a staircase"),
        ],
        draw,
        {"seeds": len(seeds), "steps": STEPS, "epsilon": EPSILON, **RATES,
         "average reward of the best ε-greedy policy": round(gain, 4),
         "free servers needed by it": (SERVERS + 1 - _accepted(best)).tolist()},
        {"R̄ in the end": np.round(averages[:, -1], 4).tolist(),
         "average reward of the policies": np.round(exact, 4).tolist(),
         "free servers needed, first run": (SERVERS + 1 - counts).tolist()},
    )  # fmt: skip


def _accepted(policy: Floats) -> Any:
    """With how many numbers of free servers (from 1) customers of each priority are accepted."""
    return policy[:, 1].reshape(SERVERS + 1, 4)[1:].sum(axis=0).astype(int)


def _average_reward(model: FiniteMDP, policy: Floats) -> float:
    """In the long run."""
    return float(on_policy_distribution(model, policy) @ (policy * model.expected_reward()).sum(axis=1))


def _estimates(agent: Any) -> list[float]:
    """Train; R̄ after every 1000 of the second million steps."""
    agent.advance(STEPS // 2, 1)
    found = []
    for _ in range(1000):
        agent.advance(STEPS // 2000, 1)
        found.append(float(agent.learner.average[0]))
    return found


def _best(model: FiniteMDP) -> tuple[Floats, float]:
    """The greedy part [S, A] of the best ε-greedy policy and its average reward, by relative value iteration."""
    transitions, rewards = model.transition_matrix(), model.expected_reward()
    values = np.zeros(model.num_states)
    for _ in range(5000):
        found = rewards + transitions @ values
        values = (1.0 - EPSILON) * found.max(axis=1) + EPSILON * found.mean(axis=1)
        values -= values[0]
    policy = np.eye(2)[(found[:, 1] > found[:, 0] + 1e-9).astype(int)]
    return policy, _average_reward(model, softened(policy, EPSILON))
