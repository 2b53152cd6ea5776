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

from rlkit.data.append_only import AppendOnly
from rlkit.data.memory import check_budget, megabytes
from rlkit.data.store import Change, Indices
from rlkit.data.tree import Path, leaf, leaf_name, leaf_spaces, nest
from rlkit.errors import CheckpointError, UnsupportedTaskError, UsageError
from rlkit.types import Array, Bools, Floats, Obs, Transition

_LOG = logging.getLogger(__name__)
_NO_SLOTS: Indices = np.zeros(0, np.int64)
_RESTORED_AT_ONCE = 65_536  # time steps; bounds the copies made while restoring


@dataclass(frozen=True, slots=True)
class Batch:
    """B transitions, each over k <= n_step steps; arrays are views of one gathered block.

    `reward` is the discounted sum of the k rewards, `next_obs` the true successor after them, `terminated` whether the
    episode terminated there, `discount` gamma^k, or zero where it did. `indices` are the slots drawn, for
    `Replay.update`; `weights` correct for drawing by priority and are None where all are 1.
    """

    obs: Obs  # [B, *O]
    action: Array  # [B, *A]
    reward: Floats  # [B]
    next_obs: Obs  # [B, *O]
    terminated: Bools  # [B]
    discount: Floats  # [B]
    action_mask: Bools | None = None  # [B, A], where an environment gave masks
    next_action_mask: Bools | None = None  # [B, A]
    indices: Indices | None = None  # [B]
    weights: Floats | None = None  # [B]


@dataclass(frozen=True, slots=True)
class _Column:
    """Where a leaf lies in a row: columns [start, stop) of the array of its storage type."""

    path: Path
    storage: str
    start: int
    stop: int
    shape: tuple[int, ...]

    def of(self, blocks: Mapping[str, Array]) -> Array:
        """The leaf's view [..., *shape] of rows [..., columns]."""
        view: Array = blocks[self.storage][..., self.start : self.stop]
        return view if len(self.shape) == 1 else view.reshape(*view.shape[:-1], *self.shape)


