"""Importance sampling: returns of one policy, estimated from episodes of another (Sutton and Barto 2018, chapter 5)."""

from __future__ import annotations


def importance_ratio(target_probability: float, behaviour_probability: float) -> float:
    """ρ = π(A | S) / b(A | S), equation 5.3; 0 where the target never acts so."""
    if target_probability == 0.0:
        return 0.0
    return target_probability / behaviour_probability


def per_decision_return(reward_t1: float, discount: float, ratio_t: float, return_t1: float) -> float:
    """G̃ = ρ_t (R + γ G̃'), backwards in time: every reward weighted only by the decisions before it, equation 5.14."""
    return ratio_t * (reward_t1 + discount * return_t1)
