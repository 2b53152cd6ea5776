"""Gradient Monte Carlo prediction (Sutton and Barto 2018, section 9.3): values move towards the returns of episodes.

An episode that a time limit cut is bootstrapped with the value of its last state (BOOTSTRAP), taken as if it had ended
there (END), or dropped (DROP), as in `rlkit.tabular.episodes`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.data.memory import check_budget
from rlkit.linear.features import slot_of_incoming
from rlkit.linear.weights import WEIGHTS, Linear, choose_action, count_update, expected_value, move, value
from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled, compiled_apart
from rlkit.tabular.learner import OK, TOO_LONG, family, no_start
from rlkit.tabular.rules import bootstrap_target

TRUNCATIONS = ("bootstrap", "end", "drop")
_BOOTSTRAP, _END, _DROP = 0, 1, 2


class LinearEpisodes(NamedTuple):
    """The episode of each environment so far, at most L steps.

    `observations` [N, L, O] and `rows` int64 [N, L], encoded again when the episode is over, because codes may be long;
    `rewards` [N, L]; `length` int64 [N]; `scratch_newest` int64 [N, 3]: next slot, terminated, ended.
    """

    linear: Linear
    truncation: int
    observations: Floats64
    rows: Integers
    rewards: Floats64
    length: Integers
    scratch_newest: Integers


def episodes(linear: Linear, truncation: int, num_envs: int, max_length: int) -> LinearEpisodes:
    """A learner from episodes of at most `max_length` steps. Raises MemoryBudgetError where these do not fit."""
    shape = (num_envs, max_length)
    needed = 8 * num_envs * max_length * (len(linear.features.low) + 2)
    check_budget(f"memory of episodes of {max_length:,} steps", needed, "Use a smaller --agent.max-episode-steps.")
    return LinearEpisodes(
        linear, truncation, np.zeros((*shape, len(linear.features.low))), np.zeros(shape, np.int64), np.zeros(shape),
        np.zeros(num_envs, np.int64), np.zeros((num_envs, 3), np.int64),
    )  # fmt: skip


@compiled
def _choose(learner: LinearEpisodes, state: int, is_first: bool, rng: np.random.Generator) -> int:
    return choose_action(learner.linear, state, rng)


@compiled
def _store(
    learner: LinearEpisodes,
    row: int,
    state: int,
    action: int,
    reward: float,
    next_state: int,
    terminated: bool,
    ended: bool,
) -> None:
    step, slots = learner.length[row], learner.linear.scratch
    learner.length[row] += 1
    newest = learner.scratch_newest
    newest[row, 0], newest[row, 1], newest[row, 2] = next_state, terminated, ended
    if step < learner.rows.shape[1]:  # else `learn` tells
        for i in range(slots.observations.shape[1]):
            learner.observations[row, step, i] = slots.observations[state, i]
        learner.rows[row, step] = slots.rows[state]
        learner.rewards[row, step] = reward


@compiled
def _learn(learner: LinearEpisodes, row: int, rng: np.random.Generator) -> int:
    if learner.length[row] > learner.rows.shape[1]:
        return TOO_LONG
    if learner.scratch_newest[row, 2] == 0:
        return OK
    truncated = learner.scratch_newest[row, 1] == 0
    if not (truncated and learner.truncation == _DROP):
        tail = 0.0
        if truncated and learner.truncation == _BOOTSTRAP:
            tail = expected_value(learner.linear, learner.scratch_newest[row, 0])
        _learn_from_returns(learner, row, tail)
    learner.length[row] = 0
    return OK


@compiled_apart
def _learn_from_returns(learner: LinearEpisodes, row: int, tail: float) -> None:
    """Rewards become returns, backwards; then every state learns from its own, in the order of the episode."""
    linear, rewards, slots = learner.linear, learner.rewards[row], learner.linear.scratch
    for step in range(learner.length[row] - 1, -1, -1):
        tail = bootstrap_target(rewards[step], linear.discount, tail)
        rewards[step] = tail
    for step in range(learner.length[row]):
        for i in range(len(slots.incoming)):
            slots.incoming[i] = learner.observations[row, step, i]
        slot = slot_of_incoming(linear.encoder, -1, learner.rows[row, step], -1)
        error = rewards[step] - value(linear, 0, slot)
        move(linear, 0, slot, count_update(linear) * error)


family(LinearEpisodes, choose=_choose, store=_store, learn=_learn, next_start=no_start, memory=WEIGHTS)
