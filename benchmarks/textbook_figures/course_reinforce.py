"""Zhao (2025), chapter 9: REINFORCE on the course grid.

rlkit's `tabular-reinforce` weights step t of an episode with γᵗ, as Sutton and Barto do; the course's pseudocode leaves
that out. Episodes start anywhere and are cut after 50 steps, whose reward would count γ⁵⁰ = 0.005.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rlkit.agents.tabular_reinforce import TabularReinforce
from textbook_figures.course_grid import GAMMA, course_model, course_task, show
from textbook_figures.course_policies import BEST, MODELS, best_mean, greedy, optimum, softmax, values_of
from textbook_figures.figure import Floats, Result, Scale, band, between, figure, near, tidy

EPISODES, LENGTH, LOOKS = 20_000, 50, 50
VARIANTS: dict[str, dict[str, float]] = {
    "without baseline": {"learning_rate": 0.03, "baseline_learning_rate": 0.0},
    "with baseline": {"learning_rate": 0.03, "baseline_learning_rate": 0.05},
}
"""Step sizes are ours, the same with and without; the baseline has its own."""


@figure("course-reinforce", "REINFORCE on the course grid, with and without a baseline")
def reinforce(scale: Scale) -> Result:
    """Exact mean value of the softmax policy after every 400 episodes, rewards of -1 and of -10 for wrong steps."""
    seeds = scale.runs(20)
    learned = {(rewards, name): np.array([_preferences(rewards, name, seed) for seed in seeds])
               for rewards in MODELS for name in VARIANTS}  # fmt: skip
    values = {key: values_of(course_model(**MODELS[key[0]]), softmax(found)) for key, found in learned.items()}
    means = {key: found.mean(axis=2) for key, found in values.items()}
    plain, baseline = VARIANTS
    last = greedy(learned["mild", baseline][:, -1])
    loss = best_mean("mild") - values_of(course_model(), last).mean()
    reached = {key: found[:, -1] for key, found in means.items()}
    checks = [
        optimum("mild"),
        optimum("harsh"),
        near("without baseline, mild: mean v of the learned policy", BEST["mild"], reached["mild", plain].mean(), 0.15,
             "v*"),
        near("with baseline, mild: mean v of the learned policy", BEST["mild"], reached["mild", baseline].mean(), 0.1,
             "v*"),
        between("with baseline, mild: loss of its greedy policy", 0.0, 0.03, loss, "0 is optimal"),
        between("variance between seeds, with over without, mild, half-way", 0.0, 1.0,
                means["mild", baseline][:, LOOKS // 2].var() / means["mild", plain][:, LOOKS // 2].var(),
                "a baseline lessens variance"),
        between("without baseline, harsh: spread of mean v over seeds", 0.5, 10.0, reached["harsh", plain].std(),
                "ours: runs end in different local optima"),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(11.0, 3.6)
        left, middle, right = canvas.subplots(1, 3, width_ratios=(1.3, 1.3, 1))
        for axes, rewards, low in ((left, "mild", 5.0), (middle, "harsh", -10.0)):
            for name in VARIANTS:
                band(axes, np.linspace(0, EPISODES, LOOKS + 1), means[rewards, name], name)
            axes.axhline(best_mean(rewards), color="0.4", linestyle="--", linewidth=1.0, label="v*")
            axes.set_ylim(low, 8.2)
        tidy(left, f"mean v, wrong steps -1, {len(seeds)} seeds", "episode", "")
        tidy(middle, "wrong steps -10", "episode", "", legend=False)
        show(right, values["mild", baseline][0, -1], softmax(learned["mild", baseline][0, -1]), "learned (seed 0), -1")

    settings = {
        "seeds": len(seeds), "episodes": EPISODES, "steps": LENGTH, "gamma": GAMMA, **VARIANTS,
        "share of seeds within 0.1 of v*": {", ".join(key): float((best_mean(key[0]) - found < 0.1).mean())
                                            for key, found in reached.items()},
    }  # fmt: skip
    return Result(
        checks, draw, settings, {", ".join(k): np.round(v.mean(axis=0), 3).tolist() for k, v in means.items()}
    )


def _preferences(rewards: str, name: str, seed: int) -> Floats:
    """θ on the way, [LOOKS + 1, S, A]."""
    config = TabularReinforce.Config(gamma=GAMMA, max_episode_steps=LENGTH, **VARIANTS[name])
    task = course_task(EPISODES * LENGTH, max_episode_steps=LENGTH, **MODELS[rewards])
    agent: Any = TabularReinforce(config, replace(task, seed=seed))
    looks = [agent.tables.values[0].copy()]
    for _ in range(LOOKS):
        agent.advance(EPISODES * LENGTH, EPISODES // LOOKS)
        looks.append(agent.tables.values[0].copy())
    return np.array(looks)
