"""Where the states of known environments lie on a grid, and where their actions point, for pictures of values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

from rlkit.envs.contract import Env
from rlkit.envs.finite import FiniteMDPEnv
from rlkit.envs.grid_world import GridEnv
from rlkit.envs.pictures import GridShape
from rlkit.mdp import Integers

# Rows down and columns to the right of gymnasium's actions, in their order.
_FROZEN_LAKE = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up
_CLIFF_WALKING = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left


@dataclass(frozen=True, eq=False)
class GridView:
    """A rectangle of cells with a state in each, and what there is to see besides the values.

    `cell` int64 [S] is row · columns + column of each state; `walls` and `ended` bool [rows · columns] mark cells that
    no agent enters, and those where an episode is over. `letters` has a character for each cell, rows from the top, `.`
    where nothing is to be written. `arrows` int64 [A, 2] says how many rows down and columns to the right each action
    aims; None where actions are no moves.
    """

    rows: int
    columns: int
    cell: Integers
    walls: npt.NDArray[np.bool_]
    ended: npt.NDArray[np.bool_]
    letters: tuple[str, ...]
    arrows: Integers | None


@runtime_checkable
class _OnGrid(Protocol):
    def grid(self) -> GridShape:
        """Where the states lie."""


def grid_view(env: Env) -> GridView | None:
    """The grid of an environment that lies on one and whose states agents see; None for any other.

    >>> import gymnasium
    >>> grid_view(gymnasium.make("FrozenLake-v1")).letters
    ('S...', '.H.H', '...H', 'H..G')
    """
    inner: Any = env.unwrapped
    if not has_own_spaces(env):
        return None
    if isinstance(inner, FrozenLakeEnv):
        return _frozen_lake(inner)
    if isinstance(inner, CliffWalkingEnv):
        return _cliff_walking(inner)
    if isinstance(inner, FiniteMDPEnv) and isinstance(inner, _OnGrid) and inner.sees_state():
        return _own(inner, inner.grid())
    return None


def has_own_spaces(env: Env) -> bool:
    """Whether no wrapper changes what is observed, or the actions."""
    inner = env.unwrapped
    return bool(env.observation_space == inner.observation_space and env.action_space == inner.action_space)


def _own(inner: FiniteMDPEnv, shape: GridShape) -> GridView:
    ended = np.zeros(shape.rows * shape.columns, dtype=np.bool_)
    ended[shape.cell] = inner.transition_model().terminal_states()
    letters = tuple("".join(c if c.isalpha() else "." for c in row) for row in inner.picture().cells)
    moves = None
    if isinstance(inner, GridEnv):
        moves = np.array([(move.rows, move.columns) for move in inner._moves], dtype=np.int64)
    return GridView(shape.rows, shape.columns, shape.cell, shape.walls, ended & ~shape.walls, letters, moves)


def _frozen_lake(inner: Any) -> GridView:
    desc = inner.desc.astype("U1")
    rows, columns = desc.shape
    letters = tuple("".join(row).replace("F", ".") for row in desc)
    nowhere = np.zeros(rows * columns, dtype=np.bool_)
    ended = np.isin(desc.ravel(), ("H", "G"))
    return GridView(rows, columns, np.arange(rows * columns), nowhere, ended, letters, np.array(_FROZEN_LAKE))


def _cliff_walking(inner: Any) -> GridView:
    rows, columns = inner.shape
    walls: npt.NDArray[np.bool_] = inner._cliff.ravel()
    ended = np.arange(rows * columns) == rows * columns - 1
    bottom = "S" + "." * (columns - 2) + "G"
    letters = ("." * columns,) * (rows - 1) + (bottom,)
    return GridView(rows, columns, np.arange(rows * columns), walls, ended, letters, np.array(_CLIFF_WALKING))
