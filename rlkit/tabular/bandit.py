"""Bandit methods (Sutton and Barto 2018, chapter 2): ε-greedy, optimistic, upper confidence bound, gradient.

An episode is a problem: when it ends, all that was learned about its arms is forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, family, no_start
from rlkit.tabular.rules import drawn_action, incremental_mean, softmax_probabilities, upper_confidence_bound
from rlkit.tabular.tables import Tables, choose_action, count_update

EPSILON_GREEDY, UCB, GRADIENT = 0, 1, 2


class Bandit(NamedTuple):
    """One problem so far.

    `tables.values` holds estimates, or preferences for GRADIENT; `initial` is what they begin with.

    `confidence` is UCB's c; `uses_baseline` GRADIENT's. `baseline` [S] and `pulls` int64 [S] are mean reward and
    number of steps in each state; `transition` int64 [3] state, action, ended; `reward` [1]; `scratch` [A].
    """

    tables: Tables
    rule: int
    initial: float
    confidence: float
    uses_baseline: bool
    baseline: Floats64
    pulls: Integers
    transition: Integers
    reward: Floats64
    scratch: Floats64


def bandit(tables: Tables, rule: int, initial: float, *, confidence: float = 2.0, uses_baseline: bool = True) -> Bandit:
    """A learner by `rule` for one environment."""
    _, states, actions = tables.values.shape
    tables.values[:] = initial
    return Bandit(
        tables, rule, initial, confidence, uses_baseline, np.zeros(states), np.zeros(states, np.int64),
        np.zeros(3, np.int64), np.zeros(1), np.zeros(actions),
    )  # fmt: skip


@compiled
def _choose(learner: Bandit, state: int, is_first: bool, rng: np.random.Generator) -> int:
    tables, scratch = learner.tables, learner.scratch
    if learner.rule == EPSILON_GREEDY:
        return choose_action(tables, state, rng)
    if learner.rule == GRADIENT:
        softmax_probabilities(tables.values[0, state], scratch)
        return drawn_action(scratch, rng.random())
    ties, best = 0, 0.0
    for action in range(tables.num_actions):
        visits, pulls = tables.visits[state, action], learner.pulls[state] + 1
        scratch[action] = upper_confidence_bound(tables.values[0, state, action], visits, pulls, learner.confidence)
        if ties == 0 or scratch[action] > best:
            best, ties = scratch[action], 1
        elif scratch[action] == best:
            ties += 1
    nth = int(rng.random() * ties)
    for action in range(tables.num_actions):
        if scratch[action] == best:
            if nth == 0:
                return action
            nth -= 1
    return 0


@compiled
def _store(
    learner: Bandit, row: int, state: int, action: int, reward: float, next_state: int, terminated: bool, ended: bool
) -> None:
    learner.transition[0], learner.transition[1], learner.transition[2] = state, action, ended
    learner.reward[0] = reward


@compiled
def _learn(learner: Bandit, row: int, rng: np.random.Generator) -> int:
    tables = learner.tables
    state, action, reward = learner.transition[0], learner.transition[1], learner.reward[0]
    step_size = count_update(tables, 0, state, action)
    if learner.rule == GRADIENT:
        _ascend(learner, state, action, reward, step_size)
    else:
        tables.values[0, state, action] = incremental_mean(tables.values[0, state, action], reward, step_size)
    learner.pulls[state] += 1
    if learner.transition[2] == 1:
        tables.values[:] = learner.initial
        tables.visits[:] = 0
        learner.pulls[:] = 0
        learner.baseline[:] = 0.0
    return OK


@compiled
def _ascend(learner: Bandit, state: int, action: int, reward: float, step_size: float) -> None:
    """H(a) ← H(a) + α (R - R̄)(1{a = A} - π(a)), equation 2.12; R̄ includes this reward, as in the book's footnote."""
    tables, scratch = learner.tables, learner.scratch
    baseline = 0.0
    if learner.uses_baseline:
        pulls = learner.pulls[state] + 1
        learner.baseline[state] = incremental_mean(learner.baseline[state], reward, 1.0 / pulls)
        baseline = learner.baseline[state]
    softmax_probabilities(tables.values[0, state], scratch)
    for other in range(tables.num_actions):
        score = (1.0 if other == action else 0.0) - scratch[other]
        tables.values[0, state, other] += step_size * (reward - baseline) * score


family(Bandit, choose=_choose, store=_store, learn=_learn, next_start=no_start)
