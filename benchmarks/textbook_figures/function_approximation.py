"""Chapter 9: on-policy prediction with features, on the 1000-state random walk.

VE is the mean square value error weighted by μ, how often the walk is in each state (equation 9.1). The numbers that
rl_libraries.md (3e) read off for figures 9.5 and 9.10 are of RMS errors over states, which weigh all states alike; both
are measured. Those of 9.10 were made with step sizes that fall to 0 (1 over the number of the episode). All steps of an
episode move towards the same return, so that a run's values go up and down together: single runs tell little.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from rlkit.agents.linear_prediction import GradientMC, LinearNStepTD, LinearTD
from rlkit.linear.expected import Problem, problem
from rlkit.tabular.planning import policy_values
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

STATES, EPISODES, POINT = 1000, 5000, 50
"""States of the walk; episodes of figures 9.5 and 9.10, which are measured every 50 episodes."""
WALK: dict[str, Any] = {"gamma": 1.0, "low": (1.0,), "high": (1000.0,)}
TEN_GROUPS: dict[str, Any] = {**WALK, "features": "aggregation", "groups": (10,)}
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
STEP_SIZES = np.concatenate([[0.01, 0.025, 0.05, 0.075], np.round(np.arange(0.1, 1.001, 0.05), 2)])
PLAIN = ((1, 0.8, 0.352), (4, 0.4, 0.288), (8, 0.2, 0.305))
"""n, α and RMS error of n-step TD by a few lines of numpy that share nothing with rlkit (standard errors 0.002)."""
PLAIN_BASES = {
    ("polynomial", 5): 0.132, ("polynomial", 10): 0.126, ("polynomial", 20): 0.121,
    ("Fourier", 5): 0.059, ("Fourier", 10): 0.060, ("Fourier", 20): 0.062,
}  # fmt: skip
"""√VE after 5000 episodes, made likewise, 200 runs (standard errors 0.003; of a single run 0.03 to 0.04)."""
GREATEST = 10.0
"""An error above it counts as this much."""
ORDERS = (5, 10, 20)
BASES: dict[str, dict[str, Any]] = {
    "polynomial": {**WALK, "features": "polynomial", "polynomial_range": "unit", "learning_rate": 1e-4},
    "Fourier": {**WALK, "features": "fourier", "learning_rate": 5e-5},
}
TILINGS: dict[str, dict[str, Any]] = {
    "state aggregation (one tiling)": {"num_tilings": 1, "learning_rate": 1e-4},
    "tile coding (50 tilings)": {"num_tilings": 50, "learning_rate": 1e-4},
    "50 tilings, α from 0.003 / 50 to 0": {
        "num_tilings": 50, "learning_rate": 3e-3, "learning_rate_schedule": "linear",
    },
}  # fmt: skip
PLAIN_TILINGS = dict(zip(TILINGS, (0.1146, 0.0714, 0.0523), strict=True))
"""√VE after 5000 episodes, made likewise (standard errors up to 0.002)."""
MEAN_LENGTH = 83.15
"""Steps of an episode, from the model."""


@dataclass(frozen=True)
class Walk:
    """The walk and its true values [1002]; `seen` μ [1002], 0 at the ends."""

    task: Task
    truth: Floats
    seen: Floats

    def problem(self, agent: Any) -> Problem:
        """What the agent's features can do here."""
        assert self.task.model is not None
        return problem(self.task.model, agent.feature_matrix(), np.ones((STATES + 2, 1)), 1.0, self.seen)

    def error(self, agent: Any) -> float:
        """√VE of an agent."""
        return self.problem(agent).rmse(agent.weights[0], self.truth)


@dataclass(frozen=True)
class Runs:
    """Runs of gradient Monte Carlo: √VE [runs, points]; in the end RMS error over states [runs], weights [runs, F]."""

    errors: Floats
    evenly: Floats
    weights: Floats
    task: Problem

    @property
    def last(self) -> float:
        """Mean √VE in the end."""
        return float(self.errors[:, -1].mean())


@cache
def long_walk() -> Walk:
    """Solved once."""
    task = task_for("rlkit/RandomWalk1000-v0")
    assert task.model is not None
    policy = np.ones((STATES + 2, 1))
    seen = problem(task.model, np.eye(STATES + 2), policy, 1.0).distribution
    return Walk(task, policy_values(task.model, 1.0, policy), seen)


