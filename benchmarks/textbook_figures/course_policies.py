"""Softmax policies over preferences θ(s, a) on the course grid, many seeds at once: what chapters 9 and 10 share."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlkit.mdp import FiniteMDP
from rlkit.tabular.planning import optimal_action_values
from textbook_figures.course_grid import GAMMA, course_model
from textbook_figures.figure import Check, Floats, near

HARSH = {"reward_boundary": -10.0, "reward_forbidden": -10.0}
"""Rewards with which a wrong step costs more than the target gives."""
BEST = {"mild": 7.80, "harsh": 6.02}
"""Mean of the 25 optimal values with rewards of -1 and of -10, from the two tables of grid_world_course.md."""
MODELS: dict[str, dict[str, Any]] = {"mild": {}, "harsh": HARSH}


def softmax(preferences: Floats) -> Floats:
    """π(a | s) = exp θ(s, a) / Σ exp θ(s, ·), over the last axis."""
    powers = np.exp(preferences - preferences.max(axis=-1, keepdims=True))
    policy: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return policy


def log_gradient(policy: Floats, actions: Any) -> Floats:
    """∇ ln π(A | s) by θ(s, ·), [K, A]: 1{a = A} - π(a | s)."""
    return np.eye(policy.shape[1])[actions] - policy


def drawn(policy: Floats, rng: np.random.Generator) -> Any:
    """An action of every row of `policy` [K, A], int64 [K]."""
    below = policy.cumsum(axis=1) < rng.random((len(policy), 1))
    return below.sum(axis=1).clip(max=policy.shape[1] - 1)


def values_of(model: FiniteMDP, policies: Floats) -> Floats:
    """State values [..., S] of policies [..., S, A], exactly: v = (I - γ P)⁻¹ r."""
    transition = np.einsum("...sa,sat->...st", policies, model.transition_matrix())
    reward = (policies * model.expected_reward()).sum(axis=-1)
    values: Floats = np.linalg.solve(np.eye(model.num_states) - GAMMA * transition, reward[..., None])[..., 0]
    return values


def greedy(preferences: Floats) -> Floats:
    """The deterministic policies [..., S, A] that take the likeliest action."""
    return np.eye(preferences.shape[-1])[preferences.argmax(axis=-1)]


def best_mean(rewards: str) -> float:
    """Mean of the 25 optimal values, by value iteration."""
    return float(optimal_action_values(course_model(**MODELS[rewards]), GAMMA).max(axis=1).mean())


def optimum(rewards: str) -> Check:
    """That value iteration gives the optimal values of the reference."""
    return near(f"mean of v*, {rewards}", BEST[rewards], best_mean(rewards), 0.005, "grid_world_course.md")
