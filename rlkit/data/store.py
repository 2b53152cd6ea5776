"""What a sampler needs of the data it samples: slots that come, go and can be gathered."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from rlkit.data.append_only import AppendOnly
from rlkit.types import Transition

if TYPE_CHECKING:
    from rlkit.data.replay import Batch

Indices: TypeAlias = npt.NDArray[np.int64]


class Change(NamedTuple):
    """Slots that can be sampled since the latest `add`, and those that no longer can; none is in both."""

    gained: Indices
    lost: Indices


class TransitionStore(AppendOnly, Protocol):
    """Transitions in numbered slots, each overwritten by a later one when the store is full.

    `ReplayBuffer` and `FrameReplay` are stores; `UniformReplay` and `PrioritizedReplay` sample from one.
    """

    @property
    def capacity(self) -> int:
        """Number of slots."""

    @property
    def memory_bytes(self) -> int:
        """Bytes used when full."""

    def __len__(self) -> int:
        """Transitions that can be sampled."""

    def describe(self) -> str:
        """A sentence with the size and the memory."""

    def add(self, step: Transition) -> None:
        """Append one step of all environments."""

    def last_change(self) -> Change:
        """What the latest `add` changed."""

    def slots_of(self, start: int, stop: int) -> Indices:
        """Slots of the rows [start, stop), all still held, in the order of their arrival."""

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """`batch_size` transitions, uniformly with replacement."""

    def gather(self, slots: Indices) -> Batch:
        """The transitions that begin in `slots`, which can all be sampled."""

    def restore(self, log: AppendOnly) -> None:
        """Take over what another store, or a checkpoint, holds; both must be laid out alike."""
