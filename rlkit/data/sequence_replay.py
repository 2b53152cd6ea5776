"""Replay of sequences: steps of one environment in a row, from the ring that holds single transitions."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import gymnasium
import numpy as np

from rlkit.data.replay import Batch, ReplayBuffer
from rlkit.data.store import Indices
from rlkit.data.tree import leaf
from rlkit.errors import UsageError
from rlkit.types import Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedSequences(Batch):
    """A batch of M · T transitions: M sequences one after the other, each of T steps in a row."""

    is_first: Bools  # [M, T] where an episode begins, and at the first step, before which nothing is known
    burn_in: int  # the first steps of every sequence, which only warm a memory


class SequenceReplay(ReplayBuffer):
    """A `ReplayBuffer` that samples sequences, uniformly among all that lie between the oldest and the newest step.

    Sequences may cross the ends of episodes. Nothing is stored besides the transitions.

    Args:
        observation_space: Space of one observation; Dict and Tuple may be nested.
        action_space: Space of one action.
        capacity: Transitions to hold; rounded down to a multiple of `num_envs`.
        num_envs: Environments that step together.
        gamma: Discount per step.
        action_mask_size: Width A of the masks of allowed actions to store; 0 for none.
        sequence_length: Steps of a sequence that are learned from.
        burn_in: Steps before them.

    Raises:
        MemoryBudgetError: the buffer would not fit when full.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        capacity: int,
        num_envs: int = 1,
        *,
        gamma: float = 0.99,
        action_mask_size: int = 0,
        sequence_length: int,
        burn_in: int = 0,
    ) -> None:
        super().__init__(
            observation_space, action_space, capacity, num_envs, gamma=gamma, action_mask_size=action_mask_size
        )
        self.sequence_length, self.burn_in = sequence_length, burn_in

    def sample(self, batch_size: int, rng: np.random.Generator) -> ReplayedSequences:
        """As many sequences as have `batch_size` steps to learn from, at least one.

        While fewer steps are held than a sequence has, sequences are as long as that; what they lack is burn-in first.

        Raises:
            UsageError: nothing has been added yet.
        """
        if not len(self):
            raise UsageError("the replay buffer is empty: add a transition before sampling")
        count = max(batch_size // self.sequence_length, 1)
        held = len(self) // self.num_envs
        steps = min(self.burn_in + self.sequence_length, held)
        begin = self.oldest_held + rng.integers(0, held - steps + 1, size=count)
        env = rng.integers(0, self.num_envs, size=count)
        time = (begin[:, None] + np.arange(steps)) % self._length
        return self._sequences(time * self.num_envs + env[:, None], max(steps - self.sequence_length, 0))

    def _sequences(self, slots: Indices, burn_in: int) -> ReplayedSequences:
        """The sequences in `slots` [M, T]."""
        batch = self.gather(slots.reshape(-1))
        parts = {field.name: getattr(batch, field.name) for field in fields(batch)}
        return ReplayedSequences(**parts, is_first=self._firsts(slots, batch), burn_in=burn_in)

    def _firsts(self, slots: Indices, batch: Batch) -> Bools:
        """Steps [M, T] that do not go on where the one before led: after an end, or where an episode was lost."""
        is_first = np.ones(slots.shape, np.bool_)
        ends = self._flat["float32"][slots[:, :-1], self._ends + 1 : self._ends + 3]  # terminated, truncated
        is_first[:, 1:] = (ends > 0).any(axis=2)
        for column in self._obs:
            here, there = (leaf(obs, column.path).reshape(*slots.shape, -1) for obs in (batch.obs, batch.next_obs))
            is_first[:, 1:] |= (here[:, 1:] != there[:, :-1]).any(axis=2)
        return is_first
