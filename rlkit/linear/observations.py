"""Observations as vectors of numbers, float64 [N, O]: what linear learners take."""

from __future__ import annotations

from math import prod
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import create_empty_array

from rlkit.data.tree import leaf, leaf_spaces
from rlkit.errors import UsageError
from rlkit.mdp import Floats64, Integers
from rlkit.spaces import observation_reason
from rlkit.types import Floats, Obs, Task

Space: TypeAlias = spaces.Space[Any]

MAX_ROWS = 100_000_000
"""Most observations that are gone through one by one: 0.8 GB of values."""
_ENDLESS, _ENDLESS_WHOLE = 1e30, 2.0**31 - 2.0
"""Bounds of a Box from here on are none: gymnasium writes 3.4e38 and more for none, or a whole type's last numbers."""


def linear_reason(task: Task) -> str | None:
    """None if observations are numbers and actions can be listed, else the reason and what to do."""
    if not isinstance(task.action_space, spaces.Discrete):
        remedy = (
            "--wrap discretize-action makes a grid of a Box; ddpg and sb3/sac take it as it is"
            if isinstance(task.action_space, spaces.Box)
            else "number the combinations in a wrapper of your own; sb3/ppo takes them as they are"
        )
        return f"linear action values need Discrete actions, not {task.action_space} ({remedy})"
    return observation_reason(task.observation_space)


class Observations:
    """The numbers of an observation: Boxes laid out flat, finite leaves as their digits.

    Attributes:
        low: least value of each of the O numbers, -inf where there is none.
        high: the greatest.
        is_whole: whether all are whole numbers of finite leaves.
        digits: int64 [O, 3], stride in the table's row, size and first value of each; no rows if a leaf is a Box, or if
            there are more than MAX_ROWS observations.
        num_rows: how many observations there are; 1 where they are not finite.

    >>> Observations(spaces.MultiDiscrete([3, 2]))(np.array([[2, 1]]))
    array([[2., 1.]])
    """

    def __init__(self, space: Space) -> None:
        self._leaves = leaf_spaces(space)
        bounds = [_bounds(child) for _, child in self._leaves]
        self.low, self.high = (np.concatenate([pair[side] for pair in bounds]) for side in (0, 1))
        self.is_whole = not any(isinstance(child, spaces.Box) for _, child in self._leaves)
        self.digits: Integers = np.zeros((0, 3), np.int64)
        sizes = [int(size) for size in self.high - self.low + 1] if self.is_whole else []
        if sizes and prod(sizes) <= MAX_ROWS:
            strides = np.cumprod([1, *sizes[:0:-1]])[::-1]  # the last digit varies fastest, as in `TableIndex`
            self.digits = np.stack([strides, sizes, self.low.astype(np.int64)], axis=1)
        self.num_rows = prod(int(size) for size in self.digits[:, 1])
        self._is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1

    @property
    def is_finite(self) -> bool:
        """Whether every observation has a row."""
        return len(self.digits) > 0

    def __call__(self, obs: Obs) -> Floats64:
        """Numbers [N, O] of N observations."""
        if self._is_vector and isinstance(obs, np.ndarray):
            return obs.astype(np.float64)
        if isinstance(obs, np.ndarray):
            return np.ascontiguousarray(obs.reshape(len(obs), -1), dtype=np.float64)
        parts = [np.asarray(leaf(obs, path)) for path, _ in self._leaves]
        return np.concatenate([part.reshape(len(part), -1).astype(np.float64) for part in parts], axis=1)

    def of_rows(self, rows: Integers) -> Floats64:
        """Numbers [N, O] of rows of the table."""
        return np.asarray(rows[:, None] // self.digits[:, 0] % self.digits[:, 1] + self.digits[:, 2], np.float64)


def _bounds(space: Space) -> tuple[Floats64, Floats64]:
    """Least and greatest of the numbers of one leaf."""
    if isinstance(space, spaces.Box):
        limit = _ENDLESS if np.issubdtype(space.dtype, np.floating) else _ENDLESS_WHOLE
        low, high = (each.reshape(-1).astype(np.float64) for each in (space.low, space.high))
        return np.where(low > -limit, low, -np.inf), np.where(high < limit, high, np.inf)
    if isinstance(space, spaces.Discrete):
        return np.array([float(space.start)]), np.array([float(space.start + space.n - 1)])
    if isinstance(space, spaces.MultiDiscrete):
        start = space.start.reshape(-1).astype(np.float64)
        return start, start + space.nvec.reshape(-1) - 1.0
    assert isinstance(space, spaces.MultiBinary)
    return np.zeros(prod(space.shape)), np.ones(prod(space.shape))


@runtime_checkable
class FeatureEncoder(Protocol):
    """An actor whose learned features others may use."""

    @property
    def feature_size(self) -> int:
        """D."""

    def features(self, obs: Obs) -> Floats:
        """Features float32 [N, D] of observations; changes nothing."""


class EncodedObservations(Observations):
    """The features of a trained run in the place of the observation's own numbers.

    Raises:
        UsageError: there is no such run, its agent offers no features, or takes other observations.
    """

    def __init__(self, task: Task, run: str | None) -> None:
        if run is None or task.load_actor is None:
            raise UsageError("--agent.features encoder needs --agent.encoder RUN, the folder of a run with features")
        actor = task.load_actor(run)
        if not isinstance(actor, FeatureEncoder):
            raise UsageError(f"the agent of {run} offers no features; take the run of an agent with a network, as dqn")
        self._actor = actor
        nothing: Any = create_empty_array(task.observation_space, 1)
        try:
            actor.features(nothing)
        except (IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:  # whatever its networks say
            raise UsageError(
                f"the encoder of {run} takes other observations than this environment's {task.observation_space}; "
                "train one on this environment"
            ) from error
        self.low, self.high = np.full(actor.feature_size, -np.inf), np.full(actor.feature_size, np.inf)
        self.digits, self.num_rows, self.is_whole = np.zeros((0, 3), np.int64), 1, False

    def __call__(self, obs: Obs) -> Floats64:
        """Features [N, D]."""
        return self._actor.features(obs).astype(np.float64)
