"""Windows of consecutive steps, drawn from a dataset of episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from rlkit.data.datasets import EpisodeDataset
from rlkit.data.memory import check_budget
from rlkit.types import Floats, Obs

Integers: TypeAlias = npt.NDArray[np.int64]


class Windows(NamedTuple):
    """Up to K consecutive steps of B episodes, those that are there first; the rest is padding."""

    to_go: npt.NDArray[np.float64]  # [B, K] rewards from each step to the end of its episode, added up
    observations: Floats  # [B, K, O]
    actions: Floats  # [B, K, A]
    first_step: Integers  # [B] number of the first one in its episode
    length: Integers  # [B] how many there are


class EpisodeSteps:
    """All steps of a dataset end to end, as networks take them.

    Args:
        dataset: With at least one episode.
        flat_observations: Observations [T, *O] of a dataset as [T, O].
        flat_actions: Actions [T, *A] as [T, A].

    Attributes:
        to_go: Rewards from each step to the end of its episode, added up, [S].
        observations: What was acted on, [S, O].
        actions: What was done, [S, A].

    Raises:
        MemoryBudgetError: they do not fit into memory.
    """

    def __init__(
        self,
        dataset: EpisodeDataset,
        flat_observations: Callable[[Obs], Floats],
        flat_actions: Callable[[Obs], Floats],
    ) -> None:
        first = dataset[0]
        width = flat_observations(first.observations).shape[1] + flat_actions(first.actions).shape[1]
        steps = int(dataset.lengths.sum())
        # twice, because parts and whole are both there for a moment
        check_budget(f"a dataset of {steps:,} steps", 2 * steps * (4 * width + 24), "Learn from fewer episodes.")
        parts = [
            (np.cumsum(e.rewards[::-1])[::-1], flat_observations(e.observations)[:-1], flat_actions(e.actions))
            for e in dataset
        ]
        self.to_go, self.observations, self.actions = (np.concatenate(part) for part in zip(*parts, strict=True))
        ends = np.cumsum(dataset.lengths)
        self._end = np.repeat(ends, dataset.lengths)  # step after the last of the same episode
        self._number = np.arange(steps) - np.repeat(ends - dataset.lengths, dataset.lengths)

    def __len__(self) -> int:
        return len(self.to_go)

    def sample(self, batch_size: int, length: int, rng: np.random.Generator) -> Windows:
        """`batch_size` windows of at most `length` steps, each step of the dataset as likely as any to begin one."""
        begin = rng.integers(len(self), size=batch_size)
        there = np.minimum(self._end[begin] - begin, length)
        index = begin[:, None] + np.minimum(np.arange(length), there[:, None] - 1)  # padded with the last step
        return Windows(self.to_go[index], self.observations[index], self.actions[index], self._number[begin], there)
