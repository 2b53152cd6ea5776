"""Chapter 12: eligibility traces on the 19-state random walk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal

import numpy as np
from numba import njit

from rlkit.agents.td import TDLambda
from rlkit.mdp import FiniteMDP
from rlkit.ops import traces
from rlkit.tabular.planning import policy_values
from rlkit.tabular.seeds import run_seeds
from rlkit.types import Task
from textbook_figures.figure import Floats, Result, Scale, between, confidence, figure, near, task_for, tidy

LAMBDAS = (0.0, 0.4, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
STEP_SIZES = np.concatenate([[0.01, 0.02, 0.03, 0.04, 0.05, 0.075], np.round(np.arange(0.1, 1.001, 0.05), 2)])
EPISODES, RUNS = 10, 400
"""The book has 100 runs, which leave ± 0.011 at the lowest error."""
GREATEST = 10.0
"""An error above it counts as this much: TD(λ) diverges at large λ and α."""

_lambda_returns = njit(nogil=True)(traces.lambda_returns)


@figure("12.3", "off-line λ-return algorithm on the 19-state walk: error of the first 10 episodes by λ and α")
def offline_lambda_return(scale: Scale) -> Result:
    """The whole grid of λ and α, 400 runs of 10 episodes each; values change when an episode has ended."""
    errors = _offline_grid(scale)
    lam, alpha, lowest = _best(errors)
    return Result(
        [
            near("λ of the lowest error", 0.8, lam, 0, "figure 12.3"),
            near("α of the lowest error", 0.4, alpha, 0.1, "figure 12.3"),
            near("lowest RMS error", 0.255, lowest, 0.01, "figure 12.3"),
            near("lowest RMS error at λ = 0", 0.347, _lowest(errors, 0.0), 0.015, "TD(0), as n = 1 in figure 7.2"),
        ],
        lambda canvas: _draw(canvas, errors, "off-line λ-return algorithm"),
        _settings(errors),
        _curves(errors),
    )


@figure("12.6", "TD(λ) on the 19-state walk: error of the first 10 episodes by λ and α")
def td_lambda(scale: Scale) -> Result:
    """Accumulating traces: as good as the λ-return at small α, worse at large ones."""
    errors, offline = _grid("accumulating", scale), _offline_grid(scale)
    difference = _mean(errors, 0.8, 0.1) - _mean(offline, 0.8, 0.1)
    return Result(
        [
            near(
                "RMS error less the off-line λ-return's, λ = .8, α = .1",
                0,
                difference,
                0.01,
                "figure 12.6: nearly equal",
            ),
            near("λ of the lowest error", 0.8, _best(errors)[0], 0, "figure 12.6"),
            between("lowest RMS error", 0.25, 0.28, _best(errors)[2], "figure 12.6, read off"),
            between("RMS error at λ = .95, α = .4", 0.55, GREATEST, _mean(errors, 0.95, 0.4), "worse at large α"),
        ],
        lambda canvas: _draw(canvas, errors, "TD(λ), accumulating traces"),
        _settings(errors),
        _curves(errors),
    )


@figure("12.8", "true online TD(λ) on the 19-state walk: error of the first 10 episodes by λ and α")
def true_online_td_lambda(scale: Scale) -> Result:
    """Dutch traces: the on-line λ-return algorithm."""
    errors, offline = _grid("dutch", scale), _offline_grid(scale)
    lam, alpha, lowest = _best(errors)
    difference = (errors.mean(axis=2) - offline.mean(axis=2))[offline.mean(axis=2) < 0.5]
    zero = np.abs(errors[0].mean(axis=1) - offline[0].mean(axis=1)).max()
    return Result(
        [
            near("λ of the lowest error", 0.8, lam, 0, "figure 12.8"),
            near("α of the lowest error", 0.4, alpha, 0.1, "figure 12.8"),
            near("lowest RMS error", 0.255, lowest, 0.01, "figure 12.8"),
            between("mean of RMS less the off-line λ-return's", -0.03, 0, difference.mean(), "figure 12.8: not worse"),
            between("greatest difference from it at λ = 0", 0, 0.015, zero, "the same algorithm, other episodes"),
        ],
        lambda canvas: _draw(canvas, errors, "true online TD(λ), dutch traces"),
        _settings(errors),
        _curves(errors),
    )


def _walk() -> tuple[Task, Floats]:
    """The walk and its true values -0.9 … 0.9; NaN at the ends, which do not count."""
    task = task_for("rlkit/RandomWalk19-v0")
    assert task.model is not None
    truth = policy_values(task.model, 1.0, np.ones((21, 1)))
    truth[[0, -1]] = np.nan
    return task, truth


def _grid(kind: Literal["accumulating", "dutch"], scale: Scale) -> Floats:
    """Mean error over the first 10 episodes [λ, α, runs] of TD(λ) with traces of this kind."""
    task, truth = _walk()
    seeds = scale.runs(RUNS)
    errors = np.empty((len(LAMBDAS), len(STEP_SIZES), len(seeds)))
    for i, lam in enumerate(LAMBDAS):
        for j, alpha in enumerate(STEP_SIZES):
            config = TDLambda.Config(gamma=1.0, lam=lam, learning_rate=float(alpha), traces=kind)
            runs = run_seeds(TDLambda, config, task, seeds, episodes=EPISODES, reference=truth, threads=scale.threads)
            errors[i, j] = np.nan_to_num(runs.errors, nan=GREATEST).clip(max=GREATEST).mean(axis=1)
    return errors


@cache
def _offline_grid(scale: Scale) -> Floats:
    """The same of the off-line λ-return algorithm; every λ and α sees the same episodes."""
    task, truth = _walk()
    assert task.model is not None
    episodes = [_episodes(task.model, seed) for seed in scale.runs(RUNS)]
    _offline_error(*episodes[0], 0.5, 0.5, truth[1:-1])  # compile before the threads begin

    def one_run(run: tuple[Any, Any]) -> list[list[float]]:
        return [[_offline_error(*run, lam, alpha, truth[1:-1]) for alpha in STEP_SIZES] for lam in LAMBDAS]

    with ThreadPoolExecutor(scale.threads) as pool:
        return np.moveaxis(np.array(list(pool.map(one_run, episodes))), 0, 2)


def _episodes(model: FiniteMDP, seed: int) -> tuple[Any, Any]:
    """States of 10 episodes one after another, and where each begins (the last entry: where all end)."""
    rng = np.random.default_rng(seed)
    states, begins = [], [0]
    for _ in range(EPISODES):
        state = int(model.start.argmax())
        states.append(state)
        while 0 < state < model.num_states - 1:
            state += 1 if rng.random() < 0.5 else -1
            states.append(state)
        begins.append(len(states))
    return np.array(states), np.array(begins)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _offline_error(states: Any, begins: Any, lam: float, alpha: float, truth: Floats) -> float:
    """Mean RMS error after each episode, of equation 12.4: V(S_t) ← V(S_t) + α (G_t - V(S_t)) when an episode is over.

    G_t is computed with the values at that moment of the sequence, so that λ = 0 is TD(0), as the caption of figure
    12.8 has it. With all G_t from the values before the episode the lowest error is 0.005 higher; if V(S_t) too is the
    one before the episode, values diverge from α = 0.4 on.
    """
    values, total = np.zeros(len(truth) + 2), 0.0
    for episode in range(len(begins) - 1):
        path = states[begins[episode] : begins[episode + 1]]
        rewards = np.zeros(len(path) - 1)
        rewards[-1] = 1.0 if path[-1] > 0 else -1.0
        for step in range(len(rewards)):
            lambda_return = _lambda_returns(rewards[step:], values[path[step + 1 :]], 1.0, lam, True)[0]
            values[path[step]] += alpha * (lambda_return - values[path[step]])
        total += np.sqrt(np.mean((values[1:-1] - truth) ** 2))
    return total / (len(begins) - 1)


def _best(errors: Floats) -> tuple[float, float, float]:
    """λ and α of the lowest mean error, and that error."""
    means = errors.mean(axis=2)
    i, j = np.unravel_index(means.argmin(), means.shape)
    return LAMBDAS[i], float(STEP_SIZES[j]), float(means.min())


def _lowest(errors: Floats, lam: float) -> float:
    """Over α."""
    return float(errors[LAMBDAS.index(lam)].mean(axis=1).min())


def _mean(errors: Floats, lam: float, alpha: float) -> float:
    """Of all runs."""
    return float(errors[LAMBDAS.index(lam), int(np.abs(STEP_SIZES - alpha).argmin())].mean())


def _draw(canvas: Any, errors: Floats, title: str) -> None:
    axes = canvas.subplots()
    for i, lam in enumerate(LAMBDAS):
        mean, half = confidence(errors[i].T)
        (line,) = axes.plot(STEP_SIZES, mean, label=f"λ = {lam:g}", linewidth=1.4)
        axes.fill_between(STEP_SIZES, mean - half, mean + half, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlim=(0, 1), ylim=(0.22, 0.58))
    heading = f"{title}, 19-state walk, {errors.shape[2]} runs"
    tidy(axes, heading, "step size α", "RMS error of the first 10 episodes", legend=False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _settings(errors: Floats) -> dict[str, Any]:
    return {"seeds": errors.shape[2], "episodes": EPISODES, "initial value": 0.0}


def _curves(errors: Floats) -> dict[str, Any]:
    return {
        "lambda": list(LAMBDAS),
        "step_size": STEP_SIZES.tolist(),
        "rms": np.round(errors.mean(axis=2), 4).tolist(),
    }
