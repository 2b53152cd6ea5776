"""Targets of temporal-difference learning (Sutton and Barto 2018, chapters 6 and 7).

Time suffixes as in the book: the transition is S_t, A_t, R_t1, S_t1. All functions are pure, work on plain numpy arrays
and compile with numba (`rlkit.tabular.rules`). `discount` is γ, or 0 where the episode terminated.
"""

from __future__ import annotations

from rlkit.types import Array


def q_learning_target(reward_t1: float, discount: float, values_t1: Array) -> float:
    """R + γ max_a Q(S', a), equation 6.8; `values_t1` [A].

    >>> import numpy as np
    >>> q_learning_target(1.0, 0.5, np.array([0.0, 4.0]))
    3.0
    """
    best = values_t1[0]
    for action in range(1, len(values_t1)):
        best = max(best, values_t1[action])
    return reward_t1 + discount * best


def double_q_target(reward_t1: float, discount: float, selecting_t1: Array, evaluating_t1: Array) -> float:
    """R + γ Q₂(S', argmax_a Q₁(S', a)), equation 6.10 (van Hasselt 2010); both [A]; the first of equal maxima."""
    best = 0
    for action in range(1, len(selecting_t1)):
        if selecting_t1[action] > selecting_t1[best]:
            best = action
    return reward_t1 + discount * evaluating_t1[best]


def expected_target(reward_t1: float, discount: float, probabilities_t1: Array, values_t1: Array) -> float:
    """R + γ Σ_a π(a | S') Q(S', a), equation 6.9; both [A]."""
    expected = 0.0
    for action in range(len(values_t1)):
        expected += probabilities_t1[action] * values_t1[action]
    return reward_t1 + discount * expected


def bootstrap_target(reward_t1: float, discount: float, value_t1: float) -> float:
    """R + γ V(S'), equation 6.2; also Sarsa's, with Q(S', A') as the value (equation 6.7)."""
    return reward_t1 + discount * value_t1


def tree_backup_return(
    reward_t1: float, discount: float, value_t1: float, probability_t1: float, action_value_t1: float, return_t1: float
) -> float:
    """One step of the tree backup, backwards in time, equation 7.16.

    R + γ (Σ_{a ≠ A'} π(a | S') Q(S', a) + π(A' | S') G'), where `value_t1` is Σ_a π(a | S') Q(S', a).
    """
    return reward_t1 + discount * (value_t1 + probability_t1 * (return_t1 - action_value_t1))


def q_sigma_return(
    reward_t1: float,
    discount: float,
    value_t1: float,
    weight_t1: float,
    action_value_t1: float,
    return_t1: float,
) -> float:
    """One step of Q(σ), backwards in time, equation 7.17; `weight_t1` is σ ρ + (1 - σ) π(A' | S')."""
    return reward_t1 + discount * (weight_t1 * (return_t1 - action_value_t1) + value_t1)


def exploration_bonus(kappa: float, steps_since_tried: float) -> float:
    """κ √τ, which Dyna-Q+ adds to simulated rewards (Sutton and Barto 2018, section 8.3)."""
    return kappa * steps_since_tried**0.5
