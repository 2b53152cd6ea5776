"""Replay buffer: a ring of transitions of N environments, stored as interleaved rows.

A row holds one whole transition, so a batch is one gather instead of one per field, and the fields are views of it.
There is one array per storage type: observations keep uint8 and integers, float64 becomes float32, and what every
transition has (reward, ends) sits with the float32 columns. n-step returns are formed when sampling, so the ring only
ever appends.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from rlkit.data.append_only import AppendOnly
from rlkit.data.memory import check_budget, megabytes
from rlkit.data.tree import Path, leaf, leaf_name, leaf_spaces, nest
from rlkit.errors import CheckpointError, UnsupportedTaskError, UsageError
from rlkit.types import Array, Bools, Floats, Obs, Transition

_LOG = logging.getLogger(__name__)
Indices = npt.NDArray[np.int64]
_RESTORED_AT_ONCE = 65_536  # time steps; bounds the copies made while restoring


@dataclass(frozen=True, slots=True)
class Batch:
    """B transitions, each over k <= n_step steps; arrays are views of one gathered block.

    `reward` is the discounted sum of the k rewards, `next_obs` the true successor after them, `terminated` whether the
    episode terminated there, `discount` gamma^k, or zero where it did.
    """

    obs: Obs  # [B, *O]
    action: Array  # [B, *A]
    reward: Floats  # [B]
    next_obs: Obs  # [B, *O]
    terminated: Bools  # [B]
    discount: Floats  # [B]


@dataclass(frozen=True, slots=True)
class _Column:
    """Where a leaf lies in a row: columns [start, stop) of the array of its storage type."""

    path: Path
    storage: str
    start: int
    stop: int
    shape: tuple[int, ...]

    def of(self, blocks: Mapping[str, Array]) -> Array:
        """The leaf's view [B, *shape] of gathered rows [B, columns]."""
        view: Array = blocks[self.storage][:, self.start : self.stop]
        return view if len(self.shape) == 1 else view.reshape(len(view), *self.shape)


