"""MC Basic (Zhao 2025, algorithm 5.1): policy iteration with the model replaced by episodes of a fixed length.

From every state and action in turn, `repeats` episodes of L steps follow the greedy policy; their mean return is the
action's value. After the last pair the policy becomes greedy, and the next iteration begins.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, TOO_LONG, WRONG_START, family
from rlkit.tabular.rules import greedy_action, incremental_mean
from rlkit.tabular.tables import Tables

_MAX_STEPS = 10_000
"""Steps after which an episode that does not end is an error, where the environment itself is stepped."""


class Basic(NamedTuple):
    """Where the method is in its round through all states and actions.

    `starts` int64 [M] states to begin in; `chosen` int64 [S] the policy's action; `progress` int64 [4]: index of the
    start, action, repeat, iteration; `sums` [2]: return so far and the discount of the next reward; `steps` int64 [2]:
    steps of the episode (negative when it has ended), and whether it counts: 0 for the very first, which begins where
    the environment likes, 1 for all others, 2 where an environment did not begin in the state it was told.
    """

    tables: Tables
    length: int
    repeats: int
    starts: Integers
    chosen: Integers
    progress: Integers
    sums: Floats64
    steps: Integers


def basic(tables: Tables, starts: Integers, length: int, repeats: int) -> Basic:
    """A learner whose first policy takes action 0 everywhere."""
    chosen = np.zeros(tables.values.shape[1], np.int64)
    first = np.zeros(4, np.int64)
    return Basic(tables, length, repeats, starts, chosen, first, np.array([0.0, 1.0]), np.zeros(2, np.int64))


@compiled
def _choose(learner: Basic, state: int, is_first: bool, rng: np.random.Generator) -> int:
    if is_first and learner.steps[1] == 1:
        return learner.progress[1]
    return learner.chosen[state]


@compiled
def _next_start(learner: Basic, rng: np.random.Generator) -> int:
    """Where the episode after this one begins."""
    following = learner.progress[0]
    if learner.steps[1] == 1 and _is_last_of_start(learner):
        following = (following + 1) % len(learner.starts)
    return learner.starts[following]


@compiled
def _is_last_of_start(learner: Basic) -> bool:
    progress = learner.progress
    return progress[2] + 1 == learner.repeats and progress[1] + 1 == learner.tables.num_actions


@compiled
def _store(
    learner: Basic, row: int, state: int, action: int, reward: float, next_state: int, terminated: bool, ended: bool
) -> None:
    if learner.steps[0] < learner.length:
        learner.sums[0] += learner.sums[1] * reward
        learner.sums[1] *= learner.tables.discount
    if learner.steps[0] == 0 and learner.steps[1] == 1 and state != learner.starts[learner.progress[0]]:
        learner.steps[1] = 2
    learner.steps[0] += 1
    if ended:
        learner.steps[0] = -learner.steps[0]


@compiled
def _learn(learner: Basic, row: int, rng: np.random.Generator) -> int:
    if learner.steps[1] == 2:
        return WRONG_START
    if learner.steps[0] > 0:
        return OK if learner.steps[0] < _MAX_STEPS else TOO_LONG
    if learner.steps[1] == 1:
        _finish_episode(learner)
    learner.sums[0], learner.sums[1] = 0.0, 1.0
    learner.steps[0], learner.steps[1] = 0, 1
    return OK


@compiled
def _finish_episode(learner: Basic) -> None:
    tables, progress = learner.tables, learner.progress
    state, action = learner.starts[progress[0]], progress[1]
    step_size = 1.0 / (progress[2] + 1)
    tables.values[0, state, action] = incremental_mean(tables.values[0, state, action], learner.sums[0], step_size)
    tables.visits[state, action] += 1
    progress[2] += 1
    if progress[2] == learner.repeats:
        progress[2] = 0
        progress[1] += 1
    if progress[1] == tables.num_actions:
        progress[1] = 0
        progress[0] += 1
    if progress[0] == len(learner.starts):
        progress[0] = 0
        progress[3] += 1
        for i in range(len(learner.starts)):
            state = learner.starts[i]
            learner.chosen[state] = greedy_action(tables.values[0, state])


family(Basic, choose=_choose, store=_store, learn=_learn, next_start=_next_start)
