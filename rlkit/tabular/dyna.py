"""Dyna-Q and Dyna-Q+ (Sutton and Barto 2018, sections 8.2 and 8.3): Q-learning that also plans.

The model remembers the last outcome of every pair. Dyna-Q+ adds κ√τ to simulated rewards and also imagines actions
never tried in states it has seen, as leading back with reward 0 (footnote of section 8.3).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, family, no_start
from rlkit.tabular.one_step import Q_LEARNING, update
from rlkit.tabular.rules import exploration_bonus
from rlkit.tabular.tables import Tables, choose_action


class Dyna(NamedTuple):
    """The learned model, and what awaits learning.

    `successor`, `ended`, `tried_at` int64 and `rewards` float64 [S, A] are the model (`tried_at` -1: never tried);
    `seen` int64 [S] lists states seen, `counts` int64 [1] how many; `transition` int64 [N, 4] and `reward` [N] await
    learning.
    """

    tables: Tables
    planning_steps: int
    kappa: float
    successor: Integers
    ended: Integers
    tried_at: Integers
    rewards: Floats64
    seen: Integers
    counts: Integers
    transition: Integers
    reward: Floats64


def dyna(tables: Tables, planning_steps: int, kappa: float, num_envs: int) -> Dyna:
    """A learner that plans `planning_steps` updates after each real one; Dyna-Q+ where `kappa` > 0."""
    states, actions = tables.values.shape[1:]
    shape = (states, actions)
    return Dyna(
        tables, planning_steps, kappa, np.zeros(shape, np.int64), np.zeros(shape, np.int64),
        np.full(shape, -1, np.int64), np.zeros(shape), np.zeros(states, np.int64), np.zeros(1, np.int64),
        np.zeros((num_envs, 4), np.int64), np.zeros(num_envs),
    )  # fmt: skip


@compiled
def _choose(learner: Dyna, state: int, is_first: bool, rng: np.random.Generator) -> int:
    return choose_action(learner.tables, state, rng)


@compiled
def _store(
    learner: Dyna, row: int, state: int, action: int, reward: float, next_state: int, terminated: bool, ended: bool
) -> None:
    stored = learner.transition
    stored[row, 0], stored[row, 1], stored[row, 2], stored[row, 3] = state, action, next_state, terminated
    learner.reward[row] = reward


@compiled
def _learn(learner: Dyna, row: int, rng: np.random.Generator) -> int:
    stored = learner.transition
    state, action, next_state, terminated = stored[row, 0], stored[row, 1], stored[row, 2], stored[row, 3]
    update(learner.tables, Q_LEARNING, state, action, learner.reward[row], next_state, terminated == 1, rng)
    _remember(learner, state, action, learner.reward[row], next_state, terminated)
    for _ in range(learner.planning_steps):
        _plan(learner, rng)
    return OK


@compiled
def _remember(learner: Dyna, state: int, action: int, reward: float, next_state: int, terminated: int) -> None:
    if _tried_actions(learner, state) == 0:
        learner.seen[learner.counts[0]] = state
        learner.counts[0] += 1
    learner.successor[state, action] = next_state
    learner.ended[state, action] = terminated
    learner.rewards[state, action] = reward
    learner.tried_at[state, action] = learner.tables.clock[0]


@compiled
def _tried_actions(learner: Dyna, state: int) -> int:
    tried = 0
    for action in range(learner.tables.num_actions):
        tried += learner.tried_at[state, action] >= 0
    return tried


@compiled
def _plan(learner: Dyna, rng: np.random.Generator) -> None:
    """One update from the model, of a random state seen and a random action taken there (Dyna-Q+: any action)."""
    state = learner.seen[int(rng.random() * learner.counts[0])]
    if learner.kappa > 0.0:
        action = int(rng.random() * learner.tables.num_actions)
    else:
        nth = int(rng.random() * _tried_actions(learner, state))
        action = 0
        while learner.tried_at[state, action] < 0 or nth > 0:
            nth -= learner.tried_at[state, action] >= 0
            action += 1
    reward, next_state, terminated = 0.0, state, False
    if learner.tried_at[state, action] >= 0:
        reward, next_state = learner.rewards[state, action], learner.successor[state, action]
        terminated = learner.ended[state, action] == 1
    if learner.kappa > 0.0:
        since = learner.tables.clock[0] - max(learner.tried_at[state, action], 0)
        reward += exploration_bonus(learner.kappa, since)
    update(learner.tables, Q_LEARNING, state, action, reward, next_state, terminated, rng)


family(Dyna, choose=_choose, store=_store, learn=_learn, next_start=no_start)
