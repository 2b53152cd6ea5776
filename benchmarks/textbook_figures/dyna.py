"""Chapter 8: planning with a learned model, in a maze that stays and in two that change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from rlkit.agents.dyna import DynaQ, DynaQPlus
from rlkit.envs.mazes import ChangingMaze
from rlkit.mdp import table_dynamics
from rlkit.tabular.planning import policy_values
from rlkit.tabular.seeds import run_seeds
from textbook_figures.figure import (
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

PLANNING_STEPS = (0, 5, 50)
CHANGING: dict[str, Any] = {"gamma": 0.95, "epsilon": 0.1, "learning_rate": 1.0}
"""Options of figures 8.4 and 8.5; the book tells neither α nor κ. The mazes are deterministic, so α can be 1."""
KAPPA = 1e-3
"""Picked, with α, from α = .1, .5, .7, 1 and κ = 1e-4, 3e-4, 1e-3, 3e-3 on 20 seeds, and it matters: with κ up to 3e-4
Dyna-Q+ misses the shortcut of figure 8.5, with 3e-3 it explores too much to be any good, and in figure 8.4 with α = .1
it is worse than Dyna-Q at every κ."""


@figure("8.2", "Dyna-Q in the maze: steps per episode by the number of planning steps")
def dyna_maze(scale: Scale) -> Result:
    """50 episodes with 0, 5 and 50 planning steps, means of 300 runs (the book has 30)."""
    task = task_for("rlkit/DynaMaze-v0")
    assert task.model is not None
    seeds = scale.runs(300)
    lengths: dict[int, Floats] = {}
    for planning_steps in PLANNING_STEPS:
        config = DynaQ.Config(gamma=0.95, epsilon=0.1, learning_rate=0.1, planning_steps=planning_steps)
        lengths[planning_steps] = run_seeds(DynaQ, config, task, seeds, episodes=50, threads=scale.threads).lengths
    means = {planning_steps: runs.mean(axis=0) for planning_steps, runs in lengths.items()}
    firsts = np.array([runs[:, 0] for runs in lengths.values()])
    uniform = np.full((task.model.num_states, 4), 0.25)
    everywhere = replace(task.model, reward=np.where(task.model.terminated & (task.model.reward == 0), 0.0, 1.0))
    expected = float(policy_values(everywhere, 1.0, uniform) @ task.model.start)

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for planning_steps, runs in lengths.items():
            band(axes, np.arange(2, 51), runs[:, 1:], f"n = {planning_steps}")
        axes.axhline(14, color="black", linestyle=":", label="shortest path, 14")
        axes.set_ylim(0, 800)
        tidy(axes, f"Dyna-Q, {len(seeds)} runs", "episodes (without the first)", "steps per episode")

    return Result(
        [
            near(
                "largest difference in steps of episode 1 between n", 0, np.ptp(firsts, axis=0).max(), 0, "section 8.2"
            ),
            near(
                "mean steps of episode 1, in standard errors from a random walk's",
                0,
                _deviation(firsts[0], expected),
                3,
            ),
            between("n = 0, episode 25", 18, 32, means[0][24], "figure 8.2: about 25"),
            between("n = 5, episode 5", 14, 26, means[5][4], "figure 8.2: about 20"),
            between("n = 50, episode 3", 14, 22, means[50][2], "figure 8.2: nearly optimal from episode 3"),
            between("n = 50, episode 50", 14, 17, means[50][-1], "14 plus exploration"),
        ],
        draw,
        {"seeds": len(seeds), "epsilon": 0.1, "step size": 0.1, "steps of a random walk": round(expected, 1)},
        {"episodes": list(range(1, 51))}
        | {f"n = {planning_steps}": np.round(mean, 2).tolist() for planning_steps, mean in means.items()},
    )


def _deviation(sample: Floats, expected: float) -> float:
    """How many standard errors the mean of a sample is from `expected`."""
    return float((sample.mean() - expected) / (sample.std(ddof=1) / np.sqrt(len(sample))))


@figure("8.4", "Dyna-Q and Dyna-Q+ when a path closes: cumulative reward")
def blocking_maze(scale: Scale) -> Result:
    """3000 steps, the short path closes after 1000; 10 planning steps, 1000 runs."""
    rewards = _changing_maze("rlkit/BlockingMaze-v0", 10, scale.runs(1000), 3000, scale.threads)
    plus, plain = rewards["Dyna-Q+"], rewards["Dyna-Q"]
    return Result(
        [
            between("Dyna-Q+ less Dyna-Q at step 3000, lower end of 95 %", 0, 200, _lowest(plus - plain), "figure 8.4"),
            between("Dyna-Q+ less Dyna-Q at the change", 0, 50, (plus - plain).mean(axis=0)[100], "figure 8.4"),
            between("Dyna-Q+, steps per goal in the last 1000", 16, 24, _steps_per_goal(plus), "the new path has 16"),
        ],
        lambda canvas: _draw(canvas, rewards, "a path closes after 1000 steps, n = 10", 1000),
        _settings(len(plus), 10),
        _curves(rewards),
    )


@figure("8.5", "Dyna-Q and Dyna-Q+ when a shorter path opens: cumulative reward")
def shortcut_maze(scale: Scale) -> Result:
    """6000 steps, the short path opens after 3000; 50 planning steps, 1000 runs."""
    rewards = _changing_maze("rlkit/ShortcutMaze-v0", 50, scale.runs(1000), 6000, scale.threads)
    plus, plain = rewards["Dyna-Q+"], rewards["Dyna-Q"]
    return Result(
        [
            between("Dyna-Q+ less Dyna-Q at step 6000, lower end of 95 %", 0, 300, _lowest(plus - plain), "figure 8.5"),
            between("Dyna-Q+, steps per goal in the last 1000", 10, 15, _steps_per_goal(plus), "the shortcut has 10"),
            between("Dyna-Q, steps per goal in the last 1000", 16, 24, _steps_per_goal(plain), "the old path has 16"),
        ],
        lambda canvas: _draw(canvas, rewards, "a shorter path opens after 3000 steps, n = 50", 3000),
        _settings(len(plus), 50),
        _curves(rewards),
    )


def _changing_maze(env: str, planning_steps: int, seeds: range, steps: int, threads: int) -> dict[str, Floats]:
    """Cumulative rewards [runs, steps / 10 + 1] of both agents."""
    agents: dict[str, tuple[Any, Any]] = {
        "Dyna-Q+": (DynaQPlus, DynaQPlus.Config(planning_steps=planning_steps, kappa=KAPPA, **CHANGING)),
        "Dyna-Q": (DynaQ, DynaQ.Config(planning_steps=planning_steps, **CHANGING)),
    }
    return {name: _cumulative_rewards(env, *agent, seeds, steps, threads) for name, agent in agents.items()}


def _lowest(runs: Floats) -> float:
    """Lower end of the mean's 95 % interval in the last column."""
    mean, half = confidence(runs)
    return float(mean[-1] - half[-1])


