"""Policies over a table of action values: greedy, ε-greedy, softmax, upper confidence bound.

Pure functions of one state's values [A]; they compile with numba (`rlkit.tabular.rules`).
"""

from __future__ import annotations

import math

from rlkit.types import Array


def greedy_action(values: Array) -> int:
    """First action of greatest value."""
    best = 0
    for action in range(1, len(values)):
        if values[action] > values[best]:
            best = action
    return best


def greedy_ties(values: Array) -> int:
    """How many actions share the greatest value."""
    best, ties = values[0], 1
    for action in range(1, len(values)):
        if values[action] > best:
            best, ties = values[action], 1
        elif values[action] == best:
            ties += 1
    return ties


def nth_greedy_action(values: Array, nth: int) -> int:
    """The nth (from 0) of the actions that share the greatest value."""
    best = values[0]
    for action in range(1, len(values)):
        best = max(best, values[action])
    for action in range(len(values)):
        if values[action] == best:
            if nth == 0:
                return action
            nth -= 1
    return 0


def epsilon_greedy_probabilities(values: Array, epsilon: float, out: Array) -> None:
    """π(a) = ε/A + (1 - ε)/ties for greedy actions, ε/A for the others, into `out` [A]."""
    best, ties = values[0], 1
    for action in range(1, len(values)):
        if values[action] > best:
            best, ties = values[action], 1
        elif values[action] == best:
            ties += 1
    for action in range(len(values)):
        out[action] = epsilon / len(values)
        if values[action] == best:
            out[action] += (1.0 - epsilon) / ties


def softmax_probabilities(preferences: Array, out: Array) -> None:
    """π(a) = exp H(a) / Σ exp H (Sutton and Barto 2018, equations 2.11 and 13.2), into `out` [A]."""
    highest = preferences[0]
    for action in range(1, len(preferences)):
        highest = max(highest, preferences[action])
    total = 0.0
    for action in range(len(preferences)):
        out[action] = math.exp(preferences[action] - highest)
        total += out[action]
    for action in range(len(preferences)):
        out[action] /= total


def upper_confidence_bound(value: float, visits: int, steps: int, confidence: float) -> float:
    """Q + c √(ln t / N) (Sutton and Barto 2018, equation 2.10); infinite for an action never tried."""
    if visits == 0:
        return math.inf
    return value + confidence * math.sqrt(math.log(steps) / visits)


def drawn_action(probabilities: Array, drawn: float) -> int:
    """Action that a uniform number in [0, 1) draws from `probabilities` [A]."""
    total = 0.0
    last = 0
    for action in range(len(probabilities)):
        if probabilities[action] > 0.0:
            last = action
            total += probabilities[action]
            if drawn < total:
                return action
    return last
