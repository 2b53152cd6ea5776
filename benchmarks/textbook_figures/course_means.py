"""Zhao (2025), chapters 5 and 6: the estimation of means, Robbins–Monro, stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rlkit.ops.means import incremental_mean, robbins_monro, sgd_mean
from textbook_figures.figure import Floats, Result, Scale, band, confidence, figure, near, tidy

SAMPLES = 1000
NOISE = 1.0
"""Standard deviation of the noise on tanh(w - 1)."""
BATCHES = (1, 5, 50)
WIDTH = 20.0
"""Side of the square that the samples of the last panel are uniform on."""


@figure("course-means", "Means from samples, Robbins–Monro, stochastic and mini-batch gradient descent")
def means(scale: Scale) -> Result:
    """Distance from the truth by step, 500 runs each."""
    seeds = scale.runs(500, least=20)
    running = {
        "α = 1/k": np.array([_running_mean(seed, lambda k: 1.0 / k) for seed in seeds]),
        "α = 0.05": np.array([_running_mean(seed, lambda k: 0.05) for seed in seeds]),
    }
    roots = {f"start {start:g}": np.array([_root(seed, start) for seed in seeds]) for start in (-1.0, 1.0, 3.0)}
    descents = {f"batch of {size}": np.array([_descent(seed, size) for seed in seeds]) for size in BATCHES}
    squared = (running["α = 1/k"] ** 2).mean(axis=0)
    spread = (running["α = 0.05"][:, -1] ** 2).mean()
    counts = np.array([10, 100, SAMPLES])
    checks = [
        near("mean of k samples: k · squared error, mean over k = 10, 100, 1000",
             1.0, (counts * squared[counts]).mean(), 0.25, "variance / k"),
        near("constant α = 0.05: squared error at the end", 0.05 / 1.95, spread, 0.006, "α / (2 - α)"),
        *(near(f"root of tanh(w - 1), {name}: mean of the last iterate", 1.0, curve[:, -1].mean(), 0.05, "root")
          for name, curve in roots.items()),
        *(near(f"{name}: T · squared distance at the end", WIDTH**2 / 6 / size,
               SAMPLES * (descents[f"batch of {size}"][:, -1] ** 2).mean(), 0.2 * WIDTH**2 / 6 / size,
               "variance / batch") for size, name in zip(BATCHES, descents, strict=True)),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(10.0, 3.6)
        left, middle, right = canvas.subplots(1, 3)
        _logarithmic(left, {name: abs(curve) for name, curve in running.items()})
        for name, curve in roots.items():
            band(middle, np.arange(SAMPLES + 1), curve, name)
        middle.axhline(1.0, color="0.4", linestyle="--", linewidth=1.0)
        middle.set_xlim(0, 200)
        _logarithmic(right, descents)
        tidy(left, "mean of k samples", "k", "|w - mean|")
        tidy(middle, "Robbins–Monro: tanh(w - 1) = 0", "step", "w")
        tidy(right, "gradient descent to a mean", "step", "distance")

    settings = {"seeds": len(seeds), "samples": SAMPLES, "noise": NOISE,
                "step sizes": "1/k everywhere but for α = 0.05; 4/(k + 3) for tanh"}  # fmt: skip
    shown = np.unique(np.geomspace(1, SAMPLES, 40).astype(int))
    curves = {name: np.round(np.abs(curve - shift).mean(axis=0)[shown], 5).tolist()
              for group, shift in ((running, 0.0), (roots, 1.0), (descents, 0.0))
              for name, curve in group.items()}  # fmt: skip
    return Result(checks, draw, settings, {"step": shown.tolist()} | curves)


def _running_mean(seed: int, step_size: Callable[[int], float]) -> Floats:
    """Estimates of the mean 0 of standard normal samples, [T + 1], from the estimate 5."""
    estimates = [5.0]
    for k, sample in enumerate(np.random.default_rng(seed).normal(size=SAMPLES), 1):
        estimates.append(incremental_mean(estimates[-1], float(sample), step_size(k)))
    return np.array(estimates)


def _root(seed: int, start: float) -> Floats:
    """Iterates towards the root 1 of tanh(w - 1), seen with noise, [T + 1]."""
    rng = np.random.default_rng(seed)
    step_sizes = [4.0 / (k + 3) for k in range(1, SAMPLES + 1)]
    return robbins_monro(lambda w: float(np.tanh(w - 1.0) + NOISE * rng.normal()), start, step_sizes)


def _descent(seed: int, size: int) -> Floats:
    """Distances from the mean of points in a square, by mini-batch gradient descent from its corner, [T + 1]."""
    samples = np.random.default_rng(seed).uniform(-WIDTH / 2, WIDTH / 2, size=(SAMPLES * size, 2))
    iterates = sgd_mean(samples, np.full(2, WIDTH / 2), [1.0 / k for k in range(1, SAMPLES + 1)], size)
    return np.linalg.norm(iterates, axis=1)


def _logarithmic(axes: Any, curves: dict[str, Floats]) -> None:
    """Mean curves with bands on two logarithmic axes; the axis of steps begins at 1."""
    for name, curve in curves.items():
        mean, half = confidence(curve[:, 1:])
        steps = np.arange(1, curve.shape[1])
        (line,) = axes.loglog(steps, mean, label=name, linewidth=1.4)
        axes.fill_between(steps, mean - half, mean + half, color=line.get_color(), alpha=0.2, linewidth=0)
