"""n-step methods: semi-gradient TD and Sarsa, Sutton and Barto (2018), sections 9.4 and 10.2.

As in the tables' n-step methods, an update that needs no next action comes before that action is chosen, and at a time
limit the return is bootstrapped with the expected value of the last state.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.data.memory import check_budget
from rlkit.linear.rules import sparse_dot
from rlkit.linear.weights import WEIGHTS, Linear, add, choose_action, count_update, expected_value, keep
from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, family, no_start
from rlkit.tabular.rules import bootstrap_target

SARSA, EXPECTED = 0, 1
"""How the return ends. Only SARSA of action values needs the next action, so only that updates a step later."""


class LinearNStep(NamedTuple):
    """The last n (SARSA: n + 1) transitions of each environment, in a ring of n + 1 places.

    `indices` int64, `values` [N·(n + 1), K] the codes of states; `actions` int64, `rewards` [N, n + 1]; `ring` int64
    [N, 2]: oldest place and how many; `scratch_newest` int64 [N, 3]: next slot, terminated, ended.
    """

    linear: Linear
    rule: int
    n: int
    indices: Integers
    values: Floats64
    actions: Integers
    rewards: Floats64
    ring: Integers
    scratch_newest: Integers


def n_step(linear: Linear, rule: int, n: int, num_envs: int) -> LinearNStep:
    """A learner by `rule` with returns of `n` steps. Raises MemoryBudgetError where their codes do not fit."""
    shape, codes = (num_envs, n + 1), (num_envs * (n + 1), linear.features.active)
    check_budget(f"memory of {n:,} steps", 16 * codes[0] * (codes[1] + 1), "Use a smaller --agent.n or fewer features.")
    return LinearNStep(
        linear, rule, n, np.zeros(codes, np.int64), np.zeros(codes), np.zeros(shape, np.int64), np.zeros(shape),
        np.zeros((num_envs, 2), np.int64), np.zeros((num_envs, 3), np.int64),
    )  # fmt: skip


@compiled
def _choose(learner: LinearNStep, state: int, is_first: bool, rng: np.random.Generator) -> int:
    return choose_action(learner.linear, state, rng)


@compiled
def _store(
    learner: LinearNStep,
    row: int,
    state: int,
    action: int,
    reward: float,
    next_state: int,
    terminated: bool,
    ended: bool,
) -> None:
    ring, places = learner.ring, learner.n + 1
    place = (ring[row, 0] + ring[row, 1]) % places
    keep(learner.linear, state, row * places + place, learner.indices, learner.values)
    learner.actions[row, place], learner.rewards[row, place] = action, reward
    ring[row, 1] += 1
    newest = learner.scratch_newest
    newest[row, 0], newest[row, 1], newest[row, 2] = next_state, terminated, ended


@compiled
def _learn(learner: LinearNStep, row: int, rng: np.random.Generator) -> int:
    ring, newest, linear = learner.ring, learner.scratch_newest, learner.linear
    if learner.rule == SARSA and linear.weights.shape[0] > 1:
        if ring[row, 1] == learner.n + 1:
            place = (ring[row, 0] + learner.n) % (learner.n + 1)
            _update_oldest(learner, row, learner.n, _value_of(learner, row, place))
    elif ring[row, 1] == learner.n:
        _update_oldest(learner, row, learner.n, _value_after(learner, row))
    if newest[row, 2] == 1:
        while ring[row, 1] > 0:
            _update_oldest(learner, row, ring[row, 1], _value_after(learner, row))
    return OK


@compiled
def _value_of(learner: LinearNStep, row: int, place: int) -> float:
    linear, code = learner.linear, row * (learner.n + 1) + place
    column = learner.actions[row, place] if linear.weights.shape[0] > 1 else 0
    return sparse_dot(linear.weights[column], learner.indices[code], learner.values[code])


@compiled
def _value_after(learner: LinearNStep, row: int) -> float:
    if learner.scratch_newest[row, 1] == 1:
        return 0.0
    return expected_value(learner.linear, learner.scratch_newest[row, 0])


@compiled
def _update_oldest(learner: LinearNStep, row: int, window: int, following: float) -> None:
    """Update the oldest stored value by the return over `window` steps, and drop it."""
    linear, places, oldest = learner.linear, learner.n + 1, learner.ring[row, 0]
    learner.ring[row, 0] = (oldest + 1) % places
    learner.ring[row, 1] -= 1
    target = following
    for i in range(window - 1, -1, -1):
        target = bootstrap_target(learner.rewards[row, (oldest + i) % places], linear.discount, target)
    error = target - _value_of(learner, row, oldest)
    column = learner.actions[row, oldest] if linear.weights.shape[0] > 1 else 0
    code = row * places + oldest
    add(linear, column, learner.indices[code], learner.values[code], count_update(linear) * error)


family(LinearNStep, choose=_choose, store=_store, learn=_learn, next_start=no_start, memory=WEIGHTS)