class ReplayBuffer:
    """The last `capacity` transitions of `num_envs` environments, sampled uniformly.

    Args:
        observation_space: Space of one observation; Dict and Tuple may be nested.
        action_space: Space of one action.
        capacity: Transitions to hold; rounded down to a multiple of `num_envs`.
        num_envs: Environments that step together.
        n_step: Steps in a sampled return. Cut at the end of an episode and at the newest transition held.
        gamma: Discount per step.
        action_mask_size: Width A of the masks of allowed actions to store; 0 for none.

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
        action_mask_size: int = 0,
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
        self._has_masks = False  # whether any was ever given
        self._observation_space = observation_space
        self._lay_out(observation_space, action_space, action_mask_size)
        check_budget(self.describe(), self.memory_bytes, "Choose a smaller buffer_size.")
        if capacity > num_envs * (n_step + 1):  # the smallest possible is for agents that only act
            _LOG.info("%s when full", self.describe())
        self._ring: dict[str, Array] = {
            name: np.zeros((self._length, num_envs, width), name) for name, width in self._widths.items()
        }
        self._flat = {name: ring.reshape(-1, ring.shape[-1]) for name, ring in self._ring.items()}
        # Views [length, N, *shape] of the ring, to write a step's leaves into.
        self._written_obs = [(column.path, column.of(self._ring)) for column in self._obs]
        self._written_action = self._action.of(self._ring)
        self._written_next_obs = [(column.path, column.of(self._ring)) for column in self._next_obs]

    def _lay_out(
        self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], action_mask_size: int
    ) -> None:
        """Give every leaf its columns."""
        self._widths: dict[str, int] = {}
        observation_leaves = leaf_spaces(observation_space)
        self._obs = [self._columns(path, space) for path, space in observation_leaves]
        self._action = self._columns((), action_of_one_leaf(action_space))
        self._next_obs = [self._columns(path, space) for path, space in observation_leaves]
        self._forbidden: list[_Column] = []  # actions in the observation and in the next one
        if action_mask_size:
            names = ("forbidden", "next_forbidden")
            self._forbidden = [self._reserve((name,), "bool", (action_mask_size,)) for name in names]
        self._ends = self._widths.get("float32", 0)  # first of reward, terminated, truncated, and of begins for n steps
        self._widths["float32"] = self._ends + (3 if self.n_step == 1 else 4)

    def _columns(self, path: Path, space: gymnasium.Space[Any]) -> _Column:
        if space.shape is None or space.dtype is None:
            raise UnsupportedTaskError(f"replay cannot store the leaf {leaf_name(path)!r}: {space} has no fixed shape")
        return self._reserve(path, storage_type(space.dtype), space.shape)

    def _reserve(self, path: Path, storage: str, shape: tuple[int, ...]) -> _Column:
        """The next columns of a storage type."""
        start = self._widths.get(storage, 0)
        stop = start + prod(shape)
        self._widths[storage] = stop
        return _Column(path, storage, start, stop, shape)

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
        require_rows(step, self.num_envs)
        time = self._total_added % self._length
        for path, written in self._written_obs:
            written[time] = leaf(step.obs, path)
        self._written_action[time] = step.action
        for path, written in self._written_next_obs:
            written[time] = leaf(step.next_obs, path)
        if self._forbidden:
            self._store_masks(time, step)
        ends = self._ring["float32"][time]
        ends[:, self._ends] = step.reward
        ends[:, self._ends + 1] = step.terminated
        ends[:, self._ends + 2] = step.truncated
        if self.n_step > 1:
            ends[:, self._ends + 3] = self._begins(time)
        self._total_added += 1

    def _store_masks(self, time: int, step: Transition) -> None:
        """Note what the masks forbid; without any the ring is left as it is, untouched memory that says nothing."""
        masks = (step.action_mask, step.next_action_mask)
        self._has_masks = self._has_masks or masks[0] is not None or masks[1] is not None
        if self._has_masks:
            for column, mask in zip(self._forbidden, masks, strict=True):
                column.of(self._ring)[time] = False if mask is None else ~mask

    def _begins(self, time: int) -> Bools:
        """Rows [N] that do not go on where the step before led: after an end, or where an episode was lost."""
        begins = np.full(self.num_envs, self._total_added == 0)
        for obs, next_obs in zip(self._obs, self._next_obs, strict=True):
            here, there = obs.of(self._ring)[time], next_obs.of(self._ring)[time - 1]
            begins |= (here != there).reshape(self.num_envs, -1).any(axis=1)
        return begins

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """`batch_size` transitions, uniformly with replacement from those held.

        Raises:
            UsageError: nothing has been added yet.
        """
        if not len(self):
            raise UsageError("the replay buffer is empty: add a transition before sampling")
        return self.gather(rng.integers(0, len(self), size=batch_size))

    def gather(self, slots: Indices) -> Batch:
        """The transitions that begin in `slots` [B], which must hold some."""
        blocks = {name: rows.take(slots, axis=0) for name, rows in self._flat.items()}  # [B, columns]
        if self.n_step == 1:
            return self._batch(slots, blocks, blocks, blocks["float32"][:, self._ends], np.float32(self.gamma))
        last, reward, discount = self._follow(slots)
        last_blocks = {name: rows.take(last, axis=0) for name, rows in self._flat.items()}
        return self._batch(slots, blocks, last_blocks, reward, discount)

    def _batch(
        self,
        slots: Indices,
        first: dict[str, Array],
        last: dict[str, Array],
        reward: Floats,
        discount: Floats | np.float32,
    ) -> Batch:
        """The batch whose returns begin in `slots`, gathered as `first`, and end in rows gathered as `last`."""
        terminated = last["float32"][:, self._ends + 1]
        return Batch(
            obs=nest(self._observation_space, (column.of(first) for column in self._obs)),
            action=self._action.of(first),
            reward=reward,
            next_obs=nest(self._observation_space, (column.of(last) for column in self._next_obs)),
            terminated=terminated != 0,
            discount=discount * (1 - terminated),
            action_mask=~self._forbidden[0].of(first) if self._has_masks else None,
            next_action_mask=~self._forbidden[1].of(last) if self._has_masks else None,
            indices=slots,
        )

    def _follow(self, first: Indices) -> tuple[Indices, Floats, Floats]:
        """Last row, discounted sum of rewards and gamma^k of the returns that begin in rows `first`, each [B]."""
        steps = np.arange(self.n_step)
        rows = (first[:, None] + self.num_envs * steps) % self.capacity  # [B, n]
        ends = self._flat["float32"][rows, self._ends :]  # [B, n, 4]: reward, terminated, truncated, begins
        newest = (self._total_added - 1) % self._length
        is_last = (ends[..., 1] + ends[..., 2] > 0) | (rows // self.num_envs == newest)
        is_last[:, :-1] |= ends[:, 1:, 3] > 0
        length, reward, discount = cut_returns(ends[..., 0], is_last, self.gamma)
        return rows[np.arange(len(first)), length], reward, discount

    def last_change(self) -> Change:
        """Slots that the latest `add` filled; those it overwrote are the same."""
        time = (self._total_added - 1) % self._length
        return Change(np.arange(time * self.num_envs, (time + 1) * self.num_envs), _NO_SLOTS)

    def slots_of(self, start: int, stop: int) -> Indices:
        """Slots of the time steps [start, stop), in the order of their arrival."""
        times = np.arange(start, stop) % self._length
        return (times[:, None] * self.num_envs + np.arange(self.num_envs)).reshape(-1)

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
        self._has_masks = any(column.of(self._flat).any() for column in self._forbidden)

    def _load_rows(self, start: int, rows: Mapping[str, Array]) -> None:
        """Put back what `rows` returned, its first time step being number `start`."""
        for name, ring in self._ring.items():
            if name not in rows or rows[name].shape[1:] != ring.shape[1:] or len(rows[name]) > self._length:
                found = {key: value.shape for key, value in rows.items()}
                wanted = {key: (f"<={self._length}", *value.shape[1:]) for key, value in self._ring.items()}
                raise CheckpointError(f"stored replay rows are {found}, this buffer needs {wanted}")
        for name, ring in self._ring.items():
            ring[np.arange(start, start + len(rows[name])) % self._length] = rows[name]


def cut_returns(rewards: Floats, is_last: Bools, gamma: float) -> tuple[Indices, Floats, Floats]:
    """Discounted sums of rewards [B, n] up to the first step that `is_last` [B, n], at most all n.

    Returns:
        Steps before the last one (k - 1), the sum of the k rewards, and gamma^k, each [B].
    """
    steps = np.arange(rewards.shape[1])
    is_last[:, -1] = True
    length = is_last.argmax(axis=1)
    discounts = (gamma**steps).astype(np.float32)
    weights = discounts * (steps <= length[:, None])
    return length, np.einsum("bn,bn->b", weights, rewards), discounts[length] * np.float32(gamma)


def require_rows(step: Transition, num_envs: int) -> None:
    """Check that `step` is of as many environments as the replay was made for.

    Raises:
        UsageError: it is not.
    """
    if len(step.reward) != num_envs:
        raise UsageError(
            f"the agent was made for {num_envs} environments and is given steps of {len(step.reward)}; "
            f"train it on num_envs={num_envs}, or make it with num_envs={len(step.reward)}"
        )


def action_of_one_leaf(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """`space`, unless it is nested, which raises UnsupportedTaskError."""
    (path, leaf_space), *more = leaf_spaces(space)
    if more or path:
        raise UnsupportedTaskError(f"replay stores actions of one leaf, the action space is {space}")
    return leaf_space


def storage_type(dtype: np.dtype[Any]) -> str:
    """Name of the type in which replay stores `dtype`: floats as float32, everything else as it is."""
    return "float32" if dtype.kind == "f" else dtype.name