@figure("9.1", "gradient Monte Carlo with ten groups of states on the 1000-state walk")
def state_aggregation(scale: Scale) -> Result:
    """100,000 episodes with α = 2e-5, beside the true values and μ; ten runs, of which the first is drawn.

    A run's values go up and down together by about 0.02 even with this step size: its error is 0.055 to 0.067.
    """
    walk, seeds = long_walk(), scale.runs(10)
    config = GradientMC.Config(**TEN_GROUPS, learning_rate=2e-5)
    runs = run_seeds(GradientMC, config, walk.task, seeds, episodes=100_000, threads=scale.threads)
    agents: Any = runs.agents
    trained: Any
    trained, *_ = agents
    task, weights = walk.problem(trained), np.array([agent.weights[0] for agent in agents])
    errors = [task.rmse(each, walk.truth) for each in weights]

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        states = np.arange(1, STATES + 1)
        axes.plot(states, walk.truth[1:-1], color="0.3", linewidth=1.2, label="true values")
        axes.plot(states, trained.state_values()[1:-1], color="C3", linewidth=1.4, label="gradient Monte Carlo")
        axes.set_ylim(-1, 1)
        tidy(axes, "state aggregation, 100,000 episodes, α = 2e-5", "state", "value")
        right = axes.twinx()
        right.fill_between(states, 100 * walk.seen[1:-1], color="C0", alpha=0.3, linewidth=1.0)
        right.set(ylim=(0, 2.8), yticks=[0, 0.17, 1.37], ylabel="μ in % of steps")
        right.spines[["top"]].set_visible(False)

    return Result(
        [
            *_truths(walk),
            near("mean length of an episode", MEAN_LENGTH, runs.lengths.mean(), 0.2, "rl_libraries.md 3e"),
            near("√VE of the best ten values", 0.0544, task.rmse(task.best(walk.truth), walk.truth), 1e-4, "3e"),
            near("√VE of the run drawn", 0.0544, errors[0], 0.005, "3e: the best ten values"),
            near("√VE of the runs' mean values", 0.0544, task.rmse(weights.mean(axis=0), walk.truth), 0.005, "3e"),
        ],
        draw,
        {"seeds": len(seeds), "episodes": 100_000, "learning_rate": 2e-5, "groups": 10},
        {"values of the groups": np.round(weights[0], 4).tolist(), "√VE of the runs": np.round(errors, 4).tolist()},
    )  # fmt: skip


def _truths(walk: Walk) -> list[Check]:
    """True values and μ, from the model."""
    known = {1: -0.92196, 250: -0.47270, 500: -0.00094, 1000: 0.92196}
    percent = 100 * walk.seen
    return [
        *(near(f"v({state})", value, walk.truth[state], 1e-5, "3e, from the model") for state, value in known.items()),
        near("μ(500) in %", 1.37, percent[500], 0.01, "example 9.1"),
        near("μ(499) in %", 0.17, percent[499], 0.01, "example 9.1"),
        near("μ(1) in %", 0.0147, percent[1], 0.0005, "example 9.1"),
    ]


@figure("9.2", "TD with groups of states on the 1000-state walk: where TD(0) settles, and n-step TD by n and α")
def bootstrapping(scale: Scale) -> Result:
    """Left 300,000 episodes of TD(0) and ten groups; right 20 groups of 50, 100 runs of 10 episodes.

    After 100,000 episodes TD(0) would, in expectation, still be at √VE 0.1143: the slowest direction takes that long.
    """
    walk = long_walk()
    trained: Any = LinearTD(LinearTD.Config(**TEN_GROUPS, learning_rate=2e-4), replace(walk.task, seed=0))
    trained.advance(10**9, 300_000)
    task = walk.problem(trained)
    fixed = task.fixed_point()
    errors = _n_step_errors(walk, scale)
    means = errors.mean(axis=2)
    best = np.unravel_index(means.argmin(), means.shape)
    off = np.abs(task.features @ fixed - walk.truth)[1:-1]
    worse = float(off[:100].mean() / np.abs(task.features @ task.best(walk.truth) - walk.truth)[1:101].mean())

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.5, 4.0)
        left, right = canvas.subplots(1, 2)
        states = np.arange(1, STATES + 1)
        left.plot(states, walk.truth[1:-1], color="0.3", linewidth=1.2, label="true values")
        left.plot(states, trained.state_values()[1:-1], color="C3", linewidth=1.4, label="TD(0), α = 2e-4")
        left.plot(states, (task.features @ fixed)[1:-1], "C0:", linewidth=1.4, label="fixed point, from the model")
        tidy(left, "TD(0), ten groups, 300,000 episodes", "state", "value")
        for i, n in enumerate(LENGTHS):
            band_mean, half = confidence(errors[i].T)
            (line,) = right.plot(STEP_SIZES, band_mean, label=f"n = {n}", linewidth=1.4)
            right.fill_between(
                STEP_SIZES, band_mean - half, band_mean + half, color=line.get_color(), alpha=0.2, linewidth=0
            )
        right.set(xlim=(0, 1), ylim=(0.22, 0.58))
        heading = f"n-step TD, 20 groups, first 10 episodes, {errors.shape[2]} runs"
        tidy(right, heading, "step size α", "RMS error over states", legend=False)
        right.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))

    return Result(
        [
            near("√VE of the fixed point", 0.1167, task.rmse(fixed, walk.truth), 1e-4, "rl_libraries.md 3e"),
            near("√VE of TD(0)", 0.1167, walk.error(trained), 0.005, "3e: the fixed point"),
            between("greatest difference of TD(0) from the fixed point", 0.0, 0.05,
                    np.abs(trained.weights[0] - fixed).max(), "section 9.4: settles there"),
            between("its error in the first group over gradient Monte Carlo's", 1.5, 10.0, worse,
                    "figure 9.2: biased towards the middle"),
            near("n of the lowest error", 4, LENGTHS[best[0]], 0, "figure 9.2: as figure 7.2"),
            *(near(f"RMS error at n = {n}, α = {alpha}", rms, _at(means, n, alpha), 0.012, "a plain program, 300 runs")
              for n, alpha, rms in PLAIN),
        ],
        draw,
        {"seeds": errors.shape[2], "learning_rate of TD(0)": 2e-4, "best step size": float(STEP_SIZES[best[1]])},
        {"n": list(LENGTHS), "step_size": STEP_SIZES.tolist(), "rms": np.round(means, 4).tolist()},
    )  # fmt: skip


