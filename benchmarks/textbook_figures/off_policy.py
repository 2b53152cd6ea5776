"""Chapter 11: off-policy prediction on Baird's counterexample, where values are 0 and features could say so.

Figures are numbered as printed; drafts of the book, and rl_libraries.md after them, call 11.5 and 11.6 figures 11.6 and
11.7. What stands here as 11.7 is no figure of the book: the methods from samples, side by side.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rlkit.agents.linear_prediction import EmphaticTD, LinearGTD2, LinearTDC
from rlkit.linear.expected import Problem, dynamic_programming_sweep, emphatic_sweep, problem, tdc_sweep
from rlkit.types import Task
from textbook_figures.figure import Floats, Result, Scale, between, figure, near, task_for, tidy

STEPS, GAMMA = 1000, 0.99
FEATURES = np.hstack([np.diag([2.0] * 6 + [1.0]), np.array([[1.0]] * 6 + [[2.0]])])
START = (1.0,) * 6 + (10.0, 1.0)
TRUTH = np.zeros(7)
POLICIES: dict[str, Any] = {"policy": "always-1", "behaviour": f"{6 / 7!r},{1 / 7!r}"}
"""The solid action is learned about, the dashed one is taken six times out of seven."""
SLIGHTEST = 1e-12
"""Step size of second weights that stay at 0: TDC without a correction is semi-gradient off-policy TD."""
METHODS: dict[str, tuple[Any, dict[str, float]]] = {
    "semi-gradient TD, α = 0.01": (LinearTDC, {"learning_rate": 0.01, "second_learning_rate": SLIGHTEST}),
    "TDC, α = 0.005, β = 0.05": (LinearTDC, {"learning_rate": 0.005, "second_learning_rate": 0.05}),
    "GTD2, α = 0.005, β = 0.05": (LinearGTD2, {"learning_rate": 0.005, "second_learning_rate": 0.05}),
    "emphatic TD, α = 0.003": (EmphaticTD, {"learning_rate": 0.003}),
}
COLOURS = ("#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b", "#31a354", "#de2d26")


@cache
def _baird() -> tuple[Task, Problem]:
    """The environment, and the problem with every state as likely as it is under the behaviour."""
    task = task_for("rlkit/Baird-v0")
    assert task.model is not None
    solid = np.tile([0.0, 1.0], (7, 1))
    return task, problem(task.model, FEATURES, solid, GAMMA, np.full(7, 1.0 / 7.0))


@figure("11.2", "semi-gradient TD and dynamic programming diverge on Baird's counterexample")
def divergence(scale: Scale) -> Result:
    """Weights by step with α = 0.01: one run of TD from samples, and expected updates of all states at once."""
    _, expected = _baird()
    (agent, options), seeds = METHODS["semi-gradient TD, α = 0.01"], scale.runs(100)
    sampled = np.array([_weights(agent, options, seed) for seed in seeds])
    swept = [np.array(START)]
    for _ in range(STEPS):
        swept.append(dynamic_programming_sweep(expected, swept[-1], 0.01))
    last = swept[-1]
    matrix = expected.features.T @ (GAMMA * expected.transition - np.eye(7)) @ expected.features / 7.0

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.5, 4.0)
        left, right = canvas.subplots(1, 2, sharey=True)
        _draw_weights(left, sampled[0])
        _draw_weights(right, np.array(swept))
        tidy(left, "semi-gradient off-policy TD, one run", "step", "weight", legend=False)
        tidy(right, "semi-gradient dynamic programming", "sweep", "")

    return Result(
        [
            near("w8 after 1000 sweeps", 335.001, last[7], 0.001, "rl_libraries.md 3e"),
            near("w7", 6.850, last[6], 0.001, "3e"),
            near("mean of w1 … w6", 114.434, last[:6].mean(), 0.001, "3e"),
            near("greatest eigenvalue of the expected update", 0.23925, np.linalg.eigvals(matrix).real.max(), 1e-5,
                 "3e: above 0, so it diverges"),
            between("TD from samples: median of w8 after 1000 steps", 50, 2000, np.median(sampled[:, -1, 7]),
                    "figure 11.2: diverges at about the same pace"),
        ],
        draw,
        {"seeds": len(seeds), "learning_rate": 0.01, "gamma": GAMMA, "start": START},
        {"step": _steps(), "w8, sweeps": _short(np.array(swept)[:, 7]), "w8, one run": _short(sampled[0, :, 7])},
    )  # fmt: skip


@figure("11.5", "TDC on Baird's counterexample: one run, and in expectation (11.6 in drafts)")
def gradient_correction(scale: Scale) -> Result:
    """α = 0.005, β = 0.05. The projected Bellman error goes to 0 and the weights stay far from 0."""
    _, expected = _baird()
    sampled = _weights(*METHODS["TDC, α = 0.005, β = 0.05"], seed=0)
    weights, second = np.array(START), np.zeros(8)
    swept = [weights.copy()]
    for _ in range(STEPS):
        tdc_sweep(expected, weights, second, 0.005, 0.05)
        swept.append(weights.copy())

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.5, 4.0)
        left, right = canvas.subplots(1, 2, sharey=True)
        for axes, run in ((left, sampled), (right, np.array(swept))):
            _draw_weights(axes, run)
            axes.plot([expected.rmse(each, TRUTH) for each in run], color="black", linewidth=1.4, label="√VE")
            axes.plot([_projected_error(each) for each in run], "k--", linewidth=1.2, label="√PBE")
            axes.axhline(0.0, color="0.6", linewidth=0.8)
        tidy(left, "TDC, one run", "step", "weight, error", legend=False)
        tidy(right, "TDC in expectation", "sweep", "", legend=False)
        right.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)

    last = swept[-1]
    return Result(
        [
            near("√VE after 1000 expected sweeps", 1.9355, expected.rmse(last, TRUTH), 1e-4, "rl_libraries.md 3e"),
            near("mean of w1 … w6", 2.1355, last[:6].mean(), 1e-3, "3e"),
            near("w7", 6.628, last[6], 1e-3, "3e"),
            near("w8", -2.338, last[7], 1e-3, "3e"),
            between("√PBE over that of the start", 0.0, 0.02, _projected_error(last) / _projected_error(swept[0]),
                    "figure 11.5: falls to zero"),
            between("one run: √VE after 1000 steps", 1.0, 3.5, expected.rmse(sampled[-1], TRUTH), "figure 11.5"),
            between("one run: √PBE after 1000 steps", 0.0, 0.5, _projected_error(sampled[-1]), "figure 11.5"),
        ],
        draw,
        {"seed": 0, "learning_rate": 0.005, "second_learning_rate": 0.05, "gamma": GAMMA, "start": START},
        {"step": _steps(), "√VE in expectation": _short(np.array([expected.rmse(each, TRUTH) for each in swept]))},
    )  # fmt: skip


@figure("11.6", "emphatic TD on Baird's counterexample, in expectation (11.7 in drafts)")
def emphatic(scale: Scale) -> Result:
    """One-step emphatic TD with α = 0.03: the values go to 0."""
    _, expected = _baird()
    weights, emphasis = np.array(START), np.zeros(7)
    swept = [weights.copy()]
    for _ in range(STEPS):
        emphatic_sweep(expected, weights, emphasis, 0.03)
        swept.append(weights.copy())
    errors = [expected.rmse(each, TRUTH) for each in swept]

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        _draw_weights(axes, np.array(swept))
        axes.plot(errors, color="black", linewidth=1.4, label="√VE")
        axes.axhline(0.0, color="0.6", linewidth=0.8)
        tidy(axes, "one-step emphatic TD in expectation, α = 0.03", "sweep", "weight, error")

    last = swept[-1]
    return Result(
        [
            between("√VE after 1000 sweeps", 0.0, 1e-12, errors[-1], "rl_libraries.md 3e"),
            near("mean of w1 … w6", 1.6923, last[:6].mean(), 1e-4, "3e"),
            near("w7", 6.7692, last[6], 1e-4, "3e"),
            near("w8", -3.3846, last[7], 1e-4, "3e"),
        ],
        draw,
        {"learning_rate": 0.03, "gamma": GAMMA, "start": START},
        {"step": _steps(), "√VE": _short(np.array(errors))},
    )


@figure("11.7", "off-policy methods from samples on Baird's counterexample: √VE by step (not in the book)")
def from_samples(scale: Scale) -> Result:
    """Medians and quartiles of 100 runs.

    Emphatic TD does not work here: its followon trace is small nearly always and huge now and then, so that most runs
    never see what the mean is made of (section 11.8). Nor did it with α = 0.03 (1000 steps) and 0.0003 (30,000).
    """
    _, expected = _baird()
    seeds = scale.runs(100)
    errors = {name: np.array([_errors(expected, agent, options, seed) for seed in seeds])
              for name, (agent, options) in METHODS.items()}  # fmt: skip
    first = expected.rmse(np.array(START), TRUTH)
    weights, emphasis, expectation = np.array(START), np.zeros(7), [first]
    for _ in range(STEPS):
        emphatic_sweep(expected, weights, emphasis, 0.003)
        expectation.append(expected.rmse(weights, TRUTH))
    diverged, tdc, gtd2, unsteady = (float(np.median(runs[:, -1])) for runs in errors.values())

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for name, runs in errors.items():
            low, middle, high = np.quantile(runs, (0.25, 0.5, 0.75), axis=0)
            (line,) = axes.semilogy(middle, label=name, linewidth=1.4)
            axes.fill_between(np.arange(STEPS + 1), low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.plot(expectation, "C3--", linewidth=1.0, label="emphatic TD in expectation")
        tidy(axes, f"Baird's counterexample, medians and quartiles of {len(seeds)} runs", "step", "√VE")

    return Result(
        [
            between("semi-gradient TD: median √VE over the first one", 10, 1e4, diverged / first, "diverges"),
            between("TDC: median √VE over the first one", 0.0, 0.5, tdc / first, "about 2, as in expectation"),
            between("GTD2: median √VE over the first one", 0.0, 0.5, gtd2 / first, "as TDC"),
            between("emphatic TD: median √VE over that in expectation", 5, 1000, unsteady / expectation[-1],
                    "section 11.8: nothing consistent from samples"),
        ],
        draw,
        {"seeds": len(seeds), "gamma": GAMMA, "start": START},
        {"step": _steps()} | {name: _short(np.median(runs, axis=0)) for name, runs in errors.items()},
    )  # fmt: skip


def _weights(agent: Any, options: dict[str, float], seed: int) -> Floats:
    """Weights before and after each of 1000 steps, [1001, 8]."""
    task, _ = _baird()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "features.csv"
        np.savetxt(file, FEATURES, delimiter=",")
        config = agent.Config(
            features="given", feature_file=str(file), gamma=GAMMA, initial_weights=START, **POLICIES, **options
        )
        trained = agent(config, replace(task, seed=seed))
    found = [trained.weights[0].copy()]
    for _ in range(STEPS):
        trained.advance(1, 1)
        found.append(trained.weights[0].copy())
    return np.array(found)


def _errors(expected: Problem, agent: Any, options: dict[str, float], seed: int) -> list[float]:
    """√VE before and after each of 1000 steps."""
    return [expected.rmse(weights, TRUTH) for weights in _weights(agent, options, seed)]


def _projected_error(weights: Floats) -> float:
    """√PBE: length of the projection of the expected TD errors on what the features can say (section 11.4)."""
    _, expected = _baird()
    errors = expected.errors(weights)
    return float(np.sqrt(expected.distribution @ (expected.features @ expected.best(errors)) ** 2))


def _draw_weights(axes: Any, run: Floats) -> None:
    for i, (weights, colour) in enumerate(zip(run.T, COLOURS, strict=True), start=1):
        axes.plot(weights, color=colour, linewidth=1.0 if i < 7 else 1.4, label=f"w{i}" if i in (1, 6, 7, 8) else None)


def _steps() -> list[int]:
    return list(range(0, STEPS + 1, 50))


def _short(curve: Floats) -> list[float]:
    short: list[float] = np.round(curve[::50], 4).tolist()
    return short
