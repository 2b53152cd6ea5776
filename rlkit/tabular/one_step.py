"""One-step control and prediction: Q-learning, double Q-learning, Sarsa, expected Sarsa, TD(0), Dyna's planning."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, family, no_start
from rlkit.tabular.rules import bootstrap_target, double_q_target, incremental_mean, q_learning_target
from rlkit.tabular.tables import Tables, choose_action, count_update, expected_value

Q_LEARNING, EXPECTED, DOUBLE_Q, SARSA = 0, 1, 2, 3
"""How the target is made. Only SARSA needs the next action, so only SARSA updates a step later."""


class OneStep(NamedTuple):
    """The newest transition of each environment, and for SARSA the one before, which awaits its next action.

    `transition` int64 [N, 5]: state, action, next state, terminated, ended; `reward` [N]; `pending` int64 [N, 3]:
    whether there is one, its state, its action; `pending_reward` [N].
    """

    tables: Tables
    rule: int
    transition: Integers
    reward: Floats64
    pending: Integers
    pending_reward: Floats64


def one_step(tables: Tables, rule: int, num_envs: int) -> OneStep:
    """A learner by `rule`; the values are two tables for DOUBLE_Q."""
    return OneStep(
        tables, rule, np.zeros((num_envs, 5), np.int64), np.zeros(num_envs), np.zeros((num_envs, 3), np.int64),
        np.zeros(num_envs),
    )  # fmt: skip


@compiled
def _choose(learner: OneStep, state: int, is_first: bool, rng: np.random.Generator) -> int:
    return choose_action(learner.tables, state, rng)


@compiled
def _store(
    learner: OneStep, row: int, state: int, action: int, reward: float, next_state: int, terminated: bool, ended: bool
) -> None:
    stored = learner.transition
    stored[row, 0], stored[row, 1], stored[row, 2] = state, action, next_state
    stored[row, 3], stored[row, 4] = terminated, ended
    learner.reward[row] = reward


@compiled
def _learn(learner: OneStep, row: int, rng: np.random.Generator) -> int:
    stored, tables, reward = learner.transition, learner.tables, learner.reward[row]
    state, action, next_state, terminated = stored[row, 0], stored[row, 1], stored[row, 2], stored[row, 3] == 1
    if learner.rule != SARSA:
        update(tables, learner.rule, state, action, reward, next_state, terminated, rng)
        return OK
    pending = learner.pending
    if pending[row, 0] == 1:
        target = bootstrap_target(learner.pending_reward[row], tables.discount, tables.values[0, state, action])
        _move(tables, 0, pending[row, 1], pending[row, 2], target)
    if stored[row, 4] == 1:  # no action follows: bootstrap with the expected value, if the episode was only cut
        update(tables, EXPECTED, state, action, reward, next_state, terminated, rng)
        pending[row, 0] = 0
    else:
        pending[row, 0], pending[row, 1], pending[row, 2] = 1, state, action
        learner.pending_reward[row] = reward
    return OK


@compiled
def _move(tables: Tables, table: int, state: int, column: int, target: float) -> None:
    step_size = count_update(tables, table, state, column)
    tables.values[table, state, column] = incremental_mean(tables.values[table, state, column], target, step_size)


@compiled
def update(
    tables: Tables,
    rule: int,
    state: int,
    action: int,
    reward: float,
    next_state: int,
    terminated: bool,
    rng: np.random.Generator,
) -> None:
    """Move one entry towards its target by one of the rules that need no next action."""
    values = tables.values
    discount = 0.0 if terminated else tables.discount
    table = 0
    if rule == Q_LEARNING:
        target = q_learning_target(reward, discount, values[0, next_state])
    elif rule == EXPECTED:
        target = bootstrap_target(reward, discount, expected_value(tables, 0, next_state))
    else:
        table = int(rng.random() < 0.5)
        target = double_q_target(reward, discount, values[table, next_state], values[1 - table, next_state])
    _move(tables, table, state, action if values.shape[2] > 1 else 0, target)


family(OneStep, choose=_choose, store=_store, learn=_learn, next_start=no_start)
