"""Chapters 10 and 12: control with tile coding, on the mountain car.

8 tilings of 8 × 8 tiles, ε = 0, no discount, no time limit. Step sizes are the book's times 8: each of the 8 active
features gets an eighth.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from rlkit.agents.linear_control import LinearNStepSarsa, LinearSarsa, LinearSarsaLambda
from rlkit.mdp import CAR_GOAL, CAR_LEFT, CAR_SPEED
from rlkit.tabular.seeds import run_seeds
from rlkit.types import Task
from textbook_figures.figure import (
    Check,
    Floats,
    Result,
    Scale,
    band,
    between,
    confidence,
    figure,
    near,
    task_for,
    tidy,
)

CONTROL: dict[str, Any] = {"gamma": 1.0, "epsilon": 0.0, "features": "tiles", "num_tilings": 8, "tiles": (8,)}
LONGEST = 1000
"""Mean steps of an episode that a run may take; one that takes more has failed, and counts as this much."""
EARLY = 50
"""Episodes of figures 10.4 and 12.10."""
N_STEP = {
    1: np.arange(0.5, 1.76, 0.125), 2: np.arange(0.375, 1.76, 0.125), 4: np.arange(0.25, 1.51, 0.125),
    8: np.arange(0.25, 1.01, 0.125), 16: np.arange(0.125, 0.76, 0.125),
}  # fmt: skip
"""Step sizes of each n, times 8."""
LAMBDAS = {
    0.0: np.arange(0.5, 2.01, 0.25), 0.5: np.arange(0.5, 2.01, 0.25), 0.8: np.arange(0.4, 1.81, 0.2),
    0.9: np.arange(0.4, 1.81, 0.2), 0.95: np.arange(0.2, 1.61, 0.2), 0.99: np.arange(0.2, 1.21, 0.2),
}  # fmt: skip
"""Step sizes of each λ, times 8."""
LOOKS = (("step 428", 428, 0), *((f"episode {count}", 0, count) for count in (12, 104, 1000, 9000)))
TRACES: dict[str, dict[str, Any]] = {
    "true online (dutch)": {"traces": "dutch"},
    "replacing, clearing other actions": {"traces": "replacing", "clear_traces": True},
    "replacing": {"traces": "replacing"},
    "accumulating": {"traces": "accumulating"},
}
TRACE_STEP_SIZES = np.round(np.arange(0.2, 2.01, 0.2), 1)


@cache
def _car() -> Task:
    return task_for("rlkit/MountainCar-v0")


@figure("10.1", "mountain car: the cost to go learned in one run of Sarsa")
def cost_to_go(scale: Scale) -> Result:
    """Semi-gradient Sarsa with α = 0.5/8: -max Q over position and velocity in its first episode and after 9000."""
    trained: Any = LinearSarsa(LinearSarsa.Config(**CONTROL, learning_rate=0.5), replace(_car(), seed=0))
    positions, velocities = np.linspace(CAR_LEFT, CAR_GOAL, 41), np.linspace(-CAR_SPEED, CAR_SPEED, 41)
    grid = np.stack(np.meshgrid(positions, velocities, indexing="ij"), axis=2).reshape(-1, 2).astype(np.float32)
    surfaces, lengths = {}, np.zeros(0)
    for name, steps, episodes in LOOKS:
        more = trained.advance(steps or 10**9, (episodes or 10**9) - len(lengths) if episodes else 10)[:, 1]
        lengths = np.append(lengths, more)
        surfaces[name] = -trained.values(grid).max(axis=1).reshape(41, 41)
    starts = np.stack([np.linspace(-0.6, -0.4, 101), np.zeros(101)], axis=1).astype(np.float32)
    predicted = float(-trained.values(starts).max(axis=1).mean())

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(11.0, 3.0)
        for i, (name, surface) in enumerate(surfaces.items(), start=1):
            axes = canvas.add_subplot(1, len(surfaces), i, projection="3d")
            axes.plot_surface(*np.meshgrid(positions, velocities, indexing="ij"), surface, cmap="viridis", linewidth=0)
            axes.set_title(name, fontsize=9)
            axes.set_xlabel("position", fontsize=7, labelpad=-6)
            axes.set_ylabel("velocity", fontsize=7, labelpad=-4)
            axes.tick_params(labelsize=6, pad=-2)
            axes.set(xticks=[CAR_LEFT, CAR_GOAL], yticks=[-CAR_SPEED, CAR_SPEED])
            axes.view_init(40, -60)

    return Result(
        [
            between("length of the first episode", 429, 20_000, lengths[0], "figure 10.1: still in it at step 428"),
            between("greatest cost to go at step 428", 1, 60, surfaces["step 428"].max(), "low, so that it explores"),
            between("greatest cost to go after 9000 episodes", 100, 150, surfaces["episode 9000"].max(), "figure 10.1"),
            between("mean steps of the last 1000 episodes", 90, 130, lengths[-1000:].mean(), "as in figure 10.2"),
            near("cost to go at the starts less these steps", 0.0, predicted - lengths[-1000:].mean(), 8.0,
                 "values predict what happens"),
        ],
        draw,
        {"seed": 0, "learning_rate": 0.5, "length of the first episode": int(lengths[0])},
        {"greatest cost to go": {name: round(float(surface.max()), 2) for name, surface in surfaces.items()}},
    )  # fmt: skip


@figure("10.2", "mountain car: steps per episode of Sarsa for three step sizes")
def step_sizes(scale: Scale) -> Result:
    """500 episodes, 100 runs."""
    curves = {
        f"α = {alpha}/8": _lengths(LinearSarsa, scale.runs(100), 500, scale, learning_rate=alpha)
        for alpha in (0.1, 0.2, 0.5)
    }
    early = [float(runs[:, :EARLY].mean()) for runs in curves.values()]
    return Result(
        [
            *(between(f"{name}: mean steps of episodes 301-500", 100, 145, runs[:, 300:].mean(),
                      "rl_libraries.md 3e: 120-140, read off") for name, runs in curves.items()),
            between("first 50 episodes: α = .1/8 less .2/8", 0, 1000, early[0] - early[1], "figure 10.2"),
            between("first 50 episodes: α = .2/8 less .5/8", 0, 1000, early[1] - early[2], "figure 10.2"),
        ],
        lambda canvas: _draw_curves(canvas, curves, "semi-gradient Sarsa"),
        {"seeds": len(scale.runs(100)), "episodes": 500},
        _means(curves),
    )  # fmt: skip


@figure("10.3", "mountain car: one-step against 8-step Sarsa")
def one_and_eight_steps(scale: Scale) -> Result:
    """α = 0.5/8 for n = 1 and 0.3/8 for n = 8; 500 episodes, 100 runs."""
    curves = {
        f"n = {n}, α = {alpha}/8": _lengths(LinearNStepSarsa, scale.runs(100), 500, scale, learning_rate=alpha, n=n)
        for n, alpha in ((1, 0.5), (8, 0.3))
    }
    one, eight = curves.values()
    difference = (one - eight).mean(axis=0)
    return Result(
        [
            between("first 50 episodes: n = 1 less n = 8", 10, 1000, difference[:EARLY].mean(), "figure 10.3"),
            between("episodes 301-500: n = 1 less n = 8", -2, 30, difference[300:].mean(), "figure 10.3: not worse"),
            between("n = 8: mean steps of episodes 301-500", 100, 135, eight[:, 300:].mean(), "figure 10.3"),
        ],
        lambda canvas: _draw_curves(canvas, curves, "n-step Sarsa"),
        {"seeds": len(scale.runs(100)), "episodes": 500},
        _means(curves),
    )


@figure("10.4", "mountain car: n-step Sarsa, steps of the first 50 episodes by n and α")
def n_step_grid(scale: Scale) -> Result:
    """100 runs of 50 episodes for every n and α."""
    grid = _n_step_grid(scale)
    lowest = {n: min(found.mean() for found in by_alpha.values()) for n, by_alpha in grid.items()}
    return Result(
        [
            near("n with the fewest steps", 4, min(lowest, key=lambda n: lowest[n]), 0, "figure 10.4"),
            *_read_off("n", grid, {(4, 0.75): 222, (8, 0.5): 228, (1, 1.5): 231}),
            between("n = 16: fewest steps less those of n = 4", 5, 100, lowest[16] - lowest[4], "figure 10.4"),
        ],
        lambda canvas: _draw_grid(
            canvas.subplots(), grid, "n", f"n-step Sarsa, {len(scale.runs(100))} runs", (210, 300)
        ),
        {"seeds": len(scale.runs(100)), "episodes": EARLY},
        _grid_means("n", grid),
    )


@figure("12.10", "mountain car: Sarsa(λ) with replacing traces, steps of the first 50 episodes by λ and α")
def lambda_grid(scale: Scale) -> Result:
    """50 runs for every λ and α, beside n-step Sarsa (figure 10.4)."""
    seeds = scale.runs(50)
    grid = {
        lam: {
            float(alpha): _early_steps(
                LinearSarsaLambda, seeds, scale, learning_rate=alpha, lam=lam, traces="replacing"
            )
            for alpha in step_sizes
        }
        for lam, step_sizes in LAMBDAS.items()
    }
    n_step = _n_step_grid(scale)
    lowest, other = (
        min(found.mean() for by_alpha in each.values() for found in by_alpha.values()) for each in (grid, n_step)
    )

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.5, 4.0)
        left, right = canvas.subplots(1, 2, sharey=True)
        _draw_grid(left, grid, "λ", f"Sarsa(λ), replacing traces, {len(seeds)} runs", (165, 300))
        _draw_grid(right, n_step, "n", "n-step Sarsa", (165, 300))
        right.set_ylabel("")

    return Result(
        [
            *_read_off("λ", grid, {(0.95, 1.0): 180, (0.0, 1.5): 228}),
            near("λ = 0.99: fewest steps", 205, min(found.mean() for found in grid[0.99].values()), 12, "3e, read off"),
            near("λ = 0.5: fewest steps", 212, min(found.mean() for found in grid[0.5].values()), 10, "3e, read off"),
            between("fewest steps of n-step Sarsa less those of Sarsa(λ)", 20, 80, other - lowest, "figure 12.10"),
        ],
        draw,
        {"seeds": len(seeds), "episodes": EARLY, "traces": "replacing"},
        _grid_means("λ", grid),
    )


@figure("12.11", "mountain car: kinds of traces of Sarsa(λ), λ = 0.9, reward of the first 20 episodes by α")
def trace_kinds(scale: Scale) -> Result:
    """50 runs for every kind and α; an accumulating run that fails counts as 1000 steps an episode."""
    seeds = scale.runs(50)
    grid = {
        name: {
            float(alpha): _early_steps(
                LinearSarsaLambda, seeds, scale, 20, learning_rate=float(alpha), lam=0.9, **options
            )
            for alpha in TRACE_STEP_SIZES
        }
        for name, options in TRACES.items()
    }
    dutch, clearing, replacing, accumulating = (
        np.array([found.mean() for found in by_alpha.values()]) for by_alpha in grid.values()
    )
    usual = TRACE_STEP_SIZES <= 1.4

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for name, by_alpha in grid.items():
            band(axes, list(by_alpha), -np.array(list(by_alpha.values())).T, name)
        axes.set_ylim(-550, -150)
        heading = f"Sarsa(λ), λ = 0.9, {len(seeds)} runs"
        tidy(axes, heading, "step size α × 8", "reward per episode, first 20 episodes")

    return Result(
        [
            between(
                "steps: replacing less true online, mean for α up to 1.4/8",
                20,
                200,
                (replacing - dutch)[usual].mean(),
                "figure 12.11",
            ),
            between("fewest steps: replacing less true online", -5, 100, replacing.min() - dutch.min(), "figure 12.11"),
            between("fewest steps: with clearing less true online", 10, 200, clearing.min() - dutch.min(), "12.11"),
            between("fewest steps: accumulating less true online", 10, 500, accumulating.min() - dutch.min(), "12.11"),
            between("accumulating, α = 1/8: steps", 500, LONGEST, grid["accumulating"][1.0].mean(), "falls apart"),
        ],
        draw,
        {"seeds": len(seeds), "episodes": 20, "lam": 0.9},
        _grid_means("traces", grid),
    )


def _lengths(agent: Any, seeds: range, episodes: int, scale: Scale, **options: Any) -> Floats:
    """Steps of every episode, [runs, episodes]."""
    limit = LONGEST * episodes
    config = agent.Config(**CONTROL, **options)
    found = run_seeds(agent, config, _car(), seeds, episodes=episodes, max_steps=limit, threads=scale.threads)
    lengths: Floats = found.lengths
    return lengths


def _early_steps(agent: Any, seeds: range, scale: Scale, episodes: int = EARLY, **options: Any) -> Floats:
    """Mean steps of the first episodes of each run; LONGEST where they were not over by then."""
    options["learning_rate"] = float(options["learning_rate"])
    means: Floats = _lengths(agent, seeds, episodes, scale, **options).mean(axis=1)
    means[np.isnan(means)] = LONGEST
    return means


@cache
def _n_step_grid(scale: Scale) -> dict[Any, dict[float, Floats]]:
    """Mean steps of the first 50 episodes of every run, by n and α."""
    return {
        n: {
            float(alpha): _early_steps(LinearNStepSarsa, scale.runs(100), scale, learning_rate=alpha, n=n)
            for alpha in step_sizes
        }
        for n, step_sizes in N_STEP.items()
    }


def _read_off(name: str, grid: dict[Any, dict[float, Floats]], read: dict[tuple[float, float], float]) -> list[Check]:
    """Checks of single points, read off to about 5 steps; the standard error of 50 runs is 2."""
    return [
        near(f"{name} = {key}, α = {alpha}/8: steps", steps, grid[key][alpha].mean(), 8, "rl_libraries.md 3e, read off")
        for (key, alpha), steps in read.items()
    ]


def _draw_curves(canvas: Any, curves: dict[str, Floats], title: str) -> None:
    axes = canvas.subplots()
    for name, runs in curves.items():
        mean, half = confidence(runs)
        (line,) = axes.semilogy(np.arange(1, 501), mean, label=name, linewidth=1.2)
        axes.fill_between(np.arange(1, 501), mean - half, mean + half, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(ylim=(95, 1000), yticks=[100, 200, 400, 1000], yticklabels=["100", "200", "400", "1000"])
    axes.minorticks_off()
    tidy(axes, f"{title}, mountain car, {len(next(iter(curves.values())))} runs", "episode", "steps per episode")


def _draw_grid(axes: Any, grid: dict[Any, dict[float, Floats]], name: str, title: str, limits: tuple[int, int]) -> None:
    for key, by_alpha in grid.items():
        band(axes, list(by_alpha), np.array(list(by_alpha.values())).T, f"{name} = {key:g}")
    axes.set_ylim(*limits)
    tidy(axes, title, "step size α × 8", "steps per episode, first 50 episodes")


def _means(curves: dict[str, Floats]) -> dict[str, Any]:
    """Mean steps, every 25 episodes."""
    return {"episode": list(range(1, 501, 25))} | {
        name: np.round(runs.mean(axis=0)[::25], 1).tolist() for name, runs in curves.items()
    }


def _grid_means(name: str, grid: dict[Any, dict[float, Floats]]) -> dict[str, Any]:
    return {
        f"{name} = {key}": {str(round(alpha, 4)): round(float(found.mean()), 2) for alpha, found in by_alpha.items()}
        for key, by_alpha in grid.items()
    }
