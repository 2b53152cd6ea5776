"""Clips of successive observations, for learning without rewards: what is drawn, in which order, and from where on.

A clip never crosses the end of an episode. Every place at which one can begin is drawn once an epoch, in an order that
depends on the seed and the epoch alone, so that a sampler's state is two numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rlkit.errors import UsageError
from rlkit.types import Array, Bools, State

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recording:
    """M observations in the order in which they were made.

    Attributes:
        observations: [M, *O].
        episode: Number of each one's episode, int64 [M], never falling; pictures without order have one each.
        actions: What was done after each, [M, *A]; zeros after an episode's last. None where nobody acted.
        labels: What is known of each besides, [M] by name.
    """

    observations: Array
    episode: Integers
    actions: Array | None = None
    labels: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.observations)

    def begins(self, length: int) -> Integers:
        """Places at which clips of `length` observations of one episode begin, int64 [K]."""
        if length > len(self):
            return np.zeros(0, np.int64)
        last = len(self) - length + 1
        return np.flatnonzero(self.episode[:last] == self.episode[length - 1 :]).astype(np.int64)

    def chosen(self, rows: Bools) -> Recording:
        """The observations at `rows` (bool [M], whole episodes where clips are to be drawn)."""
        actions = None if self.actions is None else self.actions[rows]
        labels = {name: values[rows] for name, values in self.labels.items()}
        return Recording(self.observations[rows], self.episode[rows], actions, labels)


@dataclass(frozen=True, slots=True)
class Clips:
    """B clips of T successive observations."""

    observations: Array  # [B, T, *O]
    index: Integers  # [B], place of the first in its recording
    actions: Array | None  # [B, T - 1, *A], between them


class ClipSampler:
    """Batches of clips without end, epoch after epoch; the last ones of an epoch that fill no batch are left out.

    Args:
        recording: What is drawn from.
        length: Observations in a clip.
        batch_size: Clips in a batch.
        seed: Of the order.
        rank: Of `ranks` processes that share each batch, each taking its part of the same draw.
        ranks: How many; they divide `batch_size`.

    Raises:
        UsageError: there are fewer clips than a batch needs, or the ranks do not divide it.
    """

    def __init__(
        self, recording: Recording, length: int, batch_size: int, seed: int, *, rank: int = 0, ranks: int = 1
    ) -> None:
        self._recording, self._length, self._seed = recording, length, seed
        self._begins = recording.begins(length)
        if len(self._begins) < batch_size:
            raise UsageError(
                f"{len(recording):,} observations hold {len(self._begins):,} clips of {length} within one episode, a "
                f"batch needs {batch_size}: record more frames, or choose a smaller batch size"
            )
        if batch_size % ranks:
            raise UsageError(f"a batch of {batch_size} cannot be shared by {ranks} processes: choose a multiple")
        self._batch_size, self._share = batch_size, slice(rank * batch_size // ranks, (rank + 1) * batch_size // ranks)
        self.batches_an_epoch = len(self._begins) // batch_size
        self._number = 0  # batches drawn so far
        self._order: tuple[int, Integers] = (-1, self._begins)  # epoch, and its order

    def __iter__(self) -> ClipSampler:
        return self

    def __next__(self) -> Clips:
        epoch, place = divmod(self._number, self.batches_an_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self._seed, epoch]).permutation(self._begins))
        self._number += 1
        first = place * self._batch_size
        return self.clips(self._order[1][first : first + self._batch_size][self._share])

    def clips(self, begins: Integers) -> Clips:
        """The clips [B] that begin there."""
        steps = begins[:, None] + np.arange(self._length)
        actions = self._recording.actions
        return Clips(
            self._recording.observations[steps], begins, None if actions is None else actions[steps[:, :-1]]
        )  # fmt: skip

    def state(self) -> State:
        """Batches drawn so far."""
        return {"number": self._number}

    def load_state(self, state: State) -> None:
        """Go on after `state`."""
        self._number = state["number"]
