"""One-step control and prediction: Q-learning, double Q-learning, expected Sarsa, TD(0), and Dyna's planning."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, family, no_start
from rlkit.tabular.rules import bootstrap_target, double_q_target, incremental_mean, q_learning_target
from rlkit.tabular.tables import Tables, choose_action, count_update, expected_value

Q_LEARNING, EXPECTED, DOUBLE_Q = 0, 1, 2


class OneStep(NamedTuple):
    """`transition` int64 [N, 5] holds state, action, next state, terminated, ended; `reward` [N]."""

    tables: Tables
    rule: int
    transition: Integers
    reward: Floats64


def one_step(tables: Tables, rule: int, num_envs: int) -> OneStep:
    """A learner by `rule`; the values are two tables for DOUBLE_Q."""
    return OneStep(tables, rule, np.zeros((num_envs, 5), np.int64), np.zeros(num_envs))


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
    stored = learner.transition
    update(learner.tables, learner.rule, stored[row, 0], stored[row, 1], learner.reward[row], stored[row, 2],
           stored[row, 3] == 1, rng)  # fmt: skip
    return OK


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
) -> float:
    """Move one entry towards its target; the TD error."""
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
    column = action if values.shape[2] > 1 else 0
    error = target - values[table, state, column]
    step_size = count_update(tables, state, column)
    values[table, state, column] = incremental_mean(values[table, state, column], target, step_size)
    return error


family(OneStep, choose=_choose, store=_store, learn=_learn, next_start=no_start)
