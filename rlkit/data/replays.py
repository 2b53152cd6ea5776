"""The replay an agent asks for: whole observations or single frames, drawn uniformly or by priority."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt

from rlkit.data.frames import FrameReplay
from rlkit.data.frames import smallest_capacity as smallest_frame_capacity
from rlkit.data.prioritized import PrioritizedReplay
from rlkit.data.replay import Batch, ReplayBuffer
from rlkit.data.store import Indices, TransitionStore
from rlkit.types import State, Transition


class Replay(Protocol):
    """What an agent needs of its replay, however it stores and draws."""

    def __len__(self) -> int:
        """Transitions that can be sampled; with stacked frames none yet after the very first step."""

    def describe(self) -> str:
        """A sentence with the size and the memory."""

    def add(self, step: Transition) -> None:
        """Append one step of all environments."""

    def sample(self, batch_size: int, rng: np.random.Generator, beta: float = 1.0) -> Batch:
        """`batch_size` transitions with their `indices`; `weights` where they are drawn by priority (β: how much)."""

    def update(self, indices: Indices, errors: npt.ArrayLike) -> None:
        """Tell the errors [B] of the latest batch, before the next `add`; nothing where drawing is uniform."""

    def stored(self) -> State:
        """For `training_state`: what `restore` takes, also after it has been to a checkpoint."""

    def restore(self, state: State) -> None:
        """Take over what `stored` returned."""


class UniformReplay:
    """Draws from a store uniformly."""

    def __init__(self, store: TransitionStore) -> None:
        self._store = store

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return len(self._store)

    def describe(self) -> str:
        """A sentence such as `replay: 1,000,000 transitions, 172 MB`."""
        return self._store.describe()

    def add(self, step: Transition) -> None:
        """Append one step of all environments."""
        self._store.add(step)

    def sample(self, batch_size: int, rng: np.random.Generator, beta: float = 1.0) -> Batch:
        """`batch_size` transitions with replacement; every weight is 1, so there are none and `beta` changes nothing.

        Raises:
            UsageError: nothing can be sampled yet.
        """
        return self._store.sample(batch_size, rng)

    def update(self, indices: Indices, errors: npt.ArrayLike) -> None:
        """Nothing: errors do not count."""

    def stored(self) -> State:
        """Rows as an append-only log."""
        return {"rows": self._store}

    def restore(self, state: State) -> None:
        """Take over what `stored` returned."""
        self._store.restore(state["rows"])


def make_replay(
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    capacity: int,
    num_envs: int = 1,
    *,
    n_step: int = 1,
    gamma: float = 0.99,
    frame_stack: int = 1,
    action_mask_size: int = 0,
    alpha: float = 0.0,
) -> Replay:
    """A replay for a task: each frame stored once where the task announces a `frame_stack`, else whole observations.

    Args:
        observation_space: Space of one observation.
        action_space: Space of one action.
        capacity: Transitions (frames, where they are stacked) to hold; 0 for the fewest possible, if only to act.
        num_envs: Environments that step together.
        n_step: Steps in a sampled return.
        gamma: Discount per step.
        frame_stack: Frames in an observation, `Task.frame_stack`.
        action_mask_size: Width of the masks of allowed actions to store; 0 for none.
        alpha: Exponent of the priorities; 0 draws uniformly.

    Raises:
        MemoryBudgetError: it would not fit when full.
        UnsupportedTaskError: a space cannot be stored.

    >>> from gymnasium.spaces import Box, Discrete
    >>> make_replay(Box(0, 255, (4, 84, 84), np.uint8), Discrete(6), 1000, frame_stack=4).describe()
    'replay: 1,000 frames, 7 MB'
    """
    store = make_store(
        observation_space,
        action_space,
        capacity,
        num_envs,
        n_step=n_step,
        gamma=gamma,
        frame_stack=frame_stack,
        action_mask_size=action_mask_size,
    )
    return PrioritizedReplay(store, alpha=alpha) if alpha else UniformReplay(store)


def make_store(
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    capacity: int,
    num_envs: int = 1,
    *,
    n_step: int = 1,
    gamma: float = 0.99,
    frame_stack: int = 1,
    action_mask_size: int = 0,
) -> TransitionStore:
    """What `make_replay` draws from, for the same arguments; it draws uniformly by itself."""
    if frame_stack > 1:
        return FrameReplay(
            observation_space,
            action_space,
            capacity or smallest_frame_capacity(num_envs, frame_stack, n_step),
            num_envs,
            frame_stack=frame_stack,
            n_step=n_step,
            gamma=gamma,
            action_mask_size=action_mask_size,
        )
    return ReplayBuffer(
        observation_space,
        action_space,
        capacity or num_envs * (n_step + 1),
        num_envs,
        n_step=n_step,
        gamma=gamma,
        action_mask_size=action_mask_size,
    )
