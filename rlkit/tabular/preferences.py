"""REINFORCE over a table of preferences, with and without a baseline (Sutton and Barto 2018, sections 13.3 and 13.4).

Within an episode the parameters change from step to step, as in the book's boxes, and so do the probabilities.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, TOO_LONG, family, no_start
from rlkit.tabular.rules import bootstrap_target, drawn_action, softmax_probabilities
from rlkit.tabular.tables import Tables, count_update


class Preferences(NamedTuple):
    """Preferences, a baseline, and the episode of each environment so far, at most L steps.

    `tables.values` holds H(s, a); `baseline` [S] is V(s), learned with `baseline_step_size` (0: no baseline);
    `states`, `actions` int64, `rewards` float64 [N, L], `length` int64 [N]; `newest` int64 [N, 3]
    next state, terminated, ended; `scratch` [A].
    """

    tables: Tables
    baseline_step_size: float
    baseline: Floats64
    states: Integers
    actions: Integers
    rewards: Floats64
    length: Integers
    newest: Integers
    scratch: Floats64


def preferences(tables: Tables, baseline_step_size: float, num_envs: int, max_length: int) -> Preferences:
    """A learner from episodes of at most `max_length` steps."""
    shape = (num_envs, max_length)
    states, actions = tables.values.shape[1:]
    return Preferences(
        tables, baseline_step_size, np.zeros(states), np.zeros(shape, np.int64), np.zeros(shape, np.int64),
        np.zeros(shape), np.zeros(num_envs, np.int64), np.zeros((num_envs, 3), np.int64), np.zeros(actions),
    )  # fmt: skip


@compiled
def _choose(learner: Preferences, state: int, is_first: bool, rng: np.random.Generator) -> int:
    softmax_probabilities(learner.tables.values[0, state], learner.scratch)
    return drawn_action(learner.scratch, rng.random())


@compiled
def _store(
    learner: Preferences,
    row: int,
    state: int,
    action: int,
    reward: float,
    next_state: int,
    terminated: bool,
    ended: bool,
) -> None:
    step = learner.length[row]
    learner.length[row] += 1
    newest = learner.newest
    newest[row, 0], newest[row, 1], newest[row, 2] = next_state, terminated, ended
    if step < learner.states.shape[1]:
        learner.states[row, step], learner.actions[row, step] = state, action
        learner.rewards[row, step] = reward


@compiled
def _learn(learner: Preferences, row: int, rng: np.random.Generator) -> int:
    if learner.length[row] > learner.states.shape[1]:
        return TOO_LONG
    if learner.newest[row, 2] == 0:
        return OK
    rewards = learner.rewards
    tail = 0.0 if learner.newest[row, 1] == 1 else learner.baseline[learner.newest[row, 0]]
    for step in range(learner.length[row] - 1, -1, -1):  # rewards become returns
        tail = bootstrap_target(rewards[row, step], learner.tables.discount, tail)
        rewards[row, step] = tail
    discount = 1.0
    for step in range(learner.length[row]):
        _ascend(learner, learner.states[row, step], learner.actions[row, step], rewards[row, step], discount)
        discount *= learner.tables.discount
    learner.length[row] = 0
    return OK


@compiled
def _ascend(learner: Preferences, state: int, action: int, return_t: float, discount: float) -> None:
    """θ ← θ + α γᵗ (G - V(S)) ∇ ln π(A | S), where the gradient is 1{a = A} - π(a | S), equations 13.8 and 13.11."""
    tables = learner.tables
    advantage = return_t - learner.baseline[state]
    if learner.baseline_step_size > 0.0:
        learner.baseline[state] += learner.baseline_step_size * advantage
    step_size = count_update(tables, 0, state, action)
    softmax_probabilities(tables.values[0, state], learner.scratch)
    for other in range(tables.num_actions):
        score = (1.0 if other == action else 0.0) - learner.scratch[other]
        tables.values[0, state, other] += step_size * discount * advantage * score


family(Preferences, choose=_choose, store=_store, learn=_learn, next_start=no_start)
