"""One-step methods: semi-gradient TD(0), Sarsa, expected Sarsa, Q-learning, differential Sarsa.

Sutton and Barto (2018), sections 9.3, 10.1 and 10.3. Only the values of the state just left are moved, along their
gradient x; the target is taken for a constant, which is what makes the gradient a semi-gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.linear.rules import sparse_dot
from rlkit.linear.weights import (
    WEIGHTS,
    Linear,
    add,
    choose_action,
    count_update,
    expected_value,
    keep,
    move,
    state_value,
    value,
)
from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, family, no_start
from rlkit.tabular.rules import bootstrap_target

Q_LEARNING, EXPECTED, SARSA, DIFFERENTIAL = 0, 1, 2, 3
"""How the target is made. SARSA and DIFFERENTIAL need the next action, so they update a step later."""


class LinearOneStep(NamedTuple):
    """The newest transition of each environment, and for Sarsa the one before, which awaits its next action.

    `scratch_transition` int64 [N, 5]: slot, action, next slot, terminated, ended; `reward` [N]; `pending` int64 [N, 2]:
    whether there is one, its action; `pending_reward` [N]; `pending_indices` int64, `pending_values` [N, K] the code of
    its state. `average` [1] is the mean reward R̄ of DIFFERENTIAL, learned with `average_rate` β.
    """

    linear: Linear
    rule: int
    average_rate: float
    scratch_transition: Integers
    reward: Floats64
    pending: Integers
    pending_reward: Floats64
    pending_indices: Integers
    pending_values: Floats64
    average: Floats64


def one_step(linear: Linear, rule: int, num_envs: int, average_rate: float = 0.0) -> LinearOneStep:
    """A learner by `rule`."""
    shape = (num_envs, linear.features.active)
    return LinearOneStep(
        linear, rule, average_rate, np.zeros((num_envs, 5), np.int64), np.zeros(num_envs),
        np.zeros((num_envs, 2), np.int64), np.zeros(num_envs), np.zeros(shape, np.int64), np.zeros(shape), np.zeros(1),
    )  # fmt: skip


@compiled
def _choose(learner: LinearOneStep, state: int, is_first: bool, rng: np.random.Generator) -> int:
    return choose_action(learner.linear, state, rng)


@compiled
def _store(
    learner: LinearOneStep,
    row: int,
    state: int,
    action: int,
    reward: float,
    next_state: int,
    terminated: bool,
    ended: bool,
) -> None:
    stored = learner.scratch_transition
    stored[row, 0], stored[row, 1], stored[row, 2] = state, action, next_state
    stored[row, 3], stored[row, 4] = terminated, ended
    learner.reward[row] = reward


@compiled
def _learn(learner: LinearOneStep, row: int, rng: np.random.Generator) -> int:
    stored, linear, pending = learner.scratch_transition, learner.linear, learner.pending
    slot, action = stored[row, 0], stored[row, 1]
    if learner.rule == Q_LEARNING or learner.rule == EXPECTED:
        _update_now(learner, row)
        return OK
    if pending[row, 0] == 1:
        _update_pending(learner, row, value(linear, action, slot))
    if stored[row, 4] == 1:  # no action follows: bootstrap with the expected value, if the episode was only cut
        _update_now(learner, row)
        pending[row, 0] = 0
    else:
        pending[row, 0], pending[row, 1] = 1, action
        learner.pending_reward[row] = learner.reward[row]
        keep(linear, slot, row, learner.pending_indices, learner.pending_values)
    return OK


@compiled
def _update_now(learner: LinearOneStep, row: int) -> None:
    """Update by the newest transition, whose target needs no next action."""
    linear, stored = learner.linear, learner.scratch_transition
    slot, next_slot = stored[row, 0], stored[row, 2]
    column = stored[row, 1] if linear.weights.shape[0] > 1 else 0
    following = 0.0
    if stored[row, 3] == 0:
        greedy = learner.rule == Q_LEARNING
        following = state_value(linear, next_slot) if greedy else expected_value(linear, next_slot)
    target = bootstrap_target(learner.reward[row] - learner.average[0], linear.discount, following)
    error = target - value(linear, column, slot)
    _move_average(learner, error)
    move(linear, column, slot, count_update(linear) * error)


@compiled
def _update_pending(learner: LinearOneStep, row: int, following: float) -> None:
    """Update by the transition before, whose next action has the value `following`."""
    linear, column = learner.linear, learner.pending[row, 1]
    indices, values = learner.pending_indices[row], learner.pending_values[row]
    target = bootstrap_target(learner.pending_reward[row] - learner.average[0], linear.discount, following)
    error = target - sparse_dot(linear.weights[column], indices, values)
    _move_average(learner, error)
    add(linear, column, indices, values, count_update(linear) * error)


@compiled
def _move_average(learner: LinearOneStep, error: float) -> None:
    """R̄ ← R̄ + β δ, section 10.3; R̄ stays 0 in the other rules."""
    learner.average[0] += learner.average_rate * error


family(LinearOneStep, choose=_choose, store=_store, learn=_learn, next_start=no_start, memory=WEIGHTS)
