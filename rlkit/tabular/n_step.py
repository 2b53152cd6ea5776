"""n-step methods (Sutton and Barto 2018, chapter 7): TD and Sarsa, expected Sarsa, tree backup, Q(σ).

Deviation: where the book picks A' before the update that does not need it (tree backup, Q(σ), expected Sarsa), the
update comes first here, as in the one-step methods of its chapter 6. At a time limit the return is bootstrapped with
the expected value of the last state, because no action follows there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, family, no_start
from rlkit.tabular.rules import bootstrap_target, importance_ratio, incremental_mean, q_sigma_return, tree_backup_return
from rlkit.tabular.tables import (
    Tables,
    behaviour_probability,
    choose_action,
    count_update,
    expected_value,
    target_probability,
)

SARSA, EXPECTED, TREE_BACKUP, Q_SIGMA = 0, 1, 2, 3
"""How the return is made. Only SARSA needs the next action, so only SARSA updates a step later."""


class NStep(NamedTuple):
    """The last n (SARSA: n + 1) transitions of each environment, in a ring.

    `states`, `actions` int64, `rewards`, `ratios` float64 [N, n + 1]; `ring` int64 [N, 2]: oldest entry and how many;
    `newest` int64 [N, 3]: next state, terminated, ended. `ratios` holds ρ = π/b where a target policy is given.
    """

    tables: Tables
    rule: int
    n: int
    sigma: float
    off_policy: bool
    states: Integers
    actions: Integers
    rewards: Floats64
    ratios: Floats64
    ring: Integers
    newest: Integers


def n_step(tables: Tables, rule: int, n: int, num_envs: int, sigma: float = 0.5) -> NStep:
    """A learner by `rule` with returns of `n` steps; off-policy where the tables have a target policy."""
    shape = (num_envs, n + 1)
    off_policy = len(tables.target) > 0 or tables.greedy_target
    return NStep(
        tables, rule, n, sigma, off_policy, np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape),
        np.ones(shape), np.zeros((num_envs, 2), np.int64), np.zeros((num_envs, 3), np.int64),
    )  # fmt: skip


@compiled
def _choose(learner: NStep, state: int, is_first: bool, rng: np.random.Generator) -> int:
    return choose_action(learner.tables, state, rng)


@compiled
def _store(
    learner: NStep, row: int, state: int, action: int, reward: float, next_state: int, terminated: bool, ended: bool
) -> None:
    ring = learner.ring
    slot = (ring[row, 0] + ring[row, 1]) % (learner.n + 1)
    learner.states[row, slot], learner.actions[row, slot] = state, action
    learner.rewards[row, slot] = reward
    if learner.off_policy:
        learner.ratios[row, slot] = importance_ratio(
            target_probability(learner.tables, state, action), behaviour_probability(learner.tables, state, action)
        )
    ring[row, 1] += 1
    newest = learner.newest
    newest[row, 0], newest[row, 1], newest[row, 2] = next_state, terminated, ended


@compiled
def _learn(learner: NStep, row: int, rng: np.random.Generator) -> int:
    ring, newest, tables = learner.ring, learner.newest, learner.tables
    if learner.rule == SARSA and tables.values.shape[2] > 1:
        if ring[row, 1] == learner.n + 1:
            slot = (ring[row, 0] + learner.n) % (learner.n + 1)
            following = tables.values[0, learner.states[row, slot], learner.actions[row, slot]]
            _update_oldest(learner, row, learner.n, following, learner.ratios[row, slot])
    elif ring[row, 1] == learner.n:
        _update_oldest(learner, row, learner.n, _value_after(learner, row), 1.0)
    if newest[row, 2] == 1:
        while ring[row, 1] > 0:
            _update_oldest(learner, row, ring[row, 1], _value_after(learner, row), 1.0)
    return OK


@compiled
def _value_after(learner: NStep, row: int) -> float:
    if learner.newest[row, 1] == 1:
        return 0.0
    return expected_value(learner.tables, 0, learner.newest[row, 0])


@compiled
def _update_oldest(learner: NStep, row: int, window: int, following: float, last_ratio: float) -> None:
    """Update the oldest stored entry by the return over `window` steps, and drop it."""
    tables = learner.tables
    oldest = learner.ring[row, 0]
    learner.ring[row, 0] = (oldest + 1) % (learner.n + 1)
    learner.ring[row, 1] -= 1
    target, ratio = following, last_ratio
    for i in range(window - 1, -1, -1):
        slot = (oldest + i) % (learner.n + 1)
        reward = learner.rewards[row, slot]
        if i == window - 1 or learner.rule == SARSA or learner.rule == EXPECTED:
            target = bootstrap_target(reward, tables.discount, target)
        else:
            target = _backed_up(learner, row, (slot + 1) % (learner.n + 1), reward, target)
        if i > 0 or tables.values.shape[2] == 1:
            ratio *= learner.ratios[row, slot]
    if learner.rule == TREE_BACKUP or learner.rule == Q_SIGMA:
        ratio = 1.0
    state = learner.states[row, oldest]
    column = learner.actions[row, oldest] if tables.values.shape[2] > 1 else 0
    step_size = count_update(tables, 0, state, column) * ratio
    tables.values[0, state, column] = incremental_mean(tables.values[0, state, column], target, step_size)


@compiled
def _backed_up(learner: NStep, row: int, following: int, reward: float, return_after: float) -> float:
    """One step back through the tree, from the entry in slot `following`."""
    tables = learner.tables
    state, action = learner.states[row, following], learner.actions[row, following]
    value, probability = expected_value(tables, 0, state), target_probability(tables, state, action)
    action_value = tables.values[0, state, action]
    if learner.rule == TREE_BACKUP:
        return tree_backup_return(reward, tables.discount, value, probability, action_value, return_after)
    weight = learner.sigma * learner.ratios[row, following] + (1.0 - learner.sigma) * probability
    return q_sigma_return(reward, tables.discount, value, weight, action_value, return_after)


family(NStep, choose=_choose, store=_store, learn=_learn, next_start=no_start)
