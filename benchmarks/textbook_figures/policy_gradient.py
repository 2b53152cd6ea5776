"""Chapter 13: policy gradients in the short corridor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rlkit.agents.tabular_reinforce import TabularReinforce
from rlkit.envs.chains import ShortCorridor
from rlkit.mdp import TableDynamics
from rlkit.tabular.engine import CompiledLoop
from rlkit.tabular.planning import policy_values
from rlkit.tabular.seeds import run_seeds
from rlkit.types import Task
from textbook_figures.figure import Floats, Result, Scale, band, between, figure, near, task_for, tidy

STEP_SIZES = (2.0**-12, 2.0**-13, 2.0**-14)
BEST_RIGHT = 2.0 - np.sqrt(2.0)
START_RIGHT = 0.05
"""Probability of right before learning. The book does not tell it; its curves begin at about -82, the value of the
policy that is greedy for left with ε = 0.1 (example 13.1), so that policy is taken."""
EPISODES, RUNS = 1000, 1000
"""The book has 100 runs, whose means vary by ± 16 in the first episodes."""
LONGEST = 1000
"""Env steps after which an episode is cut. Only policies that have become deterministic, and never end an episode, get
there: after an unusually long episode a step size that is too large leads to them, and without another action in sight
there is no way back. They count with what they get, -1000 an episode. How the book handled them is not told."""


@figure("13.1", "REINFORCE in the short corridor: total reward per episode by step size")
def reinforce(scale: Scale) -> Result:
    """1000 episodes from a policy that almost always goes left, means of 1000 runs."""
    task = task_for("rlkit/ShortCorridor-v0")
    returns = {
        f"α = 2^{round(np.log2(alpha))}": _returns(task, scale, learning_rate=alpha, baseline_learning_rate=0.0)
        for alpha in STEP_SIZES
    }
    first = np.mean([runs[:, 0].mean() for runs in returns.values()])
    middle = {name: runs[:, 100:400].mean() for name, runs in returns.items()}
    stuck = {name: runs[:, -1] <= -LONGEST for name, runs in returns.items()}
    share = {name: 100 * runs.mean() for name, runs in stuck.items()}
    last = {name: runs[~stuck[name], -100:].mean() for name, runs in returns.items()}
    best = _value(BEST_RIGHT)
    other = "plain numpy program: "
    going_on = returns["α = 2^-12"][~stuck["α = 2^-12"]].mean(axis=0)

    def draw(canvas: Any) -> None:
        _draw(canvas, returns, best, "REINFORCE, short corridor")
        label = f"α = 2^-12 without {share['α = 2^-12']:.1f} % stuck runs"
        canvas.axes[0].plot(np.arange(1, EPISODES + 1), going_on, "C0:", linewidth=0.8, label=label)
        canvas.axes[0].legend(frameon=False, fontsize=8)

    return Result(
        [
            near("v of the best policy", -11.6569, best, 1e-4, "example 13.1"),
            near("first episode, all step sizes", _value(START_RIGHT), first, 6, "value of the first policy"),
            between("α = 2^-13, last 100 of runs not stuck", best - 1.5, best + 0.2, last["α = 2^-13"], "figure 13.1"),
            near("α = 2^-14, last 100 of runs not stuck", -14.94, last["α = 2^-14"], 0.6, f"{other}-14.94"),
            between("2^-13 less 2^-14, episodes 101-400", 1, 20, middle["α = 2^-13"] - middle["α = 2^-14"], "faster"),
            between("2^-13 less 2^-12, last 100, all runs", 0, 90, _gap(returns), "2^-12 is too large"),
            near("runs stuck at 2^-12, %", 2.4, share["α = 2^-12"], 1.5, f"{other}2.4 of 3000 runs"),
            near("runs stuck at 2^-13, %", 0.2, share["α = 2^-13"], 0.4, f"{other}0.2 of 3000 runs"),
        ],
        draw,
        _settings(scale) | {"stuck, %": {name: round(float(value), 2) for name, value in share.items()}},
        _curves(returns),
    )


def _gap(returns: dict[str, Floats]) -> float:
    """How much better 2^-13 is at last than 2^-12."""
    return float(returns["α = 2^-13"][:, -100:].mean() - returns["α = 2^-12"][:, -100:].mean())


@figure("13.2", "REINFORCE with and without a baseline in the short corridor")
def reinforce_with_baseline(scale: Scale) -> Result:
    """1000 episodes from the same policy, means of 1000 runs; the step sizes are the book's."""
    task = task_for("rlkit/ShortCorridor-v0")
    returns = {
        "with baseline, α = 2^-9 and 2^-6": _returns(
            task, scale, learning_rate=2.0**-9, baseline_learning_rate=2.0**-6
        ),
        "without, α = 2^-13": _returns(task, scale, learning_rate=2.0**-13, baseline_learning_rate=0.0),
    }
    with_baseline, without = (runs.mean(axis=0) for runs in returns.values())
    best = _value(BEST_RIGHT)
    lead = with_baseline[50:400] - without[50:400]
    return Result(
        [
            between("with baseline, last 100 episodes", best - 1.5, best + 0.5, with_baseline[-100:].mean(), "13.2"),
            between("its lead over episodes 51-400", 1, 50, lead.mean(), "figure 13.2: much faster"),
            between("its first episode within 3 of v*", 20, 400, _reaches(with_baseline, best - 3), "figure 13.2"),
        ],
        lambda canvas: _draw(canvas, returns, best, "REINFORCE, short corridor"),
        _settings(scale),
        _curves(returns),
    )


