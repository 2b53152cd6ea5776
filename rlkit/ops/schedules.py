"""Schedules of exploration and step size by number, so that they compile; the names are beside the numbers."""

from __future__ import annotations

EXPLORATION_KINDS = ("constant", "linear", "exponential", "inverse")
"""ε by env steps: constant; linear or exponential to a final value; ε/k in episode k, not below the final value."""
STEP_SIZE_KINDS = ("constant", "sample-average", "robbins-monro", "linear")
"""α: constant; 1/n; α/n^ω with 1/2 < ω ≤ 1; linear to zero over the run. n counts updates of the same entry."""


def scheduled_epsilon(kind: int, initial: float, final: float, horizon: float, step: int, episode: int) -> float:
    """ε at env step `step` (from 0) of episode `episode` (from 0); `horizon` in env steps.

    >>> scheduled_epsilon(1, 1.0, 0.1, 100.0, 50, 0)
    0.55
    """
    if kind == 1:
        return final + (initial - final) * max(1.0 - step / horizon, 0.0)
    if kind == 2:
        return max(initial * (final / initial) ** min(step / horizon, 1.0), final)
    if kind == 3:
        return max(initial / (episode + 1), final)
    return initial


def scheduled_step_size(kind: int, initial: float, exponent: float, horizon: float, visits: int, step: int) -> float:
    """α for the `visits`-th update (from 1) of an entry, at env step `step`.

    Robbins and Monro (1951) ask for Σα = ∞ and Σα² < ∞: 1/n and α/n^ω with 1/2 < ω ≤ 1 keep to it, constants do not.
    """
    if kind == 1:
        return 1.0 / visits
    if kind == 2:
        return initial / visits**exponent
    if kind == 3:
        return initial * max(1.0 - step / horizon, 0.0)
    return initial