def _n_step_errors(walk: Walk, scale: Scale) -> Floats:
    """Mean over the first 10 episodes of the RMS error over all states, each counting once, [n, α, runs]."""
    seeds, truth = scale.runs(100), walk.truth.copy()
    truth[[0, -1]] = np.nan
    errors = np.empty((len(LENGTHS), len(STEP_SIZES), len(seeds)))
    for i, n in enumerate(LENGTHS):
        for j, alpha in enumerate(STEP_SIZES):
            config = LinearNStepTD.Config(**WALK, features="aggregation", groups=(20,), n=n, learning_rate=float(alpha))
            runs = run_seeds(
                LinearNStepTD, config, walk.task, seeds, episodes=10, reference=truth, threads=scale.threads
            )
            errors[i, j] = np.nan_to_num(runs.errors, nan=GREATEST).clip(max=GREATEST).mean(axis=1)
    return errors


def _at(means: Floats, n: int, alpha: float) -> float:
    return float(means[LENGTHS.index(n), int(np.abs(STEP_SIZES - alpha).argmin())])


@figure("9.5", "Fourier basis against polynomials on the 1000-state walk: √VE by episode")
def fourier_and_polynomials(scale: Scale) -> Result:
    """Gradient Monte Carlo, 5000 episodes, 30 runs; α = 1e-4 for polynomials, 5e-5 for the Fourier basis."""
    walk, seeds = long_walk(), scale.runs(30)
    configs = {
        (basis, order): GradientMC.Config(**options, order=order)
        for basis, options in BASES.items()
        for order in ORDERS
    }
    runs_of = {key: _curves(walk, config, seeds, scale.threads) for key, config in configs.items()}
    fourier, polynomial = ([runs_of[basis, order].last for order in ORDERS] for basis in ("Fourier", "polynomial"))

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        shades = {"polynomial": ("#fdae6b", "#e6550d", "#7f2704"), "Fourier": ("#9ecae1", "#4292c6", "#08306b")}
        for (basis, order), runs in runs_of.items():
            band(axes, _points(), runs.errors, f"{basis}, order {order}", shades[basis][ORDERS.index(order)])
        axes.set(xlim=(0, EPISODES), ylim=(0, 0.45))
        tidy(axes, f"1000-state walk, {len(seeds)} runs", "episodes", "√VE")

    return Result(
        [
            *(near(f"{basis}, order {order}: √VE after 5000 episodes", PLAIN_BASES[basis, order], runs.last, 0.02,
                   "a plain program, 200 runs") for (basis, order), runs in runs_of.items()),
            between("polynomials: mean RMS error over states", 0.12, 0.2,
                    float(np.mean([runs_of["polynomial", order].evenly for order in ORDERS])), "3e, of a single run"),
            *(_as_expected(f"{basis}, order {order}", walk, configs[basis, order], runs)
              for (basis, order), runs in runs_of.items()),
            between("worst Fourier basis over best polynomials, √VE", 0.0, 0.6, max(fourier) / min(polynomial),
                    "figure 9.5: Fourier is much better"),
        ],
        draw,
        {"seeds": len(seeds), "episodes": EPISODES, "learning_rate": {"polynomial": 1e-4, "Fourier": 5e-5}},
        {"episode": _points()[::5].tolist()} | {f"{b} {o}": _short(runs) for (b, o), runs in runs_of.items()},
    )  # fmt: skip


