"""Estimating a mean from samples, one at a time: the root of every method that learns from experience."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from rlkit.types import Array


def incremental_mean(mean: float, sample: float, step_size: float) -> float:
    """Mean + α (sample - mean); with α = 1/n the exact mean of n samples (Sutton and Barto 2018, equation 2.3).

    >>> incremental_mean(incremental_mean(0.0, 4.0, 1.0), 6.0, 0.5)
    5.0
    """
    return mean + step_size * (sample - mean)


def weighted_mean(mean: float, sample: float, weight: float, total_weight: float) -> float:
    """Mean after a sample of this weight; `total_weight` already counts it (Sutton and Barto 2018, equation 5.8)."""
    return mean + weight / total_weight * (sample - mean)


def robbins_monro(noisy: Callable[[float], float], start: float, step_sizes: Iterable[float]) -> Array:
    """Iterates of w ← w - α g(w) towards the root of an increasing function observed with noise, [T + 1].

    Robbins and Monro (1951), equation 6; converges for Σα = ∞, Σα² < ∞ and a bounded, positive slope.
    """
    iterates = [start]
    for step_size in step_sizes:
        iterates.append(iterates[-1] - step_size * noisy(iterates[-1]))
    return np.array(iterates)


def sgd_mean(samples: Array, start: Array, step_sizes: Iterable[float], batch_size: int = 1) -> Array:
    """Iterates of mini-batch gradient descent on E|w - X|²/2, whose minimum is the mean, [T + 1, D].

    `samples` [M, D], M a multiple of `batch_size`; one batch a step (Zhao 2025, chapter 6; Bottou et al. 2018).
    """
    iterates = [np.asarray(start, dtype=np.float64)]
    batches = samples.reshape(-1, batch_size, samples.shape[-1])
    for batch, step_size in zip(batches, step_sizes, strict=False):
        iterates.append(iterates[-1] - step_size * (iterates[-1] - batch.mean(axis=0)))
    return np.array(iterates)
