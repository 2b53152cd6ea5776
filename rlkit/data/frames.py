"""Replay of stacked frames: each frame is stored once, and stacks are put together when they are sampled.

The store is a ring of entries, one for each frame, in the order of their arrival over all environments. An entry is a
step (the newest frame of its observation, the action and what came of it) or the final frame of an episode, which is a
successor only. `back` is the distance to the entry before it in the same episode, so entries never change once added;
the distances forward are kept beside and found again from `back` after a restore.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import prod
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlkit.data.append_only import AppendOnly
from rlkit.data.memory import check_budget, megabytes
from rlkit.data.replay import Batch, action_of_one_leaf, cut_returns, require_rows, storage_type
from rlkit.data.store import Change, Indices
from rlkit.errors import CheckpointError, EnvironmentFault, UnsupportedTaskError, UsageError
from rlkit.types import Array, Floats, Transition

_LOG = logging.getLogger(__name__)
_NO_SLOTS: Indices = np.zeros(0, np.int64)
_TERMINATED, _TRUNCATED, _FINAL = 1, 2, 4  # bits of an entry's `ends`
_RESTORED_AT_ONCE = 8_192  # entries; bounds the copies made while restoring (58 MB of 84x84 frames)
_CHECKED_STEPS = 100  # so many steps are checked to be stacks, and later one in as many: a check costs a copy


class FrameReplay:
    """Transitions over the last `capacity` frames of `num_envs` environments, sampled uniformly.

    Observations are stacks of `frame_stack` frames along the first axis, newest last, as
    `rlkit.envs.wrappers.FrameStack` makes them: a fresh episode repeats its first frame. Samples are those of a
    `ReplayBuffer`, but for two things. The newest transition of a running episode can be sampled one step later, when
    the frame that follows it has come. And the oldest ones cannot as soon as the first frame of their stack is
    overwritten.

    Args:
        observation_space: Box whose first axis is the stack.
        action_space: Space of one action.
        capacity: Frames to hold: one for each step, and one more for each episode.
        num_envs: Environments that step together.
        frame_stack: Frames in an observation.
        n_step: Steps in a sampled return. Cut at the end of an episode and at the newest complete transition.
        gamma: Discount per step.
        action_mask_size: Width A of the masks of allowed actions to store; 0 for none.

    Raises:
        MemoryBudgetError: the frames would not fit when full. Memory is claimed only as they come.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        capacity: int,
        num_envs: int = 1,
        *,
        frame_stack: int,
        n_step: int = 1,
        gamma: float = 0.99,
        action_mask_size: int = 0,
    ) -> None:
        if n_step < 1:
            raise UsageError(f"n_step is {n_step}, it must be at least 1")
        smallest = smallest_capacity(num_envs, frame_stack, n_step)
        if capacity < smallest:
            raise UsageError(
                f"buffer_size is {capacity}, it must be at least {smallest} to hold the frames of "
                f"{frame_stack + n_step} steps of {num_envs} environments"
            )
        self.num_envs = num_envs
        self.n_step = n_step
        self.gamma = gamma
        self.capacity = capacity
        self._stack = frame_stack
        self._total_added = 0
        self._has_masks = False  # whether any was ever given
        self._lay_out(observation_space, action_space, action_mask_size)
        check_budget(self.describe(), self.memory_bytes, "Choose a smaller buffer_size.")
        if capacity > smallest:  # the smallest possible is for agents that only act
            _LOG.info("%s when full", self.describe())
        self._ring = {name: np.zeros((capacity, *shape), dtype) for name, (shape, dtype) in self._layout.items()}
        self._forward = np.zeros(capacity, np.int32)  # distance to the next entry of the episode; 0: not there (yet)
        self._complete = np.zeros(capacity, np.bool_)  # steps whose stack and successor are held: may be sampled
        self._count = 0  # of the complete ones
        self._running = np.full(num_envs, -1)  # number of each environment's newest step; -1: its episode is over
        self._steps_seen = 0
        self._change = Change(_NO_SLOTS, _NO_SLOTS)

    def _lay_out(
        self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], action_mask_size: int
    ) -> None:
        """Shape and type of what an entry holds, by name."""
        shape = observation_space.shape
        if not isinstance(observation_space, spaces.Box) or not shape or shape[0] != self._stack:
            raise UnsupportedTaskError(
                f"frame replay needs a Box whose first axis is a stack of {self._stack} frames, the observations are "
                f"{observation_space}; store them whole (frame_stack=1)"
            )
        action = action_of_one_leaf(action_space)
        if action.shape is None or action.dtype is None:
            raise UnsupportedTaskError(f"replay cannot store the actions: {action} has no fixed shape")
        self._frame_shape = shape[1:]
        self._frame_type = storage_type(observation_space.dtype)
        self._layout: dict[str, tuple[tuple[int, ...], str]] = {
            "frame": ((prod(self._frame_shape),), self._frame_type),
            "action": (action.shape, storage_type(action.dtype)),
            "reward": ((), "float32"),
            "ends": ((), "uint8"),
            "back": ((), "int32"),
            "environment": ((), "int32"),
        }
        if action_mask_size:
            self._layout |= dict.fromkeys(("forbidden", "next_forbidden"), ((action_mask_size,), "bool"))

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return self._count

    @property
    def memory_bytes(self) -> int:
        """Bytes used when full."""
        entry = sum(prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self._layout.values())
        return (entry + 5) * self.capacity  # 5: the distance forward and whether the entry is complete

    def describe(self) -> str:
        """A sentence such as `replay: 1,000,000 frames, 7.1 GB`."""
        return f"replay: {self.capacity:,} frames, {megabytes(self.memory_bytes)}"

    def add(self, step: Transition) -> None:
        """Append one step of all environments.

        Raises:
            EnvironmentFault: an observation is no stack of the frames before it. The first 100 steps are checked, later
                one in 100.
        """
        require_rows(step, self.num_envs)
        obs, next_obs = self._stacks_of(step.obs), self._stacks_of(step.next_obs)
        self._begin_where_interrupted(obs)
        if self._steps_seen < _CHECKED_STEPS or self._steps_seen % _CHECKED_STEPS == 0:
            self._require_stacks(obs, next_obs)
        self._steps_seen += 1
        ended = np.flatnonzero(step.ended)
        steps = np.arange(self._total_added, self._total_added + self.num_envs)
        finals = np.arange(steps[-1] + 1, steps[-1] + 1 + len(ended))
        lost = self._make_room(self.num_envs + len(ended))

        gained = [self._append_steps(steps, obs[:, -1], step)]
        self._running = steps
        if ended.size:
            gained.append(self._append_finals(finals, ended, next_obs[ended, -1]))
            self._running[ended] = -1
        slots = np.concatenate(gained)
        self._complete[slots] = True
        self._count += len(slots)
        self._total_added += self.num_envs + len(ended)
        self._change = Change(slots, lost)

    def _stacks_of(self, obs: Any) -> Array:
        """Observations [N, k, *F] in the type they are stored in."""
        return np.asarray(obs).astype(self._frame_type, copy=False)

    def _append_steps(self, numbers: Indices, frames: Array, step: Transition) -> Indices:
        """Store one step of each environment; slots of the transitions that these frames complete."""
        slots = numbers % self.capacity
        ring = self._ring
        ring["action"][slots] = step.action
        ring["reward"][slots] = step.reward
        ring["ends"][slots] = step.terminated * _TERMINATED + step.truncated * _TRUNCATED
        if "forbidden" in ring:
            self._store_masks(slots, step)
        return self._link(numbers, np.arange(self.num_envs), frames)

    def _store_masks(self, slots: Indices, step: Transition) -> None:
        """Note what the masks forbid; without any the memory stays untouched."""
        masks = (step.action_mask, step.next_action_mask)
        self._has_masks = self._has_masks or masks[0] is not None or masks[1] is not None
        if self._has_masks:
            for name, mask in zip(("forbidden", "next_forbidden"), masks, strict=True):
                self._ring[name][slots] = False if mask is None else ~mask

    def _append_finals(self, numbers: Indices, ended: Indices, frames: Array) -> Indices:
        """Store the final frames of environments `ended`; slots of the transitions that they complete."""
        self._ring["ends"][numbers % self.capacity] = _FINAL
        return self._link(numbers, ended, frames)

    def _link(self, numbers: Indices, environments: Indices, frames: Array) -> Indices:
        """Store frames, each following its environment's running entry, if any; slots of those that were followed."""
        before = self._running[environments]
        follows = before >= 0
        distance = np.where(follows, numbers - before, 0)
        slots = numbers % self.capacity
        self._ring["frame"][slots] = frames.reshape(len(slots), -1)
        self._ring["back"][slots] = distance
        self._ring["environment"][slots] = environments
        followed = before[follows] % self.capacity
        self._forward[followed] = distance[follows]
        return followed

    def _make_room(self, count: int) -> Indices:
        """Give up the `count` oldest entries if their slots are needed; slots that can no longer be sampled."""
        oldest = max(0, self._total_added + count - self.capacity)  # once there is room
        if oldest == self.oldest_held:
            return _NO_SLOTS
        given_up = self.slots_of(self.oldest_held, oldest)
        lost, slots = [], given_up
        for _ in range(self._stack):  # the entry itself, and those whose stacks begin at it or before
            lost.append(slots[self._complete[slots]])
            self._complete[lost[-1]] = False
            slots = slots[self._forward[slots] > 0]
            slots = (slots + self._forward[slots]) % self.capacity
        self._forward[given_up] = 0
        self._count -= sum(map(len, lost))
        return np.concatenate(lost)

    def _require_stacks(self, obs: Array, next_obs: Array) -> None:
        """Raise EnvironmentFault unless every observation is made of the frames before it and one more."""
        wrong = (next_obs[:, :-1] != obs[:, 1:]) | (obs[:, :-1] != self._older_frames(obs))
        rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
        if rows.size:
            raise EnvironmentFault(
                f"environment {rows[0]}: its observation is not the last {self._stack} frames, newest last, of its "
                "episode (a fresh episode repeats its first frame), so frames cannot be stored once.\n"
                "Wrap it with frame-stack outermost, or with nothing that announces a frame stack."
            )

    def _older_frames(self, obs: Array) -> Array:
        """What the frames of `obs` but the newest have to be, [N, k - 1, *F]."""
        follows = (self._running >= 0).reshape(-1, *[1] * (obs.ndim - 1))
        stored = self._frames(self._history(np.maximum(self._running, 0) % self.capacity))
        return np.where(follows, stored[:, 1:], obs[:, -1:])

    def _begin_where_interrupted(self, obs: Array) -> None:
        """Begin a new episode in environments that do not go on: a resumed run lost it, or another one began."""
        goes_on = (obs[:, :-1] == self._older_frames(obs)).reshape(len(obs), -1).all(axis=1)
        self._running[~goes_on] = -1

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """`batch_size` transitions, uniformly with replacement from those that are complete.

        Raises:
            UsageError: there is none yet.
        """
        if not self._count:
            raise UsageError("the replay holds no complete transition yet: add more before sampling")
        held = min(self._total_added, self.capacity)
        slots = rng.integers(0, held, size=batch_size)
        while (redrawn := np.flatnonzero(~self._complete[slots])).size:
            slots[redrawn] = rng.integers(0, held, size=redrawn.size)
        return self.gather(slots)

    def gather(self, slots: Indices) -> Batch:
        """The transitions that begin in `slots` [B], which must all be complete."""
        last, reward, discount = self._follow(slots)
        history, successor = self._history(slots), (last + self._forward[last]) % self.capacity
        if self.n_step == 1:  # all but one of the next observation's frames are the observation's: gather them once
            frames = self._frames(np.concatenate((history, successor[:, None]), axis=1))  # [B, k + 1, *F]
            obs, next_obs = frames[:, :-1], frames[:, 1:]
        else:
            obs, next_obs = self._frames(history), self._frames(self._history(successor))
        terminated = self._ring["ends"][last] & _TERMINATED  # 0 or 1
        return Batch(
            obs=obs,
            action=self._ring["action"][slots],
            reward=reward,
            next_obs=next_obs,
            terminated=terminated != 0,
            discount=discount * (1 - terminated.astype(np.float32)),
            action_mask=~self._ring["forbidden"][slots] if self._has_masks else None,
            next_action_mask=~self._ring["next_forbidden"][last] if self._has_masks else None,
            indices=slots,
        )

    def _follow(self, first: Indices) -> tuple[Indices, Floats, Floats | np.float32]:
        """Last slot, discounted sum of rewards and gamma^k of the returns that begin in slots `first`, each [B]."""
        if self.n_step == 1:
            return first, self._ring["reward"][first], np.float32(self.gamma)
        slots = np.empty((len(first), self.n_step), np.int64)
        is_last = np.empty(slots.shape, np.bool_)
        slots[:, 0] = first
        for step in range(1, self.n_step):
            following = (slots[:, step - 1] + self._forward[slots[:, step - 1]]) % self.capacity
            slots[:, step] = following
            is_last[:, step - 1] = self._forward[following] == 0  # a final frame, or the newest, incomplete step
        length, reward, discount = cut_returns(self._ring["reward"][slots], is_last, self.gamma)
        return slots[np.arange(len(first)), length], reward, discount

    def _history(self, slots: Indices) -> Indices:
        """Slots [B, k] of the stacks whose newest frames are in `slots` [B]; an episode's first frame repeats."""
        stacks = np.empty((len(slots), self._stack), np.int64)
        stacks[:, -1] = slots
        for index in range(self._stack - 1, 0, -1):
            stacks[:, index - 1] = (stacks[:, index] - self._ring["back"][stacks[:, index]]) % self.capacity
        return stacks

    def _frames(self, slots: Indices) -> Array:
        """Frames [B, k, *F] of `slots` [B, k]."""
        frames = self._ring["frame"].take(slots.reshape(-1), axis=0)
        return frames.reshape(*slots.shape, *self._frame_shape)

    def last_change(self) -> Change:
        """Transitions that the latest `add` completed, and those that it cost."""
        return self._change

    def slots_of(self, start: int, stop: int) -> Indices:
        """Slots of the entries [start, stop)."""
        return np.arange(start, stop) % self.capacity

    @property
    def total_added(self) -> int:
        """Entries ever added."""
        return self._total_added

    @property
    def oldest_held(self) -> int:
        """Number of the oldest entry still held."""
        return max(0, self._total_added - self.capacity)

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Copies of the entries [start, stop) by name; a frame is flat."""
        if not self.oldest_held <= start <= stop <= self._total_added:
            held = f"[{self.oldest_held}, {self._total_added})"
            raise UsageError(f"entries [{start}, {stop}) were asked for, {held} are held")
        slots = self.slots_of(start, stop)
        return {name: ring[slots] for name, ring in self._ring.items()}

    def restore(self, log: AppendOnly) -> None:
        """Take over what another store, or a checkpoint, holds; both must be laid out alike.

        Environments that then start anew instead of going on are noticed by their next observation.
        """
        if log.oldest_held != max(0, log.total_added - self.capacity):
            held = log.total_added - log.oldest_held
            raise CheckpointError(f"the stored replay holds {held} of {log.total_added} frames, not {self.capacity}")
        for start in range(log.oldest_held, log.total_added, _RESTORED_AT_ONCE):
            self._load_rows(start, log.rows(start, min(start + _RESTORED_AT_ONCE, log.total_added)))
        self._total_added = log.total_added
        self._has_masks = any(ring.any() for name, ring in self._ring.items() if "forbidden" in name)
        self._find_links()

    def _load_rows(self, start: int, rows: Mapping[str, Array]) -> None:
        found = {name: (array.shape[1:], array.dtype.name) for name, array in rows.items()}
        if found != self._layout:
            raise CheckpointError(f"stored replay entries are {found}, this replay needs {self._layout}")
        slots = self.slots_of(start, start + len(rows["frame"]))
        for name, ring in self._ring.items():
            ring[slots] = rows[name]

    def _find_links(self) -> None:
        """Everything kept beside the entries, from the entries."""
        numbers = np.arange(self.oldest_held, self._total_added)
        slots = numbers % self.capacity
        back, environment = self._ring["back"][slots], self._ring["environment"][slots]
        self._forward[:] = 0
        follows = (back > 0) & (numbers - back >= self.oldest_held)
        self._forward[(numbers - back)[follows] % self.capacity] = back[follows]

        oldest = numbers.copy()  # of each stack's frames
        for _ in range(self._stack - 1):
            oldest -= self._ring["back"][oldest % self.capacity]  # below the oldest held anything may lie: it stays so
        self._complete[:] = False
        self._complete[slots] = (self._forward[slots] > 0) & (oldest >= self.oldest_held)
        self._count = int(self._complete.sum())

        self._running = np.full(self.num_envs, -1)
        self._running[environment] = numbers  # of several for one environment the last counts
        self._running[self._ring["ends"][self._running % self.capacity] == _FINAL] = -1


def smallest_capacity(num_envs: int, frame_stack: int, n_step: int) -> int:
    """Entries that a `FrameReplay` must hold: an entry's stack is there when the entry is completed.

    Every step may be an episode of its own, which takes two entries.
    """
    return 2 * num_envs * (frame_stack + n_step)