@figure("9.10", "one tiling against fifty on the 1000-state walk: √VE by episode")
def tilings(scale: Scale) -> Result:
    """Tiles of 200 states, tilings displaced by 4; gradient Monte Carlo, α = 1e-4 over the number of tilings."""
    walk, seeds = long_walk(), scale.runs(30)
    configs = {
        name: GradientMC.Config(**WALK, features="tiles", tiles=(5,), **options) for name, options in TILINGS.items()
    }
    runs_of = {name: _curves(walk, config, seeds, scale.threads) for name, config in configs.items()}
    one, fifty, falling = TILINGS
    task = runs_of[one].task

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for name, runs in runs_of.items():
            band(axes, _points(), runs.errors, name)
        axes.set(xlim=(0, EPISODES), ylim=(0, 0.45))
        tidy(axes, f"1000-state walk, tiles of 200 states, {len(seeds)} runs", "episodes", "√VE")

    return Result(
        [
            near("√VE of the best five values", 0.1049, task.rmse(task.best(walk.truth), walk.truth), 1e-4, "3e"),
            *(_as_expected(name, walk, configs[name], runs_of[name]) for name in (one, fifty)),
            *(
                near(
                    f"{name}: √VE after 5000 episodes",
                    PLAIN_TILINGS[name],
                    runs.last,
                    0.012,
                    "a plain program, 200 runs",
                )
                for name, runs in runs_of.items()
            ),
            near("one tiling: RMS error over states", 0.13, runs_of[one].evenly.mean(), 0.02, "3e, of a single run"),
            between(
                "50 tilings, falling α: RMS error over states less 0.03, in standard deviations",
                -2.0,
                2.0,
                (runs_of[falling].evenly.mean() - 0.03) / runs_of[falling].evenly.std(),
                "3e, of a single run",
            ),
            between(
                "√VE of 50 tilings over that of one", 0.0, 0.7, runs_of[fifty].last / runs_of[one].last, "figure 9.10"
            ),
        ],
        draw,
        {"seeds": len(seeds), "episodes": EPISODES, "learning_rate": "1e-4 / tilings", "tile": 200, "displacement": 4},
        {"episode": _points()[::5].tolist()} | {name: _short(runs) for name, runs in runs_of.items()},
    )


def _points() -> Floats:
    """Episodes after which the error is measured."""
    return np.arange(0.0, EPISODES + 1, POINT)


def _curves(walk: Walk, config: Any, seeds: range, threads: int) -> Runs:
    """Gradient Monte Carlo with every seed, measured after 0, 50, …, 5000 episodes."""
    task = replace(walk.task, total_steps=round(EPISODES * MEAN_LENGTH))
    weighted = walk.problem(GradientMC(config, task))
    evenly = replace(weighted, distribution=np.where(walk.seen > 0, 1.0 / STATES, 0.0))

    def one_run(seed: int) -> tuple[list[float], Floats]:
        trained: Any = GradientMC(config, replace(task, seed=seed))
        errors = [weighted.rmse(trained.weights[0], walk.truth)]
        for _ in _points()[1:]:
            trained.advance(10**9, POINT)
            errors.append(weighted.rmse(trained.weights[0], walk.truth))
        return errors, trained.weights[0]

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(one_run, seeds))
    weights = np.array([each for _, each in found])
    last = np.array([evenly.rmse(each, walk.truth) for each in weights])
    return Runs(np.array([errors for errors, _ in found]), last, weights, weighted)


def _as_expected(name: str, walk: Walk, config: Any, runs: Runs) -> Check:
    """√VE of the runs' mean values against what expected updates reach in 5000 episodes.

    In expectation an episode moves the weights by α L Σ μ(s) (v(s) - w · x(s)) x(s), but for terms in α²; L is its mean
    length.
    """
    agent: Any = GradientMC(config, walk.task)
    task, weights = runs.task, np.zeros(runs.weights.shape[1])
    step_size = float(agent.linear.step_size.initial) * MEAN_LENGTH
    for _ in range(EPISODES):
        weights += step_size * (walk.seen * (walk.truth - task.features @ weights)) @ task.features
    expected, measured = (task.rmse(each, walk.truth) for each in (weights, runs.weights.mean(axis=0)))
    return near(f"{name}: √VE of the runs' mean values", round(expected, 4), measured, 0.015, "expected updates")


def _short(runs: Runs) -> list[float]:
    """The mean curve, every 250 episodes."""
    short: list[float] = np.round(runs.errors.mean(axis=0)[::5], 4).tolist()
    return short
