"""Methods with eligibility traces (Sutton and Barto 2018, chapter 12): TD(λ), Sarsa(λ), Watkins's Q(λ).

Only entries visited in this episode have a trace, so only these are stored and updated; nothing is cut off. Dutch
traces come with the correction that makes them true online TD(λ) (van Seijen and Sutton 2014, equations 12.11f.).
Sarsa(λ) updates when the next action is known; at a time limit it bootstraps with the expected value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, family, no_start
from rlkit.tabular.rules import (
    accumulating_trace,
    bootstrap_target,
    dutch_trace,
    q_learning_target,
    replacing_trace,
)
from rlkit.tabular.tables import Tables, best_value, choose_action, count_update, expected_value

ON_POLICY, WATKINS = 0, 1
TRACE_KINDS = ("accumulating", "replacing", "dutch")
_ACCUMULATING, _REPLACING, _DUTCH = 0, 1, 2


class Eligibility(NamedTuple):
    """Traces of each environment.

    `trace` float64 [N, S·C]; `active` int64 [N, S·C] lists entries with a trace, `active_count` int64 [N] says how
    many; `pending` int64 [N, 6]: state, action, next state, terminated, ended of the newest transition and whether it
    awaits its update; `arrived` int64 [N, 5] the transition just stored; `rewards` [N, 2] of both; `old_value` [N] for
    dutch traces.
    """

    tables: Tables
    rule: int
    kind: int
    lam: float
    trace: Floats64
    active: Integers
    active_count: Integers
    pending: Integers
    arrived: Integers
    rewards: Floats64
    old_value: Floats64


def eligibility(tables: Tables, rule: int, kind: int, lam: float, num_envs: int) -> Eligibility:
    """A learner by `rule` with traces of `kind` (its number in TRACE_KINDS)."""
    entries = tables.values.shape[1] * tables.values.shape[2]
    return Eligibility(
        tables, rule, kind, lam, np.zeros((num_envs, entries)), np.zeros((num_envs, entries), np.int64),
        np.zeros(num_envs, np.int64), np.zeros((num_envs, 6), np.int64), np.zeros((num_envs, 5), np.int64),
        np.zeros((num_envs, 2)), np.zeros(num_envs),
    )  # fmt: skip


@compiled
def _choose(learner: Eligibility, state: int, is_first: bool, rng: np.random.Generator) -> int:
    return choose_action(learner.tables, state, rng)


@compiled
def _store(
    learner: Eligibility,
    row: int,
    state: int,
    action: int,
    reward: float,
    next_state: int,
    terminated: bool,
    ended: bool,
) -> None:
    arrived = learner.arrived
    arrived[row, 0], arrived[row, 1], arrived[row, 2] = state, action, next_state
    arrived[row, 3], arrived[row, 4] = terminated, ended
    learner.rewards[row, 1] = reward


@compiled
def _learn(learner: Eligibility, row: int, rng: np.random.Generator) -> int:
    tables, arrived, pending = learner.tables, learner.arrived, learner.pending
    state, action = arrived[row, 0], arrived[row, 1]
    control = tables.values.shape[2] > 1
    if learner.rule == WATKINS and tables.values[0, state, action] < best_value(tables, state):
        _forget(learner, row)  # an exploratory action: what follows says nothing about the greedy policy
    if pending[row, 5] == 1:
        _update(learner, row, tables.values[0, state, action])
    for i in range(5):
        pending[row, i] = arrived[row, i]
    learner.rewards[row, 0] = learner.rewards[row, 1]
    pending[row, 5] = 1
    ended = pending[row, 4] == 1
    if learner.rule == WATKINS:
        _update(learner, row, q_learning_target(0.0, 1.0, tables.values[0, pending[row, 2]]))
    elif ended or not control:
        _update(learner, row, expected_value(tables, 0, pending[row, 2]))
    if ended:
        _forget(learner, row)
        learner.old_value[row] = 0.0
    return OK


@compiled
def _forget(learner: Eligibility, row: int) -> None:
    for i in range(learner.active_count[row]):
        learner.trace[row, learner.active[row, i]] = 0.0
    learner.active_count[row] = 0


@compiled
def _update(learner: Eligibility, row: int, next_value: float) -> None:
    """Update by the pending transition; `next_value` is what it bootstraps with, unless it terminated."""
    tables, pending = learner.tables, learner.pending
    state = pending[row, 0]
    columns = tables.values.shape[2]
    column = pending[row, 1] if columns > 1 else 0
    next_value = 0.0 if pending[row, 3] == 1 else next_value
    value = tables.values[0, state, column]
    error = bootstrap_target(learner.rewards[row, 0], tables.discount, next_value) - value
    step_size = count_update(tables, 0, state, column)
    _mark(learner, row, state * columns + column, step_size)
    correction = value - learner.old_value[row] if learner.kind == _DUTCH else 0.0
    for i in range(learner.active_count[row]):
        entry = learner.active[row, i]
        tables.values[0, entry // columns, entry % columns] += (
            step_size * (error + correction) * learner.trace[row, entry]
        )
    tables.values[0, state, column] -= step_size * correction
    learner.old_value[row] = next_value
    pending[row, 5] = 0


@compiled
def _mark(learner: Eligibility, row: int, visited: int, step_size: float) -> None:
    """Let all traces decay by γλ and raise that of the entry visited."""
    trace, decay = learner.trace, learner.tables.discount * learner.lam
    is_new = True
    for i in range(learner.active_count[row]):
        entry = learner.active[row, i]
        trace[row, entry] *= decay
        is_new = is_new and entry != visited
    if is_new:
        learner.active[row, learner.active_count[row]] = visited
        learner.active_count[row] += 1
    if learner.kind == _ACCUMULATING:
        trace[row, visited] = accumulating_trace(trace[row, visited])
    elif learner.kind == _REPLACING:
        trace[row, visited] = replacing_trace(trace[row, visited])
    else:
        trace[row, visited] = dutch_trace(trace[row, visited], step_size)


family(Eligibility, choose=_choose, store=_store, learn=_learn, next_start=no_start)
