"""Chapter 7: n-step bootstrapping."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlkit.agents.td import NStepTD
from rlkit.tabular.planning import policy_values
from rlkit.tabular.seeds import run_seeds
from textbook_figures.figure import Result, Scale, between, confidence, figure, near, task_for, tidy

STEP_SIZES = np.round(np.arange(0.05, 1.001, 0.05), 2)
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@figure("7.2", "n-step TD on the 19-state random walk: error of the first 10 episodes by n and α")
def n_step_td(scale: Scale) -> Result:
    """The whole grid of n and α, 100 runs of 10 episodes each."""
    task = task_for("rlkit/RandomWalk19-v0")
    assert task.model is not None
    truth = policy_values(task.model, 1.0, np.ones((21, 1)))
    truth[[0, -1]] = np.nan
    seeds = scale.runs(100)
    errors = np.empty((len(LENGTHS), len(STEP_SIZES), len(seeds)))
    for i, n in enumerate(LENGTHS):
        for j, step_size in enumerate(STEP_SIZES):
            config = NStepTD.Config(gamma=1.0, n=n, learning_rate=float(step_size))
            runs = run_seeds(NStepTD, config, task, seeds, episodes=10, reference=truth, threads=scale.threads)
            errors[i, j] = runs.errors.mean(axis=1)
    means = errors.mean(axis=2)
    best = np.unravel_index(means.argmin(), means.shape)
    at = {
        (n, a): means[LENGTHS.index(n), int(np.argmin(abs(STEP_SIZES - a)))] for n, a in ((4, 0.3), (1, 0.8), (8, 0.2))
    }

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for i, n in enumerate(LENGTHS):
            mean, half = confidence(errors[i].T)
            (line,) = axes.plot(STEP_SIZES, mean, label=f"n = {n}", linewidth=1.4)
            axes.fill_between(STEP_SIZES, mean - half, mean + half, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set_ylim(0.22, 0.58)
        tidy(axes, "n-step TD, 19-state walk, first 10 episodes", "step size α", "RMS error")

    return Result(
        [
            near("best n", 4, LENGTHS[best[0]], 0, "figure 7.2"),
            near("RMS at n = 4, α = 0.3", 0.268, at[4, 0.3], 0.01, "figure 7.2"),
            near("RMS at n = 1, α = 0.8", 0.347, at[1, 0.8], 0.015, "figure 7.2"),
            near("RMS at n = 8, α = 0.2", 0.283, at[8, 0.2], 0.01, "figure 7.2"),
            between("lowest RMS", 0.25, 0.28, float(means.min()), "figure 7.2"),
        ],
        draw,
        {"seeds": len(seeds), "episodes": 10, "best step size": float(STEP_SIZES[best[1]])},
        {"n": list(LENGTHS), "step_size": STEP_SIZES.tolist(), "rms": np.round(means, 5).tolist()},
    )