class ReplayBuffer:
    """The last `capacity` transitions of `num_envs` environments, sampled uniformly.

    Args:
        observation_space: Space of one observation; Dict and Tuple may be nested.
        action_space: Space of one action.
        capacity: Transitions to hold; rounded down to a multiple of `num_envs`.
        num_envs: Environments that step together.
        n_step: Steps in a sampled return. Cut at the end of an episode and at the newest transition held.
        gamma: Discount per step.

    Raises:
        MemoryBudgetError: the buffer would not fit when full. Memory is claimed only as it fills.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        capacity: int,
        num_envs: int = 1,
        *,
        n_step: int = 1,
        gamma: float = 0.99,
    ) -> None:
        if n_step < 1:
            raise UsageError(f"n_step is {n_step}, it must be at least 1")
        if capacity < num_envs * (n_step + 1):
            raise UsageError(f"buffer_size is {capacity}, it must hold {n_step + 1} steps of {num_envs} environments")
        self.num_envs = num_envs
        self.n_step = n_step
        self.gamma = gamma
        self._length = capacity // num_envs  # time steps the ring holds
        self._total_added = 0
        self._observation_space = observation_space
        self._lay_out(observation_space, action_space)
        check_budget(self.describe(), self.memory_bytes, "Choose a smaller buffer_size.")
        if capacity > num_envs * (n_step + 1):  # the smallest possible is for agents that only act
            _LOG.info("%s when full", self.describe())
        self._ring: dict[str, Array] = {
            name: np.zeros((self._length, num_envs, width), name) for name, width in self._widths.items()
        }
        self._flat = {name: ring.reshape(-1, ring.shape[-1]) for name, ring in self._ring.items()}

    def _lay_out(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
        """Give every leaf its columns."""
        self._widths: dict[str, int] = {}
        observation_leaves = leaf_spaces(observation_space)
        self._obs = [self._columns(path, space) for path, space in observation_leaves]
        (action_path, action_leaf), *more = leaf_spaces(action_space)
        if more or action_path:
            raise UnsupportedTaskError(f"replay stores actions of one leaf, the action space is {action_space}")
        self._action = self._columns(action_path, action_leaf)
        self._next_obs = [self._columns(path, space) for path, space in observation_leaves]
        self._ends = self._widths.get("float32", 0)  # first of reward, terminated, truncated
        self._widths["float32"] = self._ends + 3

    def _columns(self, path: Path, space: gymnasium.Space[Any]) -> _Column:
        if space.shape is None or space.dtype is None:
            raise UnsupportedTaskError(f"replay cannot store the leaf {leaf_name(path)!r}: {space} has no fixed shape")
        storage = "float32" if space.dtype.kind == "f" else space.dtype.name
        start = self._widths.get(storage, 0)
        stop = start + prod(space.shape)
        self._widths[storage] = stop
        return _Column(path, storage, start, stop, space.shape)

    def __len__(self) -> int:
        """Transitions held."""
        return min(self._total_added, self._length) * self.num_envs

    @property
    def capacity(self) -> int:
        """Transitions held when full."""
        return self._length * self.num_envs

    @property
    def memory_bytes(self) -> int:
        """Bytes used when full."""
        row = sum(width * np.dtype(name).itemsize for name, width in self._widths.items())
        return row * self.capacity

    def describe(self) -> str:
        """A sentence such as `replay: 1,000,000 transitions, 172 MB`."""
        return f"replay: {self.capacity:,} transitions, {megabytes(self.memory_bytes)}"

    def add(self, step: Transition) -> None:
        """Append one step of all environments."""
        time = self._total_added % self._length
        now = {name: ring[time] for name, ring in self._ring.items()}  # [N, columns]
        for column in self._obs:
            now[column.storage][:, column.start : column.stop] = self._rows_of(step.obs, column)
        now[self._action.storage][:, self._action.start : self._action.stop] = step.action.reshape(self.num_envs, -1)
        for column in self._next_obs:
            now[column.storage][:, column.start : column.stop] = self._rows_of(step.next_obs, column)
        ends = now["float32"]
        ends[:, self._ends] = step.reward
        ends[:, self._ends + 1] = step.terminated
        ends[:, self._ends + 2] = step.truncated
        self._total_added += 1

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """`batch_size` transitions, uniformly with replacement from those held.

        Raises:
            UsageError: nothing has been added yet.
        """
        if not len(self):
            raise UsageError("the replay buffer is empty: add a transition before sampling")
        first = rng.integers(0, len(self), size=batch_size)
        blocks = {name: rows.take(first, axis=0) for name, rows in self._flat.items()}  # [B, columns]
        if self.n_step == 1:
            return self._batch(blocks, blocks, blocks["float32"][:, self._ends], np.float32(self.gamma))
        last, reward, discount = self._follow(first)
        last_blocks = {name: rows.take(last, axis=0) for name, rows in self._flat.items()}
        return self._batch(blocks, last_blocks, reward, discount)

    def _batch(
        self, first: dict[str, Array], last: dict[str, Array], reward: Floats, discount: Floats | np.float32
    ) -> Batch:
        """The batch whose returns begin in rows `first` and end in rows `last`."""
        terminated = last["float32"][:, self._ends + 1]
        return Batch(
            obs=nest(self._observation_space, (column.of(first) for column in self._obs)),
            action=self._action.of(first),
            reward=reward,
            next_obs=nest(self._observation_space, (column.of(last) for column in self._next_obs)),
            terminated=terminated != 0,
            discount=discount * (1 - terminated),
        )

    def _follow(self, first: Indices) -> tuple[Indices, Floats, Floats]:
        """Last row, discounted sum of rewards and gamma^k of the returns that begin in rows `first`, each [B]."""
        steps = np.arange(self.n_step)
        rows = (first[:, None] + self.num_envs * steps) % self.capacity  # [B, n]
        ends = self._flat["float32"][rows, self._ends :]  # [B, n, 3]: reward, terminated, truncated
        newest = (self._total_added - 1) % self._length
        is_last = (ends[..., 1] + ends[..., 2] > 0) | (rows // self.num_envs == newest)
        is_last[:, -1] = True
        length = is_last.argmax(axis=1)  # k - 1
        discounts = (self.gamma**steps).astype(np.float32)
        weights = discounts * (steps <= length[:, None])
        reward = np.einsum("bn,bn->b", weights, ends[..., 0])
        return rows[np.arange(len(first)), length], reward, discounts[length] * np.float32(self.gamma)

    def _rows_of(self, obs: Obs, column: _Column) -> Array:
        return np.asarray(leaf(obs, column.path)).reshape(self.num_envs, -1)

    @property
    def total_added(self) -> int:
        """Time steps ever added."""
        return self._total_added

    @property
    def oldest_held(self) -> int:
        """Number of the oldest time step still held."""
        return max(0, self._total_added - self._length)

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Copies [stop - start, N, columns] of the time steps [start, stop), by storage type."""
        if not self.oldest_held <= start <= stop <= self._total_added:
            held = f"[{self.oldest_held}, {self._total_added})"
            raise UsageError(f"time steps [{start}, {stop}) were asked for, {held} are held")
        times = np.arange(start, stop) % self._length
        return {name: ring[times] for name, ring in self._ring.items()}

    def restore(self, log: AppendOnly) -> None:
        """Take over what another store, or a checkpoint, holds; both must be laid out alike."""
        for start in range(log.oldest_held, log.total_added, _RESTORED_AT_ONCE):
            self._load_rows(start, log.rows(start, min(start + _RESTORED_AT_ONCE, log.total_added)))
        self._total_added = log.total_added

    def _load_rows(self, start: int, rows: Mapping[str, Array]) -> None:
        """Put back what `rows` returned, its first time step being number `start`."""
        for name, ring in self._ring.items():
            if name not in rows or rows[name].shape[1:] != ring.shape[1:] or len(rows[name]) > self._length:
                found = {key: value.shape for key, value in rows.items()}
                wanted = {key: (f"<={self._length}", *value.shape[1:]) for key, value in self._ring.items()}
                raise CheckpointError(f"stored replay rows are {found}, this buffer needs {wanted}")
        for name, ring in self._ring.items():
            ring[np.arange(start, start + len(rows[name])) % self._length] = rows[name]
