"""Eligibility traces, and the λ-return they compute (Sutton and Barto 2018, chapter 12)."""

from __future__ import annotations

import numpy as np

from rlkit.types import Array


def accumulating_trace(trace: float) -> float:
    """Z + 1 for the entry visited (after all have decayed by γλ), equation 12.5."""
    return trace + 1.0


def replacing_trace(trace: float) -> float:
    """1 for the entry visited (Singh and Sutton 1996)."""
    return 1.0


def dutch_trace(trace: float, step_size: float) -> float:
    """Z + 1 - α z for the entry visited, z already decayed by γλ: equation 12.11 with one-hot features."""
    return trace + 1.0 - step_size * trace


def lambda_returns(rewards: Array, next_values: Array, discount: float, lam: float, terminated: bool) -> Array:
    """λ-returns G_t [T] of one episode, equation 12.20 backwards: R + γ ((1 - λ) V(S') + λ G').

    `rewards` [T]; `next_values` [T] of the true successors; the last one counts only where not `terminated`.
    """
    returns = np.empty(len(rewards))
    following = 0.0 if terminated else float(next_values[-1])
    for t in range(len(rewards) - 1, -1, -1):
        last = t == len(rewards) - 1
        value = 0.0 if last and terminated else float(next_values[t])
        following = rewards[t] + discount * (value if last else (1.0 - lam) * value + lam * following)
        returns[t] = following
    return returns
