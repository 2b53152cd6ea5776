"""Finite observation spaces as rows of a table."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces

from rlkit.errors import UnsupportedTaskError
from rlkit.mdp import Integers
from rlkit.types import Array, Obs, Task

Space: TypeAlias = spaces.Space[Any]
MAX_ENTRIES = 20_000_000
"""Entries (states × actions) of the largest table: 160 MB for the values, as much again for the visit counts."""


def table_reason(task: Task) -> str | None:
    """None if observations and actions are few enough for a table, else the reason and what to do."""
    if not isinstance(task.action_space, spaces.Discrete):
        return (
            f"a table needs Discrete actions, not {task.action_space} (--wrap discretize-action makes a grid of a Box)"
        )
    continuous = _continuous_leaf(task.observation_space)
    if continuous is not None:
        return (
            f"its observations {continuous} are no finite set, a table needs one (--wrap discretize:bins=10 makes a "
            "Box tabular; or use function approximation, such as sb3/dqn)"
        )
    states = count_states(task.observation_space)
    entries = states * int(task.action_space.n)
    if entries > MAX_ENTRIES:
        return (
            f"a table of {states:,} states and {task.action_space.n} actions is too large (allowed: {MAX_ENTRIES:,} "
            "entries): use fewer bins in discretize, or function approximation, such as sb3/dqn"
        )
    return None


def _continuous_leaf(space: Space) -> Space | None:
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        return None
    for child in _children(space):
        found = _continuous_leaf(child)
        if found is not None:
            return found
    return None if _children(space) else space


def _children(space: Space) -> list[Space]:
    if isinstance(space, spaces.Dict):
        return list(space.spaces.values())
    return list(space.spaces) if isinstance(space, spaces.Tuple) else []


def count_states(space: Space) -> int:
    """Values that a finite space has. Raises UnsupportedTaskError for any other."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return math.prod(int(n) for n in space.nvec.ravel())
    if isinstance(space, spaces.MultiBinary):
        return 2 ** math.prod(int(n) for n in space.shape)
    children = _children(space)
    if not children:
        raise UnsupportedTaskError(f"{space} is no finite set")
    return math.prod(count_states(child) for child in children)


class TableIndex:
    """The row of each observation; the last part of a composite varies fastest.

    >>> TableIndex(spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2, start=5)))).rows((np.array([2]), np.array([6])))
    array([5])
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.num_states = count_states(space)
        self._is_plain = isinstance(space, spaces.Discrete) and space.start == 0 and space.dtype == np.int64
        self._strides: Integers | None = None
        if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
            nvec, start = _digits(space)
            self._strides = np.cumprod([1, *nvec[:0:-1]], dtype=np.int64)[::-1].copy()
            self._row_of_start = int(start @ self._strides)

    def rows(self, obs: Obs) -> Integers:
        """Rows int64 [N] of a batch of observations, which may be the very same array."""
        if self._is_plain and isinstance(obs, np.ndarray):
            return obs
        if self._strides is not None and isinstance(obs, np.ndarray):
            digits = obs.reshape(len(obs), -1)
            rows: Integers = digits.astype(np.int64, copy=False).dot(self._strides)
            return rows - self._row_of_start if self._row_of_start else rows
        return _rows(self._space, obs)

    def observation(self, row: int) -> Obs:
        """A batch of one observation that has this row: the inverse of `rows`."""
        return _observation(self._space, row)


def _rows(space: Space, obs: Any) -> Integers:
    if isinstance(space, spaces.Discrete):
        single: Integers = np.asarray(obs, dtype=np.int64) - int(space.start)
        return single
    if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
        nvec, start = _digits(space)
        digits = np.asarray(obs, dtype=np.int64).reshape(len(obs), -1) - start
        return _combined([(int(n), digits[:, i]) for i, n in enumerate(nvec)])
    parts = obs.values() if isinstance(obs, dict) else obs
    return _combined(
        [(count_states(child), _rows(child, part)) for child, part in zip(_children(space), parts, strict=True)]
    )


def _combined(digits: list[tuple[int, Integers]]) -> Integers:
    rows = np.zeros_like(digits[0][1])
    for count, digit in digits:
        rows = rows * count + digit
    return rows


def _digits(space: spaces.MultiDiscrete | spaces.MultiBinary) -> tuple[Array, Array]:
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec.ravel(), space.start.ravel()
    size = math.prod(int(n) for n in space.shape)
    return np.full(size, 2), np.zeros(size, np.int64)


def _observation(space: Space, row: int) -> Any:
    if isinstance(space, spaces.Discrete):
        return np.array([row + int(space.start)], dtype=space.dtype)
    if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
        nvec, start = _digits(space)
        values = np.array(np.unravel_index(row, tuple(int(n) for n in nvec))) + start
        return values.reshape(1, *space.shape).astype(space.dtype)
    children = _children(space)
    digits = np.unravel_index(row, tuple(count_states(child) for child in children))
    parts = [_observation(child, int(digit)) for child, digit in zip(children, digits, strict=True)]
    if isinstance(space, spaces.Dict):
        return dict(zip(space.spaces, parts, strict=True))
    return tuple(parts)
