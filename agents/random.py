"""Uniform random actions: the baseline every learning curve starts from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from rlkit.config import AgentConfig
from rlkit.types import Array, Bools, Carry, Metrics, Obs, State, Task, Transition


class RandomConfig(AgentConfig):
    """A random agent has nothing to choose."""


class RandomAgent:
    """Draws every action uniformly; unbounded dimensions of a Box from a standard normal. Learns nothing."""

    Config = RandomConfig

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for Box, Discrete, MultiDiscrete and MultiBinary actions, else the reason."""
        if isinstance(task.action_space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
            return None
        return f"random cannot draw from {task.action_space}"

    def __init__(self, config: RandomConfig, task: Task) -> None:
        self._space = task.action_space

    def initial_carry(self, num_envs: int) -> Carry:
        """Nothing to remember."""
        return ()

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Nothing to forget."""
        return carry

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """Uniform actions [N, *A]; random also without exploration, there is no better guess."""
        return uniform_action(self._space, _rows(obs), rng, action_mask), carry, {}

    def observe(self, step: Transition, carry: Carry) -> None:
        """Nothing to store."""

    def update(self) -> Metrics:
        """Nothing to learn."""
        return {}

    def policy_state(self) -> State:
        """Nothing to save."""
        return {}

    def load_policy_state(self, state: State) -> None:
        """Nothing to restore."""

    def training_state(self) -> State:
        """Nothing to save."""
        return {}

    def load_training_state(self, state: State) -> None:
        """Nothing to restore."""


def uniform_action(
    space: spaces.Space[Array], count: int, rng: np.random.Generator, action_mask: Bools | None = None
) -> Array:
    """`count` actions [count, *A] drawn uniformly from a Box, Discrete, MultiDiscrete or MultiBinary space.

    `action_mask` [count, A] (MultiDiscrete: [count, sum(nvec)]) marks what may be drawn; at least one a row.
    """
    if isinstance(space, spaces.Box):
        return _uniform_box(space, count, rng)
    if isinstance(space, spaces.Discrete):
        choice: Array = space.start + _uniform_choice(int(space.n), count, rng, action_mask)
        return choice
    if isinstance(space, spaces.MultiDiscrete):
        sizes = space.nvec.ravel()
        starts = np.cumsum([0, *sizes])
        masks = [None if action_mask is None else action_mask[:, a:b] for a, b in itertools.pairwise(starts)]
        columns = [_uniform_choice(int(n), count, rng, mask) for n, mask in zip(sizes, masks, strict=True)]
        choices: Array = space.start + np.stack(columns, axis=1).reshape(count, *space.shape)
        return choices
    return rng.integers(0, 2, size=(count, *(space.shape or ())), dtype=np.int8)


def _uniform_box(space: spaces.Box, count: int, rng: np.random.Generator) -> Array:
    shape = (count, *space.shape)
    bounded = space.bounded_below & space.bounded_above
    low = np.where(bounded, space.low, 0.0).astype(np.float64)
    high = np.where(bounded, space.high, 1.0).astype(np.float64)
    if np.issubdtype(space.dtype, np.integer):
        return rng.integers(low.astype(np.int64), high.astype(np.int64), size=shape, endpoint=True).astype(space.dtype)
    drawn = low + (high - low) * rng.random(shape)
    if not bounded.all():
        normal = np.clip(rng.standard_normal(shape), space.low, space.high)
        drawn = np.where(bounded, drawn, normal)
    return drawn.astype(space.dtype)


def _uniform_choice(size: int, count: int, rng: np.random.Generator, mask: Bools | None) -> Array:
    if mask is None:
        return rng.integers(size, size=count)
    # the k-th allowed action of each row, k uniform below the number allowed
    chosen = (rng.random(count) * mask.sum(axis=1)).astype(np.int64)
    first: Array = np.argmax(mask.cumsum(axis=1) > chosen[:, None], axis=1)
    return first


def _rows(obs: Obs) -> int:
    while not isinstance(obs, np.ndarray):
        obs = next(iter(obs.values())) if isinstance(obs, dict) else obs[0]
    return len(obs)
