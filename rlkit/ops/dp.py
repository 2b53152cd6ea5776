"""Dynamic programming over the outcome lists of `rlkit.mdp.FiniteMDP` (Sutton and Barto 2018, chapter 4; Zhao 2025).

`pair` is s·A + a, and its outcomes are the entries first[pair] … first[pair + 1]. Pure; compile with numba.
"""

from __future__ import annotations

from rlkit.types import Array


def action_value(
    first: Array,
    probability: Array,
    next_state: Array,
    reward: Array,
    terminated: Array,
    values: Array,
    discount: float,
    pair: int,
) -> float:
    """Σ p(s', r | s, a) (r + γ V(s')), equation 4.6; a terminated outcome has no next value. `values` [S]."""
    total = 0.0
    for outcome in range(first[pair], first[pair + 1]):
        following = 0.0 if terminated[outcome] else values[next_state[outcome]]
        total += probability[outcome] * (reward[outcome] + discount * following)
    return total
