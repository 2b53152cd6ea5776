"""Policies given by name, as tables of probabilities [S, A]: what is evaluated, and what is followed off-policy."""

from __future__ import annotations

import re

import numpy as np
from gymnasium import spaces

from rlkit.errors import UsageError, did_you_mean
from rlkit.mdp import Floats64
from rlkit.tabular.indexing import TableIndex
from rlkit.tabular.planning import greedy_probabilities, optimal_action_values
from rlkit.types import Task

NAMES = ("uniform", "optimal", "always-K", "stick-K", "a run's folder")


def policy_table(name: str, task: Task, gamma: float) -> Floats64:
    """Probabilities [S, A] of the policy called `name`.

    Raises:
        UsageError: there is none of this name, or it does not fit the environment.
    """
    assert isinstance(task.action_space, spaces.Discrete)
    index, num_actions = TableIndex(task.observation_space), int(task.action_space.n)
    if name == "uniform":
        return np.full((index.num_states, num_actions), 1.0 / num_actions)
    if name == "optimal":
        if task.model is None:
            raise UsageError("the policy 'optimal' needs an environment whose transitions are known")
        return greedy_probabilities(optimal_action_values(task.model, gamma))
    numbered = re.fullmatch(r"(always|stick)-(-?\d+)", name)
    if numbered is None:
        return _of_run(name, task, index, num_actions)
    number = int(numbered.group(2))
    if numbered.group(1) == "always":
        return _always(number - int(task.action_space.start), index.num_states, num_actions, name)
    return _stick(number, task)


def _always(action: int, num_states: int, num_actions: int, name: str) -> Floats64:
    if not 0 <= action < num_actions:
        raise UsageError(f"the policy {name!r}: the environment has {num_actions} actions, and that is none of them")
    table = np.zeros((num_states, num_actions))
    table[:, action] = 1.0
    return table


def _stick(threshold: int, task: Task) -> Floats64:
    """Blackjack: stick (0) at sums from `threshold` on, else hit (1)."""
    shape = (32, 11, 2)
    if task.observation_space != spaces.Tuple(tuple(spaces.Discrete(n) for n in shape)):
        raise UsageError(f"the policy 'stick-{threshold}' is for Blackjack, not for {task.observation_space}")
    sticks = np.arange(np.prod(shape)) // (11 * 2) >= threshold
    return np.stack([sticks, ~sticks], axis=1).astype(np.float64)


def _of_run(name: str, task: Task, index: TableIndex, num_actions: int) -> Floats64:
    """The policy of a run, as it acts without exploration in every state."""
    assert isinstance(task.action_space, spaces.Discrete)
    if task.load_actor is None or ("/" not in name and "\\" not in name and did_you_mean(name, ("uniform", "optimal"))):
        raise UsageError(f"unknown policy {name!r}{did_you_mean(name, NAMES)}; allowed: {', '.join(NAMES)}")
    try:
        actor = task.load_actor(name)
    except UsageError as error:
        raise UsageError(f"unknown policy {name!r}; allowed: {', '.join(NAMES)}\n({error})") from error
    table = np.zeros((index.num_states, num_actions))
    rng = np.random.default_rng(0)
    for state in range(index.num_states):
        action, _, _ = actor.act(index.observation(state), actor.initial_carry(1), explore=False, rng=rng)
        table[state, int(action[0]) - int(task.action_space.start)] = 1.0
    return table