def _returns(task: Task, scale: Scale, **step_sizes: float) -> Floats:
    """Total rewards [runs, episodes]."""
    config: Any = TabularReinforce.Config(gamma=1.0, max_episode_steps=LONGEST, **step_sizes)
    assert isinstance(task.dynamics, TableDynamics)
    task = replace(task, dynamics=task.dynamics._replace(max_steps=LONGEST))
    runs = run_seeds(_mostly_left, config, task, scale.runs(RUNS), episodes=EPISODES, threads=scale.threads)
    return runs.returns


def _mostly_left(config: Any, task: Task) -> CompiledLoop:
    """The agent, with preferences for which right has the probability START_RIGHT."""
    agent: Any = TabularReinforce(config, task)
    agent.tables.values[0, :, 1] = np.log(START_RIGHT / (1.0 - START_RIGHT)) / 2.0
    agent.tables.values[0, :, 0] = -agent.tables.values[0, :, 1]
    assert isinstance(agent, CompiledLoop)
    return agent


def _value(right: float) -> float:
    """Value of the start under the policy that goes right with this probability."""
    model = ShortCorridor().transition_model()
    policy = np.tile([1.0 - right, right], (model.num_states, 1))
    return float(policy_values(model, 1.0, policy) @ model.start)


def _reaches(means: Floats, level: float) -> int:
    """First episode from which the mean of 20 is above `level`."""
    smooth = np.convolve(means, np.ones(20) / 20, "valid")
    return int(np.argmax(smooth > level)) + 20


def _draw(canvas: Any, returns: dict[str, Floats], best: float, title: str) -> None:
    axes = canvas.subplots()
    for name, runs in returns.items():
        band(axes, np.arange(1, EPISODES + 1), runs, name)
    axes.axhline(best, color="black", linestyle=":", label=f"v* = {best:.2f}")
    axes.set_ylim(-90, -10)
    tidy(axes, f"{title}, {len(runs)} runs", "episodes", "total reward per episode")


def _settings(scale: Scale) -> dict[str, Any]:
    return {"seeds": len(scale.runs(RUNS)), "episodes": EPISODES, "probability of right at first": START_RIGHT}


def _curves(returns: dict[str, Floats]) -> dict[str, Any]:
    """Means of 10 episodes."""
    means = {name: runs.mean(axis=0).reshape(-1, 10).mean(axis=1) for name, runs in returns.items()}
    return {"episodes": "1-10, 11-20, …"} | {name: np.round(mean, 2).tolist() for name, mean in means.items()}
