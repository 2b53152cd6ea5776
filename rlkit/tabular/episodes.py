"""Monte Carlo methods (Sutton and Barto 2018, chapter 5): returns of whole episodes, on- and off-policy.

An episode that a time limit cut is bootstrapped with the table's value of its last state (BOOTSTRAP), taken as if it
had ended there (END), or dropped (DROP).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, TOO_LONG, family
from rlkit.tabular.rules import (
    bootstrap_target,
    importance_ratio,
    incremental_mean,
    per_decision_return,
    weighted_mean,
)
from rlkit.tabular.tables import (
    Tables,
    behaviour_probability,
    choose_action,
    count_update,
    expected_value,
    target_probability,
)

WEIGHTINGS = ("none", "ordinary", "weighted", "per-decision")
_NONE, _ORDINARY, _WEIGHTED, _PER_DECISION = 0, 1, 2, 3
TRUNCATIONS = ("bootstrap", "end", "drop")
_BOOTSTRAP, _END, _DROP = 0, 1, 2


class Episodes(NamedTuple):
    """The episode of each environment so far, at most L steps.

    `states`, `actions` int64, `rewards`, `behaviour` float64 [N, L], the last holding b(A | S); `length` int64 [N];
    `newest` int64 [N, 3]: next state, terminated, ended; `total_weight` [S, C] for weighted importance sampling;
    `first_seen` int64 [S, C] the step of an entry's first visit in the episode; `starts` int64 [M] states that
    exploring starts draw from.
    """

    tables: Tables
    weighting: int
    first_visit: bool
    truncation: int
    exploring_starts: bool
    states: Integers
    actions: Integers
    rewards: Floats64
    behaviour: Floats64
    length: Integers
    newest: Integers
    total_weight: Floats64
    first_seen: Integers
    starts: Integers


def episodes(
    tables: Tables,
    *,
    num_envs: int,
    max_length: int,
    weighting: int = _NONE,
    first_visit: bool = True,
    truncation: int = _BOOTSTRAP,
    exploring_starts: bool = False,
    starts: Integers | None = None,
) -> Episodes:
    """A learner from episodes of at most `max_length` steps."""
    shape, entries = (num_envs, max_length), tables.visits.shape
    return Episodes(
        tables, weighting, first_visit, truncation, exploring_starts, np.zeros(shape, np.int64),
        np.zeros(shape, np.int64), np.zeros(shape), np.ones(shape), np.zeros(num_envs, np.int64),
        np.zeros((num_envs, 3), np.int64), np.zeros(entries), np.full(entries, -1, np.int64),
        np.zeros(0, np.int64) if starts is None else starts,
    )  # fmt: skip


@compiled
def _choose(learner: Episodes, state: int, is_first: bool, rng: np.random.Generator) -> int:
    if learner.exploring_starts and is_first:
        return int(rng.random() * learner.tables.num_actions)
    return choose_action(learner.tables, state, rng)


@compiled
def _next_start(learner: Episodes, rng: np.random.Generator) -> int:
    if len(learner.starts) == 0:
        return -1
    return learner.starts[int(rng.random() * len(learner.starts))]


@compiled
def _store(
    learner: Episodes, row: int, state: int, action: int, reward: float, next_state: int, terminated: bool, ended: bool
) -> None:
    step = learner.length[row]
    learner.length[row] += 1
    newest = learner.newest
    newest[row, 0], newest[row, 1], newest[row, 2] = next_state, terminated, ended
    if step >= learner.states.shape[1]:
        return  # `learn` tells
    learner.states[row, step], learner.actions[row, step] = state, action
    learner.rewards[row, step] = reward
    if learner.weighting != _NONE:
        learner.behaviour[row, step] = behaviour_probability(learner.tables, state, action)


@compiled
def _learn(learner: Episodes, row: int, rng: np.random.Generator) -> int:
    if learner.length[row] > learner.states.shape[1]:
        return TOO_LONG
    if learner.newest[row, 2] == 0:
        return OK
    truncated = learner.newest[row, 1] == 0
    if not (truncated and learner.truncation == _DROP):
        tail = 0.0
        if truncated and learner.truncation == _BOOTSTRAP:
            tail = expected_value(learner.tables, 0, learner.newest[row, 0])
        _note_first_visits(learner, row)
        _learn_backwards(learner, row, tail)
    learner.length[row] = 0
    return OK


@compiled
def _note_first_visits(learner: Episodes, row: int) -> None:
    columns = learner.tables.values.shape[2]
    for step in range(learner.length[row] - 1, -1, -1):
        column = learner.actions[row, step] if columns > 1 else 0
        learner.first_seen[learner.states[row, step], column] = step


@compiled
def _learn_backwards(learner: Episodes, row: int, tail: float) -> None:
    """From the last step to the first: the return G, and the product W of the ratios of the steps that follow."""
    tables = learner.tables
    control = tables.values.shape[2] > 1
    value_return, decided_return, weight = tail, tail, 1.0
    for step in range(learner.length[row] - 1, -1, -1):
        state, action, reward = learner.states[row, step], learner.actions[row, step], learner.rewards[row, step]
        column = action if control else 0
        counts = not learner.first_visit or learner.first_seen[state, column] == step
        value_return = bootstrap_target(reward, tables.discount, value_return)
        if learner.weighting == _NONE:
            if counts:
                _average(tables, state, column, value_return)
            continue
        if control:  # the first action is given, so its own ratio does not count
            if counts:
                after = bootstrap_target(reward, tables.discount, decided_return)
                _average_weighted(learner, state, column, value_return, after, weight)
            ratio = importance_ratio(target_probability(tables, state, action), learner.behaviour[row, step])
            weight *= ratio
            decided_return = per_decision_return(reward, tables.discount, ratio, decided_return)
        else:
            ratio = importance_ratio(target_probability(tables, state, action), learner.behaviour[row, step])
            weight *= ratio
            decided_return = per_decision_return(reward, tables.discount, ratio, decided_return)
            if counts:
                _average_weighted(learner, state, column, value_return, decided_return, weight)


@compiled
def _average(tables: Tables, state: int, column: int, sample: float) -> None:
    step_size = count_update(tables, 0, state, column)
    tables.values[0, state, column] = incremental_mean(tables.values[0, state, column], sample, step_size)


@compiled
def _average_weighted(
    learner: Episodes, state: int, column: int, value_return: float, decided_return: float, weight: float
) -> None:
    """One sample by the chosen kind of importance sampling."""
    tables = learner.tables
    if learner.weighting == _ORDINARY:
        _average(tables, state, column, weight * value_return)
    elif learner.weighting == _PER_DECISION:
        _average(tables, state, column, decided_return)
    elif weight > 0.0:
        count_update(tables, 0, state, column)
        learner.total_weight[state, column] += weight
        tables.values[0, state, column] = weighted_mean(
            tables.values[0, state, column], value_return, weight, learner.total_weight[state, column]
        )


family(Episodes, choose=_choose, store=_store, learn=_learn, next_start=_next_start)