def _steps_per_goal(runs: Floats) -> float:
    """In the last 1000 env steps of all runs."""
    return float(1000 / (runs[:, -1] - runs[:, -101]).mean())


def _draw(canvas: Any, rewards: dict[str, Floats], title: str, change_at: int) -> None:
    axes = canvas.subplots()
    for name, runs in rewards.items():
        band(axes, 10 * np.arange(runs.shape[1]), runs, name)
    axes.axvline(change_at, color="black", linestyle=":", label="change")
    tidy(axes, f"{title}, {len(runs)} runs", "env steps", "cumulative reward")


def _settings(seeds: int, planning_steps: int) -> dict[str, Any]:
    return CHANGING | {"seeds": seeds, "planning steps": planning_steps, "kappa": KAPPA}


def _curves(rewards: dict[str, Floats]) -> dict[str, Any]:
    """Every 100 env steps."""
    curves = {name: np.round(runs.mean(axis=0)[::10], 2).tolist() for name, runs in rewards.items()}
    return {"steps": list(range(0, 100 * len(curves["Dyna-Q"]), 100))} | curves


def _cumulative_rewards(env: str, agent: Any, config: Any, seeds: range, steps: int, threads: int) -> Floats:
    """Goals reached within 0, 10, 20 … steps, [runs, steps / 10 + 1]; the maze changes under the running agent."""
    task = task_for(env)
    maze = gym.make(env).unwrapped
    assert isinstance(maze, ChangingMaze)
    before, after = table_dynamics(maze.before), table_dynamics(maze.after)

    def run(seed: int) -> Floats:
        trained = agent(config, replace(task, model=None, dynamics=before, seed=seed))
        first = trained.advance(maze.change_at, maze.change_at)
        trained._dynamics = after  # the position stays, and so does all that was learned
        second = trained.advance(steps - maze.change_at, steps)
        goals = np.cumsum(np.concatenate([first, second])[:, 1])
        return np.searchsorted(goals, np.arange(0, steps + 1, 10), side="right").astype(np.float64)

    with ThreadPoolExecutor(threads) as pool:
        return np.array(list(pool.map(run, seeds)))
